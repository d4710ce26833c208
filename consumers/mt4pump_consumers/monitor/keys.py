"""Keys typed on the terminal, by prompt_toolkit's input: the same names on POSIX terminals and Windows consoles."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prompt_toolkit.input import Input
    from prompt_toolkit.key_binding import KeyPress


class TerminalKeys:
    """Reads keys without waiting. Where standard input is no terminal, there are none (``is_there``).

    On POSIX the terminal delivers each key at once and echoes none (cbreak); Ctrl-C stays a signal. A Windows console
    needs no mode: its events are read, not its lines.
    """

    def __init__(self) -> None:
        self.is_there = sys.stdin is not None and sys.stdin.isatty() and _is_in_foreground()
        self._input: Input | None = None
        self._mode_before = None
        if not self.is_there:
            return
        from prompt_toolkit.input import create_input  # noqa: PLC0415 - takes 0.2 s, and only a screen needs it

        self._input = create_input(sys.stdin)
        if sys.platform != "win32":
            import termios  # noqa: PLC0415 - not on Windows
            import tty  # noqa: PLC0415

            self._mode_before = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin, termios.TCSANOW)

    def read(self) -> list[str]:
        """Return the names of the keys typed since the last call: a character, or as ``up`` and ``c-m``."""
        if self._input is None or self._input.closed or not _is_in_foreground():
            return []
        # A lone Escape is known to be none of a longer sequence when nothing followed it until the next call.
        return [_name(press) for press in self._input.read_keys() or self._input.flush_keys()]

    def close(self) -> None:
        """Restore the terminal's mode."""
        if self._input is not None:
            self._input.close()
        if sys.platform != "win32" and self._mode_before is not None and _is_in_foreground():
            import termios  # noqa: PLC0415

            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._mode_before)


def _name(press: KeyPress) -> str:
    return str(getattr(press.key, "value", press.key))


def _is_in_foreground() -> bool:
    """Return whether the terminal is ours: a background job that reads it or sets its mode is stopped."""
    if sys.platform == "win32":
        return True
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError as error:  # not our controlling terminal, so that nothing is stopped; else the terminal is gone
        return error.errno == errno.ENOTTY
