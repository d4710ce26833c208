"""``python -m tests.consumers.archive.archive_kills --kills 100 --events 1000000``: kill archive and daemon at random.

Events are archived while both are killed again and again, and with ``--postgresql`` or ``--clickhouse`` the database,
too; at the end each durable event of the journal must be in the archive once, and each quote once or in a recorded
hole. The last line has the counts.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from tests.consumers.archive.database_servers import ClickhouseServer, PostgresqlServer, running
from tests.consumers.archive.database_world import DatabaseWorld
from tests.consumers.archive.test_archive_program import World


class Victim(Protocol):
    """A program that is killed and started again."""

    def kill(self) -> None: ...

    def start(self) -> None: ...


def main() -> int:
    """Run until kills and events are reached; return 0, or raise AssertionError with what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--minutes", type=float, default=600, help="end after this time, whatever was reached")
    parser.add_argument("--postgresql", action="store_true", help="store in a PostgreSQL server that is started here")
    parser.add_argument("--clickhouse", action="store_true", help="store in a ClickHouse server that is started here")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)  # noqa: S311 - the same kills each time
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        world, server = _world(folder, stack, options)
        victims: list[tuple[str, Victim]] = [*[("archive", world.archive)] * 9, ("daemon", world.daemon)]
        if server:
            victims += [("database", server)] * 5
        began_s = time.monotonic()
        try:
            world.daemon.start()
            world.archive.start()
            killed = _kill(world, victims, chance, options)
            world.check(least=1)
            counts = ", ".join(f"{name} {count}" for name, count in killed.items())
            sys.stdout.write(
                f"kills {killed.total()} ({counts}); events {world.events}; durable {len(world.topics)}; "
                f"holes {len(world.rows('gaps', 'kind'))}; "
                f"lost 0; doubled 0; {time.monotonic() - began_s:.0f} s\n"
            )
        finally:
            world.archive.kill()
            world.daemon.kill()
    return 0


def _world(folder: Path, stack: ExitStack, options: argparse.Namespace) -> tuple[World, Victim | None]:
    """Return the world that is asked for, and its database."""
    if options.postgresql or options.clickhouse:
        server = PostgresqlServer() if options.postgresql else ClickhouseServer()
        stack.enter_context(running(server))
        return DatabaseWorld(folder, server, options.rate), server
    return World(folder, options.rate), None


def _kill(
    world: World, victims: list[tuple[str, Victim]], chance: random.Random, options: argparse.Namespace
) -> Counter[str]:
    """Kill until kills and events are reached; return how often each was killed."""
    killed: Counter[str] = Counter()
    end_s = time.monotonic() + options.minutes * 60
    while (killed.total() < options.kills or world.events < options.events) and time.monotonic() < end_s:
        before = world.last_commit
        while world.last_commit == before and time.monotonic() < end_s:
            time.sleep(0.01)  # a program that is still starting has nothing to lose
        time.sleep(chance.uniform(0, 1))
        if killed.total() < options.kills:
            name, victim = chance.choice(victims)
            victim.kill()
            victim.start()
            killed[name] += 1
    return killed


if __name__ == "__main__":
    sys.exit(main())
