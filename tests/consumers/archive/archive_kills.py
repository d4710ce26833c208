"""``python -m tests.consumers.archive.archive_kills --store parquet``: what kills and faults cost an archive.

Archive and daemon, and the database, are killed at random moments, in between the disk is full, the folder read-only,
the database silent, the clock 30 days ahead. After each kill of the daemon its journal gets more durable events. At the
end each event of the journal must be in the archive once, and each quote once or in a recorded hole. The last line has
the counts; it ends with 1 where one of them is wrong.
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

from tests.consumers.archive.archive_faults import Faults, fill_journal
from tests.consumers.archive.database_programs import DatabasePrograms
from tests.consumers.archive.database_servers import ClickhouseServer, DatabaseServer, PostgresqlServer, running
from tests.consumers.archive.test_archive_program import LIMIT_S, ArchivePrograms

SERVERS: dict[str, type[DatabaseServer] | None] = {
    "parquet": None,
    "postgresql": PostgresqlServer,
    "clickhouse": ClickhouseServer,
}
DAEMON_EVERY, DATABASE_EVERY, FAULT_EVERY = 8, 3, 5
"""Of 8 kills one is of the daemon, of 3 one of the database; after each fifth one a fault follows."""


class KillRun:
    """One run: kills and faults in an order that ``seed`` says; ``counts`` has how many of each there were."""

    def __init__(self, programs: ArchivePrograms, server: DatabaseServer | None, faults: Faults, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.kills = 0
        self._programs, self._server, self._faults = programs, server, faults
        self._chance = random.Random(seed)  # noqa: S311 - the same order each time

    def run(self, kills: int, events: int) -> None:
        """Kill so often; ``events`` are added to the journal in equal parts."""
        parts = kills // DAEMON_EVERY
        names = list(self._faults.by_name)
        for number in range(1, kills + 1):
            self._wait_for_commit()
            time.sleep(self._chance.uniform(0, 1))
            if number % DAEMON_EVERY == 0:
                self._kill_daemon(events // parts + (events % parts if number == DAEMON_EVERY else 0))
            elif self._server is not None and number % DATABASE_EVERY == 0:
                self._server.kill()
                self._server.start()
                self._count("kill of the database")
            else:
                self._kill_archive()
            if names and number % FAULT_EVERY == 0:
                self._hold(names[number // FAULT_EVERY % len(names)])

    def _count(self, name: str) -> None:
        self.counts[name] += 1
        self.kills += name.startswith("kill")

    def _kill_archive(self) -> None:
        self._programs.archive.kill()
        self._programs.archive.start()
        self._count("kill of the archive")

    def _kill_daemon(self, events: int) -> None:
        self._programs.daemon.kill()
        fill_journal(self._programs.folder, events)
        self._programs.daemon.start()
        self._count("kill of the daemon")

    def _hold(self, name: str) -> None:
        """Have a fault for a while, during which the archive may be killed; it may end itself then, with an error."""
        self._wait_for_commit()
        with self._faults.by_name[name]():
            self._count(name)
            time.sleep(self._chance.uniform(0, 3))
            if self._chance.random() < 0.5:
                self._kill_archive()
                time.sleep(self._chance.uniform(0, 3))
        assert self._programs.archive.running is not None
        code = self._programs.archive.running.poll()
        if code is not None:
            assert code == 3, self._programs.archive.text[-3000:]
            self.counts[f"start refused ({name})"] += 1
            self._programs.archive.start()

    def _wait_for_commit(self) -> None:
        """Wait for the next commit: a program that is still starting has nothing to lose."""
        before, deadline_s = self._programs.last_commit, time.monotonic() + LIMIT_S
        while self._programs.last_commit == before:
            running = self._programs.archive.running
            assert running is not None
            assert running.poll() is None, self._programs.archive.text[-3000:]
            assert time.monotonic() < deadline_s, self._programs.archive.text[-3000:]
            time.sleep(0.02)


def kill_run(folder: Path, store: str, *, kills: int, events: int, rate: int = 1_000, seed: int = 1) -> str:
    """Do one run; return its counts as a line. Raises AssertionError where one is wrong."""
    began_s = time.monotonic()
    with ExitStack() as stack:
        kind, server = SERVERS[store], None
        if kind is not None:
            server = stack.enter_context(running(kind()))
        programs = ArchivePrograms(folder, rate) if server is None else DatabasePrograms(folder, server, rate)
        faults = Faults(programs, stack, server)
        with programs.running():
            run = KillRun(programs, server, faults, seed)
            run.run(kills, events)
            found = programs.compare()
            counts = ", ".join(f"{name} {count}" for name, count in sorted(run.counts.items()))
            line = f"{store}: kills {run.kills} ({counts}); events {programs.events}; {found}"
            if faults.missing:
                line += f"; not tried: {', '.join(faults.missing)}"
            assert found.durable >= events, line
            assert (found.missing, found.twice) == (0, 0), line
            programs.check_quotes()
    return f"{line}; {time.monotonic() - began_s:.0f} s"


def main() -> int:
    """Do one run for each store that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=SERVERS, nargs="+", default=list(SERVERS))
    parser.add_argument("--kills", type=int, default=104)
    parser.add_argument("--events", type=int, default=1_000_000, help="durable events that are added to the journal")
    parser.add_argument("--rate", type=int, default=1_000, help="quotes per second beside them")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for store in options.store:
        with tempfile.TemporaryDirectory() as folder:
            values = {"kills": options.kills, "events": options.events, "rate": options.rate, "seed": options.seed}
            sys.stdout.write(f"{kill_run(Path(folder), store, **values)}\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
