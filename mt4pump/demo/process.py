"""One child process: started on a leash, its log read all the time, ended within a bound."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread

from mt4pump.demo.programs import Part
from mt4pump.log import one_line

LINES = 200
"""Log lines remembered of each child."""
END_LIMIT_S = 5.0
KILL_LIMIT_S = 2.0


class Child:
    """A running part. ``lines`` are the last ones of its log; ``hear`` is called with each, on a thread of its own."""

    def __init__(
        self, part: Part, folder: Path, environment: Mapping[str, str], hear: Callable[[str, str], None]
    ) -> None:
        self.part = part
        self.lines: deque[str] = deque(maxlen=LINES)
        self._hear = hear
        self._process = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, "-m", "mt4pump.process.parent_watch", part.module, *part.words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            encoding="utf-8",
            errors="replace",
            # Ctrl-C is for us alone: the consumers are to end before the daemon, and quietly.
            start_new_session=sys.platform != "win32",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._reader = Thread(target=self._read, name=f"log of {part.name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Return its exit code; None while it runs."""
        return self._process.poll()

    def ask_to_end(self) -> None:
        """Let go of the leash."""
        if self._process.stdin is not None:
            with suppress(OSError):  # it is gone already
                self._process.stdin.close()

    def end(self, limit_s: float = END_LIMIT_S) -> bool:
        """Ask it to end and wait; kill it when that takes longer. Return whether it ended by itself."""
        self.ask_to_end()
        by_itself = True
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            by_itself = False
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(KILL_LIMIT_S)
        self._reader.join(KILL_LIMIT_S)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()
        return by_itself

    def drain(self) -> None:
        """Wait, within a bound, until all that it wrote before its end is in ``lines``."""
        self._reader.join(KILL_LIMIT_S)

    def _read(self) -> None:
        if self._process.stdout is None:
            return
        for line in self._process.stdout:
            text = one_line(line.rstrip())
            self.lines.append(text)
            self._hear(self.part.name, text)
