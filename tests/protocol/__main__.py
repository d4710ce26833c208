"""``python -m tests.protocol`` writes the tables of PROTOCOL.md and the client's event classes.

``--check`` only reports whether they are current.
"""

from __future__ import annotations

import argparse
import sys

from tests.protocol.event_classes import MODULE, write_event_classes
from tests.protocol.tables import DOCUMENT, write_tables


def main(arguments: list[str] | None = None) -> int:
    """Return 1 when ``--check`` finds a file that is out of date."""
    parser = argparse.ArgumentParser(prog="python -m tests.protocol", description="write what the contract makes")
    parser.add_argument("--check", action="store_true", help="only report whether the files are current")
    check: bool = parser.parse_args(arguments).check
    are_current = True
    for write, file in ((write_tables, DOCUMENT), (write_event_classes, MODULE)):
        current = write(file, check=check)
        are_current = are_current and current
        state = "current" if current else "out of date: run python -m tests.protocol" if check else "written"
        sys.stdout.write(f"{file}: {state}\n")
    return 1 if check and not are_current else 0


if __name__ == "__main__":
    sys.exit(main())
