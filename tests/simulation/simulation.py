"""What a seed draws: steps of server, daemon, wire and readers until there were enough events; then all must agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import msgpack

from mt4pump.client.event import Notice
from mt4pump.client.ordering import StreamOptions
from mt4pump.pump.lifecycle import COMPUTED_LOCALLY
from mt4pump.pump.snapshot import StateSnapshot
from tests.folding import Folded, Rows, differences, rows_of
from tests.simulation.backend import Backend, Plan
from tests.simulation.broker import TABLES
from tests.simulation.checks import BrokenPromise, PublishedEvents, ReaderChecks, check
from tests.simulation.daemon import Daemon
from tests.simulation.reader import Item, Reader
from tests.simulation.wire import Clock

EVENTS = 200
"""Least number of events of one seed."""
STEPS_LIMIT = 5_000
QUIET_LIMIT = 400
"""Rounds after which all must be at rest."""
WANTED = (
    ("*",),
    ("trade.*", "quote.*"),
    ("trade.100", "user.1001", "session.*", "quote.EURUSD"),
    ("user.*", "trade.10*", "online.*", "margin.*", "activation.*", "request.*", "symbol.*", "heartbeat"),
)


@dataclass
class CheckedReader:
    """One reader and its checks."""

    reader: Reader
    checks: ReaderChecks


class Simulation:
    """One seed. `run` raises BrokenPromise; ``story`` is what happened, a line per step."""

    def __init__(self, seed: int, plan: Plan | None = None, *, events: int = EVENTS) -> None:
        self.seed = seed
        self.story: list[str] = []
        self.clock = Clock()
        self.ledger = PublishedEvents()
        self.random = Random(seed)  # noqa: S311 - chance that can be repeated is the point
        self.steps = 0
        self._plan = plan or Plan()
        self.backend = Backend(self.random, self.clock, self.ledger, self._plan, self._lose_connections)
        self._events = events
        self._lossy = self.random.choice((0.0, 0.02, 0.1))
        self._queue_limit = self.random.choice((5, 20, 1_000))
        self.backend.inbox_limit = self.random.choice((20, 1_000, 1_000))
        self._heal_timeout_s = self.random.choice((30.0, 1e9, 1e9))
        self.backend.start(opened=True)
        wanted = (("*",), self.random.choice(WANTED))
        self._readers = [self._checked_reader(f"reader{number}", topics) for number, topics in enumerate(wanted)]
        backend = self.backend
        steps: tuple[tuple[Callable[[], str], float], ...] = (
            (backend.change, 30),
            (backend.burst, 1),
            (backend.swallow, 1),
            (backend.quote, 10),
            (backend.work, 30),
            (self._wait, 12),
            (self._read, 40),
            (self._query, 25),
            (self._subscribe, 12),
            (self._repeat, 2),
            (self._break_connection, 1.5),
            (self._connect, 8),
            (self._lose_query, 1),
            (backend.crash, 0.6),
            (backend.crash_while_publishing, 0.4),
            (self._start_again, 4),
            (backend.lose_server, 0.8),
            (backend.find_server, 3),
            (backend.break_disk, 0.5),
            (backend.repair_disk, 3),
            (backend.delete_old, 0.4),
            (self._kill_any_reader, 0.6),
            (backend.compare, 0.6),
        )
        self._steps = [step for step, _ in steps]
        self._weights = [weight for _, weight in steps]

    def run(self) -> Simulation:
        """Play the seed to its end."""
        try:
            while len(self.ledger.events) < self._events and self.steps < STEPS_LIMIT:
                self._step(self.random.choices(self._steps, self._weights)[0])
            self._run_to_rest("first")
            for checked in self._readers:
                self._kill(checked)
            last_steps = self.backend.change, self.backend.quote, self.backend.work
            for _ in range(30):
                self._step(self.random.choice((*last_steps, self._read, self._query)))
            self._run_to_rest("last")
            self._check_whole_state()
        except BrokenPromise as broken:
            self._note(f"BROKEN: {broken}")
            raise
        return self

    # ---- the frame of a step ----

    def _note(self, text: str) -> None:
        self.story.append(f"{self.steps:5} {self.clock.now_s():9.3f} s  {text}")

    def _step(self, step: Callable[[], str]) -> None:
        self.steps += 1
        self.clock.advance(self.random.random() * 0.05)
        text = step()
        daemon = self.backend.daemon
        if daemon is not None and daemon.heartbeat_if_due():
            daemon.maintain()
            text += " heartbeat"
        if text:
            self._note(text)
        if daemon is not None:
            check(not daemon.unreported, f"the daemon neither published nor counted {daemon.unreported} (9)")

    # ---- wire ----

    def _lose_connections(self) -> None:
        for checked in self._readers:
            checked.reader.lose_connection(self.random)
            checked.reader.request = None
            if self.random.random() < 0.5:
                checked.reader.reply = None

    def _wait(self) -> str:
        self.clock.advance(self.random.choice((0.1, 0.5, 1.0, 1.0, 3.0)))
        return ""

    def _any_reader(self) -> CheckedReader:
        return self.random.choice(self._readers)

    def _break_connection(self) -> str:
        reader = self._any_reader().reader
        if reader.connection is None:
            return ""
        self._drop_connection(reader)
        return f"{reader.name}: connection lost, {len(reader.arrived)} messages had arrived"

    def _drop_connection(self, reader: Reader) -> None:
        connection = reader.connection
        if connection is None:
            return
        if self.backend.daemon is not None and connection in self.backend.daemon.wire.connections:
            self.backend.daemon.wire.connections.remove(connection)
        reader.lose_connection(self.random)

    def _start_again(self) -> str:
        """Start the daemon again; an older copy of the journal promises nothing to a reader that resumes in it."""
        return self.backend.start_again(
            may_restore=all(each.reader.stream.ordering.has_snapshot for each in self._readers)
        )

    def _connect(self) -> str:
        reader = self._any_reader().reader
        if self.backend.daemon is None or reader.connection is not None:
            return ""
        self.backend.daemon.wire.connections.append(reader.connect(self.random, self._queue_limit))
        return f"{reader.name}: connected"

    def _subscribe(self) -> str:
        reader = self._any_reader().reader
        if self.backend.daemon is None or reader.connection is None or not reader.connection.subscribing:
            return ""
        connection = reader.connection
        prefixes = [connection.subscribing.popleft() for _ in range(len(connection.subscribing))]
        if self.random.random() < 0.5:
            count = self.random.randrange(len(prefixes))
            connection.subscribing.extend(prefixes[count + 1 :])
            prefixes = prefixes[: count + 1]
        connection.subscribed += tuple(prefixes)
        if not connection.subscribing:
            self.backend.daemon.heartbeat()
        return f"{reader.name}: subscribed to {prefixes}"

    def _repeat(self) -> str:
        reader = self._any_reader().reader
        if reader.connection is None or not reader.connection.repeat_one(self.random):
            return ""
        return f"{reader.name}: a message comes twice"

    # ---- readers ----

    def _checked_reader(self, name: str, topics: tuple[str, ...]) -> CheckedReader:
        checks = ReaderChecks(name, topics, self.ledger)
        return CheckedReader(self._make_reader(name, topics, checks, None), checks)

    def _make_reader(self, name: str, topics: tuple[str, ...], checks: ReaderChecks, last: Reader | None) -> Reader:
        position = last.position if last is not None and self.random.random() < 0.7 else None
        if checks.lost_ends < self.ledger.lost_ends:  # nothing shows a reader that starts that offsets were used again
            position = None
        checks.lost_ends = self.ledger.lost_ends
        checks.begin(position)

        def on_item(item: Item) -> None:
            if not isinstance(item, Notice) or item.kind != "heartbeat":
                self._note(f"    {name} gets {item!r}")
            checks.check_item(item)

        options = StreamOptions(heal_timeout_s=self._heal_timeout_s, hold_limit=self.random.choice((20, 100_000)))
        make = self._plan.make_stream
        return Reader(name, topics, self.clock, options, resume=position, on_item=on_item, make_stream=make)

    def _read(self) -> str:
        checked = self._any_reader()
        return self._run_once(checked, self.random.choice((1, 3, 10, 100)))

    def _run_once(self, checked: CheckedReader, count: int) -> str:
        reader = checked.reader
        came = reader.run_once(count)
        if reader.gave_up:
            checked.checks.is_exact = False
        checked.checks.has_base = reader.stream.ordering.has_snapshot or (
            checked.checks.has_base and checked.checks.is_exact
        )
        return f"{reader.name}: read {came}" if came else ""

    def _query(self) -> str:
        checked = self._any_reader()
        return self._forward(checked)

    def _forward(self, checked: CheckedReader) -> str:
        reader = checked.reader
        if reader.request is not None and self.backend.daemon is not None:
            number, payload = reader.request
            reader.request = None
            asked = msgpack.unpackb(payload)
            if self.random.random() < self._lossy:
                return f"{reader.name}: its request {asked['op']} is lost"
            frames = self.backend.daemon.answer(payload, reader.name.encode())
            if asked["op"] == "snapshot" and "cursor" not in asked and not reader.stream.ordering.has_snapshot:
                checked.checks.snapshot_at = len(self.ledger.events)
            reader.reply = (number, frames)
            about = {name: value for name, value in asked.items() if name != "cursor"}  # a token that no seed draws
            return f"{reader.name}: asked {about}, the answer has {len(frames) // 2} bodies"
        return self._run_once(checked, 0) if reader.reply is not None else ""

    def _lose_query(self) -> str:
        reader = self._any_reader().reader
        if reader.request is None and reader.reply is None:
            return ""
        reader.request = reader.reply = None
        return f"{reader.name}: its query is lost"

    def _kill_any_reader(self) -> str:
        return self._kill(self._any_reader())

    def _kill(self, checked: CheckedReader) -> str:
        old = checked.reader
        self._drop_connection(old)
        checked.reader = self._make_reader(old.name, old.topics, checked.checks, old)
        return f"{old.name}: dies, goes on from {checked.reader.stream.recovery.steps.resume}"

    # ---- the end ----

    def _run_to_rest(self, name: str) -> None:
        """Let nothing fail any more, and check what readers then have."""
        self._note(f"the {name} rest: nothing fails any more")
        self.backend.repair_disk()
        self._lossy, self._queue_limit = 0.0, 10_000
        if self.backend.daemon is None:
            self.backend.start(opened=True)
        self.backend.find_server()
        for checked in self._readers:
            if checked.reader.connection is not None:
                self._drop_connection(checked.reader)
        daemon = self.backend.running
        for round_number in range(QUIET_LIMIT):
            if round_number > 3 and self._is_at_rest(daemon):
                break
            self._rest_one_round(daemon, reread=round_number == 2)
        else:
            at = ", ".join(f"{checked.reader.name} {_state_of(checked.reader)}" for checked in self._readers)
            raise BrokenPromise(f"no rest: the journal ends at {daemon.journal.last_offset}, {at}")
        for _ in range(6):
            self._rest_one_round(daemon, reread=False)
        self._check_readers(daemon)

    def _rest_one_round(self, daemon: Daemon, *, reread: bool) -> None:
        self.steps += 1
        self.clock.advance(1.0)
        daemon.work(1_000)
        if reread:
            daemon.reread_all()
        for checked in self._readers:
            reader = checked.reader
            if reader.connection is None:
                connection = reader.connect(self.random, self._queue_limit)
                connection.subscribed = tuple(connection.subscribing)
                connection.subscribing.clear()
                daemon.wire.connections.append(connection)
        daemon.maintain()
        daemon.heartbeat()
        for checked in self._readers:
            for _ in range(20):
                self._run_once(checked, 1_000)
                self._forward(checked)
                self._forward(checked)

    def _is_at_rest(self, daemon: Daemon) -> bool:
        last = daemon.journal.last_offset
        readers = [checked.reader for checked in self._readers]
        return all(
            each.is_idle and each.stream.ordering.has_snapshot and each.stream.ordering.confirmed == last
            for each in readers
        )

    def _check_readers(self, daemon: Daemon) -> None:
        for checked in self._readers:
            if checked.checks.is_exact:
                checked.checks.finish(daemon.epoch)

    def _check_whole_state(self) -> None:
        """Check that daemon, server and readers agree about every row."""
        daemon = self.backend.running
        snapshot = daemon.snapshot()
        ours = rows_of(snapshot)
        found = differences(_comparable(self._server_rows()), _comparable(ours, "quote", "session"))
        check(not found, f"the daemon's state is not the server's: {found}")
        for checked in self._readers:
            checks = checked.checks
            wanted = {place: row for topic, place, row in _placed(snapshot) if checks.wants(topic)}
            if checks.is_exact and not checks.notices["lost"] and not checks.restarts:
                found = differences(_comparable(checks.state.rows), _comparable(wanted))
                check(not found, f"{checks.name} has another state than the daemon (10.3): {found}")

    def _server_rows(self) -> Rows:
        rows: Rows = {}
        for name, (kind, _, key) in TABLES.items():
            for value, row in self.backend.broker.rows(name).items():
                rows[kind, value] = {"login": value, "level_type": row["level_type"]} if kind == "margin" else row
                if kind == "margin" and not row["level_type"]:
                    del rows[kind, value]
                if kind == "trade" and row["activation"]:
                    rows["activation", row[key]] = {"order": row[key], "activation": row["activation"]}
        return rows


def _state_of(reader: Reader) -> str:
    stream = reader.stream
    open_work = {"ask": stream.recovery.ask, "hold": stream.ordering.held, "added": stream.recovery.steps.added}
    waits = [name for name, waiting in open_work.items() if waiting]
    ordering = stream.ordering
    joined = "joined" if ordering.has_snapshot else "not joined"
    return f"{joined}, at {ordering.confirmed} of {ordering.log}, {'gave up' if reader.gave_up else ''} with {waits}"


def _placed(snapshot: StateSnapshot) -> Iterator[tuple[bytes, tuple[str, Any], Any]]:
    """Yield topic, place and row of all that a snapshot shows."""
    for topic, packed in snapshot.rows:
        folded = Folded()
        folded.take_row(topic.partition(b".")[0].decode(), packed)
        for place, row in folded.rows.items():
            yield topic, place, row


def _comparable(rows: Rows, *leave_out: str) -> Rows:
    """Return rows without what the API moves with every tick, and without the kinds to be left out."""
    return {
        place: {name: row[name] for name in sorted(row) if place[0] != "trade" or name not in COMPUTED_LOCALLY}
        for place, row in rows.items()
        if place[0] not in leave_out
    }
