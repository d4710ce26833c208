"""``python -m tests.protocol`` writes the tables of PROTOCOL.md; ``--check`` only reports whether they are current."""

from __future__ import annotations

import argparse
import sys

from tests.protocol.tables import DOCUMENT, write_tables


def main(arguments: list[str] | None = None) -> int:
    """Return 1 when ``--check`` finds a table that is out of date."""
    parser = argparse.ArgumentParser(prog="python -m tests.protocol", description="write the tables of PROTOCOL.md")
    parser.add_argument("--check", action="store_true", help="only report whether the tables are current")
    check: bool = parser.parse_args(arguments).check
    current = write_tables(DOCUMENT, check=check)
    state = "current" if current else "out of date: run python -m tests.protocol" if check else "written"
    sys.stdout.write(f"tables of {DOCUMENT}: {state}\n")
    return 1 if check and not current else 0


if __name__ == "__main__":
    sys.exit(main())
