"""What a command shows on standard output: a terminal's width, or enough of it in files and pipes."""

from __future__ import annotations

import sys

from rich.console import Console

NOT_A_TERMINAL_COLUMNS = 160
"""Width in files and pipes, where nobody can say what it is."""


class StdoutConsole(Console):
    """Standard output for tables and lines; ``columns`` where it is no terminal."""

    def __init__(self, columns: int = NOT_A_TERMINAL_COLUMNS) -> None:
        super().__init__(width=None if sys.stdout.isatty() else columns, highlight=False)

    def on_broken_pipe(self) -> None:
        """Leave it to `mt4pump.cli.main`, which ends with 0 for a reader who has enough; rich would end with 1."""
        raise BrokenPipeError
