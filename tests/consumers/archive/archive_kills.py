"""``python -m tests.consumers.archive.archive_kills --kills 100 --events 1000000``: kill archive and daemon at random.

Events are archived while both are killed again and again; at the end each durable event of the journal must be in the
archive once, and each quote once or in a recorded hole. The last line has the counts.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from mt4pump_consumers.archive.folder import read_state

from tests.consumers.archive.archive_run import rows
from tests.consumers.archive.test_archive_program import World


def main() -> int:
    """Run until kills and events are reached; return 0, or raise AssertionError with what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--minutes", type=float, default=600, help="end after this time, whatever was reached")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)  # noqa: S311 - the same kills each time
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), options.rate)
        kills, daemon_kills, began_s = 0, 0, time.monotonic()
        try:
            world.daemon.start()
            world.archive.start()
            end_s = began_s + options.minutes * 60
            while (kills < options.kills or events(world.path) < options.events) and time.monotonic() < end_s:
                before = number(world.path)
                while number(world.path) == before and time.monotonic() < end_s:
                    time.sleep(0.01)  # a program that is still starting has nothing to lose
                time.sleep(chance.uniform(0, 1))
                if kills < options.kills:
                    is_daemon = chance.random() < 0.1
                    victim = world.daemon if is_daemon else world.archive
                    victim.kill()
                    victim.start()
                    kills, daemon_kills = kills + 1, daemon_kills + is_daemon
            world.check(least=1)
            stored = events(world.path)
            sys.stdout.write(
                f"kills {kills} (daemon {daemon_kills}); events {stored}; durable {len(world.topics)}; "
                f"commits {read_state(world.path).number}; holes {len(rows(world.path, 'gaps', 'kind'))}; "
                f"lost 0; doubled 0; {time.monotonic() - began_s:.0f} s\n"
            )
        finally:
            world.archive.kill()
            world.daemon.kill()
    return 0


def number(path: Path) -> int:
    """Return the number of the last commit."""
    return max((int(file.stem) for file in (path / "_commits").glob("*.json") if file.stem.isdecimal()), default=0)


def events(path: Path) -> int:
    """Return how many events are committed."""
    return sum(file.rows for file in read_state(path).files.values() if file.kind != "gaps") if path.exists() else 0


if __name__ == "__main__":
    sys.exit(main())
