"""500 changes that nobody received: the events inferred at the reconnect lead to exactly the state of the server.

A reader that got one snapshot, and applied all events since, is compared with the server's tables: after a lost
session, after changes that the API did not report, and after changes while no daemon ran. The last holds for trades,
as the journal keeps the open orders; a new run of the daemon publishes the other tables by its snapshot only. Not
compared are the fields that the API moves with every tick (`COMPUTED_LOCALLY`): a difference in them alone is no event.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mt4pump.journal import Journal, JournalOptions
from mt4pump.log import FaultCounters
from mt4pump.mt4.codes import PumpCode
from mt4pump.pump.dispatch import Dispatcher
from mt4pump.pump.event_writer import EventWriter
from mt4pump.pump.lifecycle import COMPUTED_LOCALLY
from mt4pump.pump.session import ManagerSession
from mt4pump.settings import Settings
from mt4pump.wire import KINDS, Encoder, kind_of
from tests.bus import Bus, Message, context
from tests.changing_server import ChangingServer
from tests.fake_manager import FakeManager
from tests.folding import Folded, Rows, differences

SEEDS, CHANGES = 100, 500
EPOCH = 1_700_000_000_000
DURABLE = [name for name, kind in KINDS.items() if kind.durable]
TABLES = {
    "trade": "trades",
    "user": "users",
    "online": "online",
    "symbol": "symbols",
    "group": "groups",
    "request": "requests",
}


class DaemonRun:
    """One run of the daemon: journal, dispatcher and a session on a `FakeManager`."""

    def __init__(self, bus: Bus, folder: Path, number: int) -> None:
        self.bus = bus
        self.ts = number * 1_000_000
        self.journal = Journal(folder / "journal.sqlite3", JournalOptions(identity="one"), self._now)
        encoder = Encoder(EPOCH + number)
        self.writer = EventWriter(encoder, bus.publisher, self.journal, DURABLE)
        self.fault_counters = FaultCounters(logging.getLogger("test.outages"))
        self.dispatcher = Dispatcher(self.writer, Settings(source="simulator"), self.fault_counters)
        if self.journal.has_orders:
            self.dispatcher.trades.restore_orders(self.journal.open_orders())
        self.manager = FakeManager()
        self.link = ManagerSession(self.manager, "one:443", 7)

    def _now(self) -> int:
        self.ts += 1
        return self.ts

    def start(self, server: ChangingServer) -> list[Message]:
        """Begin a session on the server as it is now; return what that published."""
        self.manager = FakeManager()
        server.fill(self.manager)
        self.link = ManagerSession(self.manager, "one:443", 7)
        self.dispatcher.current.attach(self.link)
        return self.take(PumpCode.START_PUMPING)

    def lose(self) -> list[Message]:
        """Lose the session."""
        self.dispatcher.detach(self.link, "lost by the test", self._now())
        return self.events()

    def take(self, code: int, action: int = 0, data: bytes = b"") -> list[Message]:
        """Take one record; return what was published."""
        self.dispatcher.handle(code, action, data, self._now())
        return self.events()

    def reconcile(self, server: ChangingServer) -> list[Message]:
        """Read all tables again in the same session, as is done now and then."""
        server.fill(self.manager)
        self.dispatcher.reread_all(self._now())
        return self.events()

    def events(self) -> list[Message]:
        """Return what was published since."""
        self.writer.flush()
        assert self.journal.durable
        return self.bus.events()

    def snapshot(self) -> Folded:
        """Return what a snapshot would show now."""
        made = Folded()
        for topic, row in self.dispatcher.take_snapshot((), 0).rows:
            made.take_row(kind_of(topic), row)
        return made


@contextmanager
def wire() -> Iterator[Bus]:
    with context() as own:
        bus = Bus(own, b"")
        try:
            yield bus
        finally:
            bus.publisher.close()


def fold(state: Folded, messages: list[Message]) -> None:
    for topic, body in messages:
        state.take(topic.partition(".")[0], body)


def wrong(state: Folded, server: ChangingServer, *kinds: str) -> list[str]:
    """Return in what the state built from events differs from the server's tables."""
    theirs: Rows = {}
    for kind in kinds:
        if kind == "margin":
            rows: dict[Any, Any] = {
                login: {"login": login, "level_type": row["level_type"]}
                for login, row in server.rows("margins").items()
                if row["level_type"]
            }
        elif kind == "activation":
            rows = {
                order: {"activation": row["activation"], "order": order}
                for order, row in server.rows("trades").items()
                if row["activation"]
            }
        else:
            rows = server.rows(TABLES[kind])
        theirs |= {(kind, key): row for key, row in rows.items()}
    ours = {place: row for place, row in state.rows.items() if place[0] in kinds}
    return differences(still(ours), still(theirs))


def still(rows: Rows) -> Rows:
    """Return rows without what moves with every tick, and with their names in order."""
    return {
        place: {
            name: row[name]
            for name in sorted(row)
            if place[0] != "trade" or name not in COMPUTED_LOCALLY
            if place[0] != "group" or name not in {"secmargins", "news_languages"}
        }
        for place, row in rows.items()
    }


ALL = (*TABLES, "margin", "activation")


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.not_under_wine("tries hundreds of moments and seeds; none of it is about the system")
def test_after_an_outage_with_500_changes_the_synthetic_events_rebuild_the_final_state(
    seed: int, tmp_path: Path
) -> None:
    server = ChangingServer(seed)
    with wire() as bus:
        run = DaemonRun(bus, tmp_path, 1)
        run.start(server)
        state = run.snapshot()
        assert wrong(state, server, *ALL) == []

        fold(state, run.lose())
        server.change(CHANGES)
        published = run.start(server)
        fold(state, published)
        assert wrong(state, server, *ALL) == []
        assert all(body.get("synthetic") for topic, body in published if not topic.startswith("session."))

        server.change(CHANGES)  # the session runs, but the API swallows what happens
        published = run.reconcile(server)
        fold(state, published)
        assert wrong(state, server, *ALL) == []
        assert all(body["synthetic"] for _, body in published)
        assert differences(still(run.snapshot().rows), still(state.rows)) == []
        assert run.reconcile(server) == []

        run.journal.close()
        server.change(CHANGES)  # no daemon runs
        run = DaemonRun(bus, tmp_path, 2)
        assert run.journal.has_orders
        fold(state, run.start(server))
        assert wrong(state, server, "trade") == []
        assert wrong(run.snapshot(), server, *ALL) == []  # of the other tables a new run publishes only by its snapshot
        assert not run.fault_counters.counts
        run.journal.close()
    assert sum(server.done.values()) == 3 * CHANGES
