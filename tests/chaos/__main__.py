"""``python -m tests.chaos``: a million events, sixty faults, and nothing unexplained; some five minutes."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.chaos.plan import MEANINGS
from tests.chaos.processes import RunError
from tests.chaos.report import show
from tests.chaos.run import run


def main(arguments: list[str]) -> int:
    """Run and show; return 0 when all is explained, 1 when not, 2 when the run itself failed."""
    kinds = "\n".join(f"  {kind:15} {meaning}" for kind, meaning in MEANINGS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        epilog=f"faults:\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=1, help="the same seed plans the same faults (default 1)")
    parser.add_argument("--events", type=int, default=1_000_000, help="at least so many (default 1,000,000)")
    parser.add_argument("--faults", type=int, default=60, help="(default 60)")
    parser.add_argument("--rate", type=float, default=4_000.0, help="quotes per second (default 4000)")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and records")
    given = parser.parse_args(arguments)
    console = Console(stderr=given.json)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    passed = False
    try:
        outcome = run(
            folder,
            seed=given.seed,
            events=given.events,
            faults=given.faults,
            rate=given.rate,
            say=lambda text: console.print(f"[dim]{text}[/dim]", highlight=False),
        )
        passed = outcome.passed
    except RunError as error:
        console.print(f"[red]{error}[/red]")
        return 2
    finally:
        if passed and not given.keep:
            shutil.rmtree(folder)
        else:
            console.print(f"logs and records are in {folder}")
    show(outcome, console)
    if given.json:
        sys.stdout.write(json.dumps(outcome.as_dict()) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
