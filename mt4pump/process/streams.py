"""Standard streams that are missing, closed, or accept no more."""

from __future__ import annotations

import errno
import io
import os
import sys


class NullStream(io.TextIOWrapper):
    """Accepts text and discards it."""

    def __init__(self) -> None:
        super().__init__(open(os.devnull, "wb"), "utf-8", "backslashreplace")  # noqa: SIM115, PTH123 - open to the end

    def isatty(self) -> bool:
        """Return False, also on Windows, which takes its null device for a terminal."""
        return False


def mend_streams() -> None:
    """Replace a missing standard output or error of this process (``>&-``, pythonw.exe).

    Neither ends the program for a character that it cannot show.
    """
    if sys.stdout is None:
        sys.stdout = NullStream()
    if sys.stderr is None:
        sys.stderr = NullStream()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def output_fault(error: OSError) -> OSError | None:
    """Return what keeps standard output from taking more, if it ended the command; BrokenPipeError: enough was read.

    ``error``, which did end it, does not show whether it is of standard output: another write does.
    """
    if isinstance(error, BrokenPipeError):
        return error
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError as fault:
        # Windows calls a pipe that nobody reads any more an invalid argument.
        return BrokenPipeError() if fault.errno == errno.EINVAL else fault
    return None


def drop_output() -> None:
    """Point standard output at nothing, so that Python's last flush does not fail loudly."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
