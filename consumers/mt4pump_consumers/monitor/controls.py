"""Keys of the live screen: how they are read from the terminal, and what they change.

`TerminalKeys` reads them by prompt_toolkit's input, with the same names on POSIX terminals and Windows consoles.
`ScreenControls`, which is pure, has the focus, what is open, and rows, orders and filters of the tables.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mt4pump_consumers.monitor.state import MonitorState
from mt4pump_consumers.monitor.tables import TABLES, Subject

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


OVERVIEW = ("symbols", "accounts", "calls", "executions", "messages")
OF_SYMBOL = ("orders", "accounts", "executions")
OF_ACCOUNT = ("orders", "symbols", "executions")
FILTER_MAX_CHARS = 40
DEPTH_MAX = 8
"""Subjects that Escape goes back through."""
STEPS = {"up": -1, "k": -1, "down": 1, "j": 1}
ENTER, ESCAPE, BACKSPACE = frozenset({"c-m", "c-j"}), "escape", frozenset({"c-h", "backspace"})
QUIT = frozenset({"q", "Q", "c-c"})
HELP = "Tab table  ↑↓ row  {enter}  s sort  r reverse  / filter  z zoom  q quit"


@dataclass(slots=True)
class TableControls:
    """Order, filter and row of one table. ``page`` is how many rows were shown last; ``index`` where the row was."""

    sort: int
    is_descending: bool
    filter: str = ""
    selected: Hashable = None
    index: int = 0
    page: int = 1


class ScreenControls:
    """``focus`` names a table. ``is_typing``: keys are text of its filter. ``is_zoomed``: it is shown alone."""

    def __init__(self) -> None:
        self.tables = {name: TableControls(table.sort, table.is_descending) for name, table in TABLES.items()}
        self.focus = OVERVIEW[0]
        self.is_typing = self.is_zoomed = False
        self._subjects: list[Subject] = []

    @property
    def subject(self) -> Subject | None:
        """Return the symbol or account that is open."""
        return self._subjects[-1] if self._subjects else None

    @property
    def names(self) -> tuple[str, ...]:
        """Return the tables that are shown, in the order of the Tab key."""
        if self.subject is None:
            return OVERVIEW
        return OF_ACCOUNT if self.subject.symbol is None else OF_SYMBOL

    @property
    def help(self) -> str:
        """Return the keys in one line."""
        is_inside = self.is_zoomed or self.subject is not None or self.tables[self.focus].filter
        return HELP.format(enter="Esc back" if is_inside else "Enter open")

    def rows(self, name: str, state: MonitorState) -> list[Any]:
        """Return the rows of a table, filtered and sorted."""
        table, controls = TABLES[name], self.tables[name]
        wanted = controls.filter.casefold()
        rows = [row for row in table.rows(state, self.subject) if wanted in table.words(row).casefold()]
        if table.is_dense:  # equal rows are then in the order of their names
            rows.sort(key=lambda row: str(table.identity(row)))
        rows.sort(key=table.columns[controls.sort].key, reverse=controls.is_descending)
        return rows

    def index_in(self, name: str, rows: list[Any]) -> int | None:
        """Return where the selected row is now, the nearest place if it is gone, None if none was selected."""
        controls = self.tables[name]
        if controls.selected is None or not rows:
            return None
        identity = TABLES[name].identity
        found = (number for number, row in enumerate(rows) if identity(row) == controls.selected)
        controls.index = next(found, min(controls.index, len(rows) - 1))
        return controls.index

    def press(self, key: str, state: MonitorState) -> bool:
        """Handle a key, named as prompt_toolkit does; return whether it asks to end."""
        if self.is_typing and key != "c-c":
            self._type(key)
        elif key in QUIT:
            return True
        elif key in {"c-i", "right", "s-tab", "left"}:
            self._move_focus(1 if key in {"c-i", "right"} else -1)
        elif key in ENTER:
            self._open(state)
        elif key == ESCAPE:
            self._back()
        elif key == "s":
            self._sort_by_next_column()
        elif key == "r":
            self.tables[self.focus].is_descending ^= True
        elif key == "/":
            self.is_typing = True
        elif key == "z":
            self.is_zoomed = not self.is_zoomed
        else:
            self._move(key, state)
        return False

    def _type(self, key: str) -> None:
        controls = self.tables[self.focus]
        if key in ENTER:
            self.is_typing = False
        elif key == ESCAPE:
            self.is_typing, controls.filter = False, ""
        elif key in BACKSPACE:
            controls.filter = controls.filter[:-1]
        elif len(key) == 1 and key.isprintable():
            controls.filter = (controls.filter + key)[:FILTER_MAX_CHARS]

    def _move_focus(self, step: int) -> None:
        names = self.names
        self.focus = names[(names.index(self.focus) + step) % len(names)]

    def _sort_by_next_column(self) -> None:
        controls, columns = self.tables[self.focus], TABLES[self.focus].columns
        controls.sort = (controls.sort + 1) % len(columns)
        controls.is_descending = not columns[controls.sort].is_left

    def _move(self, key: str, state: MonitorState) -> None:
        controls, rows = self.tables[self.focus], self.rows(self.focus, state)
        at = self.index_in(self.focus, rows)
        last = len(rows) - 1
        goals = {name: 0 if at is None else at + step for name, step in STEPS.items()}
        goals |= {"home": 0, "end": last, "pageup": (at or 0) - controls.page, "pagedown": (at or 0) + controls.page}
        if key in goals and rows:
            controls.index = min(max(goals[key], 0), last)
            controls.selected = TABLES[self.focus].identity(rows[controls.index])

    def _open(self, state: MonitorState) -> None:
        rows = self.rows(self.focus, state)
        if not rows:
            return
        subject = TABLES[self.focus].subject(rows[self.index_in(self.focus, rows) or 0])
        if subject is not None and subject != self.subject:
            self._subjects = [*self._subjects, subject][-DEPTH_MAX:]
            self.is_zoomed = False
            self.focus = self.names[0]

    def _back(self) -> None:
        """Leave the zoom, else the filter, else the subject."""
        controls = self.tables[self.focus]
        if self.is_zoomed:
            self.is_zoomed = False
        elif controls.filter:
            controls.filter = ""
        elif self._subjects:
            self._subjects.pop()
            self.focus = self.names[0] if self.focus not in self.names else self.focus
