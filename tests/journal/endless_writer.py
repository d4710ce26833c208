"""A child that appends without end and prints what was committed, until it is killed."""

import sys
from pathlib import Path

from tests.journal.journals import events, no_orders, open_journal


def main(path: Path) -> None:
    """Append groups of many sizes; print the last offset of each after its commit."""
    journal = open_journal(path)
    group = 1
    while True:
        assert journal.append(events(journal, *[b"trade.1"] * group, body=b"x" * 300), {group: b"%d" % group})
        sys.stdout.write(f"{journal.last_offset}\n")
        sys.stdout.flush()
        group = group * 7 % 101
        if group % 10 == 0:
            journal.maintain(no_orders)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
