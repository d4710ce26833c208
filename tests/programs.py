"""Programs of ours in processes of their own, and what they print, line by line, with a limit to every wait."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

LIMIT_S = 90.0
LAST = None


class Program:
    """A started process whose one output pipe is read all the time, so that it never waits for us."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._new: SimpleQueue[str | None] = SimpleQueue()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._new.put(line.rstrip())
        self._new.put(LAST)

    def line(self, part: str, limit_s: float = LIMIT_S) -> str:
        """Return the next line that contains ``part``; fail with all lines when none comes."""
        try:
            while (line := self._new.get(timeout=limit_s)) is not LAST:
                self.lines.append(line)
                if part in line:
                    return line
        except Empty:
            raise AssertionError(f"no line with {part!r} within {limit_s} s of:\n{self.text}") from None
        raise AssertionError(f"ended without a line with {part!r}:\n{self.text}")

    def end(self, limit_s: float = LIMIT_S) -> int:
        """Return the exit code once the program has ended by itself and all its lines are read."""
        code = self.process.wait(limit_s)
        while (line := self._new.get(timeout=limit_s)) is not LAST:
            self.lines.append(line)
        return code

    @property
    def text(self) -> str:
        """Return what it printed, as far as it was read."""
        return "\n".join(self.lines)

    def printed(self) -> str:
        """Return all that it printed so far; these lines are not found by `line` any more."""
        while not self._new.empty():
            if (line := self._new.get()) is LAST:
                self._new.put(LAST)
                break
            self.lines.append(line)
        return self.text

    def endpoint(self, arguments: str = "publishes on ") -> str:
        """Return where a daemon with JSON log lines says that it publishes."""
        message: str = self.fact(arguments)["message"]
        return message.split(arguments)[1].split(",", maxsplit=1)[0]

    def read_to_the_end(self) -> None:
        """Return once all that it printed was read; the process has ended."""
        self._reader.join(LIMIT_S)

    def fact(self, part: str) -> dict[str, Any]:
        """Return the next JSON log line that contains ``part``."""
        fact: dict[str, Any] = json.loads(self.line(part))
        return fact


def piped(words: Sequence[str], env: Mapping[str, str], cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start a program with its output and its errors in one pipe."""
    return subprocess.Popen(
        words,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )


@contextmanager
def program(process: subprocess.Popen[str]) -> Iterator[Program]:
    """Give the program; kill it if it is still there at the end."""
    made = Program(process)
    try:
        yield made
    finally:
        process.kill()
        process.wait()
        made.read_to_the_end()
        if process.stdout is not None:
            process.stdout.close()
