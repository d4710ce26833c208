"""A program on a pseudo terminal whose screen is read as a person would read it (pyte)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from select import select

import pyte
import pytest

from tests.consumers.monitor.monitor_run import LIMIT_S

KEYS = {"up": "\x1b[A", "down": "\x1b[B", "home": "\x1b[H", "end": "\x1b[F", "pagedown": "\x1b[6~", "enter": "\r"}
KEYS |= {"escape": "\x1b", "tab": "\t"}


class Terminal:
    """``screen`` is what is seen, ``raw`` all that was written."""

    def __init__(self, process: subprocess.Popen[bytes], lead: int, width: int, height: int) -> None:
        self.process = process
        self.raw = b""
        self._lead = lead
        self._screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self._screen)

    @property
    def screen(self) -> str:
        """Return the lines that are seen."""
        return "\n".join(self._screen.display)

    def press(self, *keys: str) -> None:
        """Type keys, by name or as text."""
        for key in keys:
            os.write(self._lead, KEYS.get(key, key).encode())

    def until(self, is_so: Callable[[str], object]) -> str:
        """Read until what is seen is so; return it."""
        deadline_s = time.monotonic() + LIMIT_S
        while not is_so(self.screen):
            assert time.monotonic() < deadline_s, f"not so:\n{self.screen}"
            assert self._read() or is_so(self.screen), f"ended:\n{self.screen}"
        return self.screen

    def end(self) -> int:
        """Read to the end; return the exit code."""
        while self._read():
            pass
        return self.process.wait(LIMIT_S)

    def _read(self) -> bool:
        if not select([self._lead], [], [], LIMIT_S)[0]:
            return False
        try:
            data = os.read(self._lead, 65_536)
        except OSError:  # the program has closed its side
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)


@contextmanager
def terminal(
    arguments: Sequence[str], cwd: Path, *, width: int, height: int, term: str = "xterm-256color"
) -> Iterator[Terminal]:
    """Run a module of Python on a terminal of this size; kill it if it is still there at the end."""
    pty = pytest.importorskip("pty", reason="Windows has no such terminals")
    termios = pytest.importorskip("termios")
    lead, follow = pty.openpty()
    termios.tcsetwinsize(follow, (height, width))
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdin=follow,
        stdout=follow,
        stderr=follow,
        cwd=cwd,
        env={**environment, "TERM": term},
        start_new_session=True,
    )
    os.close(follow)
    try:
        yield Terminal(process, lead, width, height)
    finally:
        process.kill()
        process.wait()
        os.close(lead)
