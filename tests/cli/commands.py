"""Runs the command line in a process of its own, as users do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).parents[2]
LIMIT_S = 60


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment without settings of ours, in which the package is found."""
    plain = {name: value for name, value in os.environ.items() if not name.upper().startswith("MT4PUMP_")}
    paths = [str(PROJECT), *filter(None, [plain.get("PYTHONPATH")])]
    return {**plain, "PYTHONPATH": os.pathsep.join(paths), **(extra or {})}


def start(*arguments: str, extra: Mapping[str, str] | None = None, encoding: str = "utf-8") -> subprocess.Popen[str]:
    """Start ``mt4pump`` with its output in pipes of this ``encoding``."""
    return subprocess.Popen(
        [sys.executable, "-m", "mt4pump", *arguments],
        env=environment({"PYTHONIOENCODING": encoding, **(extra or {})}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding=encoding,
    )


def finish(*arguments: str, extra: Mapping[str, str] | None = None, encoding: str = "utf-8") -> tuple[int, str, str]:
    """Run ``mt4pump`` to its end; return exit code, output, and error output."""
    with start(*arguments, extra=extra, encoding=encoding) as process:
        out, error = process.communicate(timeout=LIMIT_S)
    return process.returncode, out, error
