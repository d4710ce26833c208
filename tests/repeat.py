"""``python -m tests.repeat N [--busy] [pytest's arguments]``: run the tests N times, and count what failed how often.

No test is tried again within a run. ``--busy`` keeps every core of the machine busy meanwhile. Exit code: 0 when
nothing failed in any run, else 1. Without arguments for pytest it is the whole suite, as in ``python -m tests``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.__main__ import AT_ONCE, ROOT

BURN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100_000))\n"
"""Keeps one core busy until the program that started it ends, however it ends."""
NOT_WHOLE = "(the run itself: pytest ended with code {})"


@contextmanager
def busy(cores: int) -> Iterator[None]:
    """Keep ``cores`` cores busy."""
    burning = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(cores)]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


def failures(report: Path) -> list[str]:
    """Return the tests of a JUnit report that failed, or ended with an error, each once."""
    cases = ET.parse(report).getroot().iter("testcase")  # noqa: S314 - pytest wrote it for us
    found = {
        f"{case.get('classname')}::{case.get('name')}": None
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    }
    return list(found)


def run_once(arguments: list[str], folder: Path) -> list[str]:
    """Run pytest to its end and return what failed; the run itself, when pytest could not finish it."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", *AT_ONCE, f"--junitxml={report}", *arguments]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    failed = failures(report) if report.is_file() else []
    return failed if code == 0 or failed else [NOT_WHOLE.format(code)]


def main(words: list[str] | None = None) -> int:
    """Run, count and print; return 0 when nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.repeat", description=__doc__)
    parser.add_argument("runs", type=int, help="how often")
    parser.add_argument("--busy", action="store_true", help="keep every core busy meanwhile")
    options, arguments = parser.parse_known_args(words)
    counts, clean = Counter[str](), 0
    with tempfile.TemporaryDirectory() as folder, busy((os.cpu_count() or 1) if options.busy else 0):
        for run in range(1, options.runs + 1):
            print(f"== run {run} of {options.runs}", flush=True)
            failed = run_once(arguments, Path(folder))
            counts.update(failed)
            clean += not failed
    print(f"== {clean} of {options.runs} runs without a failure")
    for name, count in counts.most_common():
        print(f"failed {count} of {options.runs}: {name}")
    return 0 if clean == options.runs else 1


if __name__ == "__main__":
    sys.exit(main())
