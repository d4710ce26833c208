"""Standard output and error: there whatever started us."""

from __future__ import annotations

import io
import os
import sys


class Nowhere(io.TextIOWrapper):
    """Takes text and keeps none of it."""

    def __init__(self) -> None:
        super().__init__(open(os.devnull, "wb"), "utf-8", "backslashreplace")  # noqa: SIM115, PTH123 - open to the end

    def isatty(self) -> bool:
        """Return False, also on Windows, which takes its null device for a terminal."""
        return False


def mend_streams() -> None:
    """Give this process the standard output and error that it may lack (``>&-``, pythonw.exe).

    Neither ends the program for a character that it cannot show.
    """
    if sys.stdout is None:
        sys.stdout = Nowhere()
    if sys.stderr is None:
        sys.stderr = Nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
