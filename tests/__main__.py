"""``python -m tests``: every check and every test, in the order in which they fail fastest.

Tests on a Windows Python under Wine take many minutes more: ``WINDOWS_TESTS=1 python -m tests`` runs them as well.
``python -m tests --quick`` leaves out the files that `tests/quick.py` lists, and ends within about a minute.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE = ("-n", "2", "--dist", "loadfile")
"""Most tests wait for sockets and processes: two files at once take half the time."""
CHECKS = (
    ("lint", ["-m", "ruff", "check", "."]),
    ("format", ["-m", "ruff", "format", "--check", "."]),
    ("types", ["-m", "mypy"]),
    ("tests", ["-m", "pytest", *AT_ONCE, *sys.argv[1:]]),
)
UNIT_SUITE = "tests/wine/test_unit_suite.py"
"""The suite on a Windows Python is a command of its own until it is green again: ``pytest -m wine`` and this file."""
WINDOWS = (
    "tests under Wine",
    ["-m", "pytest", "-n", "2", "--dist", "worksteal", "-m", "wine", "tests/wine", f"--ignore={UNIT_SUITE}"],
)
"""One of them takes long: the other worker takes what waits behind it."""


def main() -> int:
    """Run all checks, also after one failed; return 0 only if all passed."""
    failed = []
    for name, command in (*CHECKS, WINDOWS) if os.environ.get("WINDOWS_TESTS") else CHECKS:
        print(f"== {name}", flush=True)  # noqa: T201 - a command line prints
        if subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "all passed", flush=True)  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
