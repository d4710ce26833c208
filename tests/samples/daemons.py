"""Daemons in processes of their own, for readers that know nothing of ours."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.commands import environment
from tests.programs import Program, piped, program

ANY = "tcp://127.0.0.1:*"


@contextmanager
def simulated(folder: Path, *flags: str, rate: str = "200") -> Iterator[tuple[str, str, Program]]:
    """Run a daemon on the simulator; give its two addresses."""
    fixed = ("--source", "simulator", "--accounts", "20", "--rate", rate, "--log-format", "json")
    where = ("--pub-endpoint", ANY, "--query-endpoint", ANY, "--data-dir", str(folder / "data"))
    words = [sys.executable, "-m", "mt4pump", "run", *fixed, *where, *flags]
    with program(piped(words, environment(), folder)) as run:
        yield run.endpoint(), run.endpoint("queries are answered on "), run
