"""Snapshot, then live, without hole or overlap: 200 joins at random moments under load end in the daemon's state.

Private access: the source of the daemon, because `Daemon` gives nobody the simulator that it made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from random import Random
from typing import Any, NamedTuple

import msgpack
import pytest
import zmq

from mt4pump.client import Event, Subscriber
from mt4pump.pump.lifecycle import COMPUTED_LOCALLY
from mt4pump.pump.snapshot import SnapshotRequest, StateSnapshot
from mt4pump.simulator.server import Simulator
from mt4pump.wire import KINDS
from tests.bus import LIMIT_S, context, decode_frames, subscriber
from tests.folding import Folded, Rows, differences, rows_of
from tests.live import Running, running

JOINS = 100
"""By plain sockets, and as many by the client."""
BATCHES = 2
NULLS, BURSTS = "nulls", "bursts"
WAIT_S = 3 * LIMIT_S
RATE = 1_500.0
DURABLE = {name for name, kind in KINDS.items() if kind.durable}
LIVE_EVENTS = (0, 400)
TOPICS = (
    ("*",),
    ("trade.*",),
    ("trade.*", "user.*", "margin.*", "quote.EUR*"),
    ("quote.*",),
    ("online.*", "symbol.*", "request.*", "group.*", "session.*", "activation.*", "plugin.*"),
    ("trade.100*", "quote.EURUSD"),
)
Taken = tuple[str, dict[str, Any]]


class Market(NamedTuple):
    """A daemon on a busy market, and what happens to it besides the usual trading."""

    run: Running
    trouble: str

    @property
    def ignored(self) -> frozenset[str]:
        """Return the fields of orders that may differ: a NULL has the table read, and they follow without an event."""
        return COMPUTED_LOCALLY if self.trouble == NULLS else frozenset()


@pytest.fixture(scope="module", name="market", params=[BURSTS, NULLS])
def _market(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    folder = tmp_path_factory.mktemp("joins")
    with running(
        folder, b"nothing", source="simulator", rate=RATE, accounts=120, sndhwm=1_000_000, reconcile_interval_s=0
    ) as run:
        run.pumping()
        yield Market(run, request.param)


def own_snapshot(run: Running) -> StateSnapshot:
    """Return the state as the pump thread has it now."""
    request = SnapshotRequest((b"",))
    run.daemon.request_snapshot(request)
    cut = request.wait(WAIT_S)
    assert cut is not None
    return replace(cut, rows=tuple(cut.rows))  # every client is compared with it


def wants(name: str, topics: Iterable[str]) -> bool:
    return any(name == topic or (topic.endswith("*") and name.startswith(topic[:-1])) for topic in topics)


def is_before(name: str, body: dict[str, Any], cut: Any, seqs: dict[str, int]) -> bool:
    """Return whether a live event is in a cut: the rule of the protocol."""
    if "offset" in body:
        return bool(body["offset"] <= cut)
    return bool(body["seq"] <= seqs.get(name, 0))


def compare(
    state: Folded, truth: StateSnapshot, topics: Iterable[str], ignored: frozenset[str] = frozenset()
) -> list[str]:
    """Return in what a joined state differs from the daemon's own, in the topics that were joined."""
    rows = [row for row in truth.rows if wants(row.topic.decode(), topics)]
    wanted = StateSnapshot(truth.epoch, truth.log, truth.offset, truth.offsets, truth.ts, truth.seqs, rows)
    return differences(without(state.rows, ignored), without(rows_of(wanted), ignored))


def without(rows: Rows, ignored: frozenset[str]) -> Rows:
    """Return rows without the ``ignored`` fields of orders."""
    return {
        place: {name: value for name, value in row.items() if place[0] != "trade" or name not in ignored}
        for place, row in rows.items()
    }


def named(seqs: Any) -> dict[str, int]:
    return {topic.decode() if isinstance(topic, bytes) else topic: seq for topic, seq in seqs.items()}


class PlainJoin:
    """A join as PROTOCOL.md says, with nothing but pyzmq and msgpack."""

    def __init__(
        self, own: zmq.Context[zmq.Socket[bytes]], market: Market, topics: Iterable[str], random: Random
    ) -> None:
        run = market.run
        self._ignored = market.ignored
        self._topics = list(topics)
        self._prefixes = [topic.removesuffix("*").encode() for topic in self._topics]
        self._run = run
        self._random = random
        self._live: list[Taken] = []
        self._heartbeats = 0
        self._socket = subscriber(own, run.daemon.endpoint, *self._prefixes, b"heartbeat")
        self._ask = own.socket(zmq.REQ)
        assert run.daemon.query_endpoint is not None
        self._ask.connect(run.daemon.query_endpoint)

    def close(self) -> None:
        self._socket.close(0)
        self._ask.close(0)

    def result(self) -> list[str]:
        """Join, go on for a while, and return in what we differ from the daemon at one later moment."""
        self._read_until(lambda topic, _body: topic == "heartbeat")  # now all subscriptions work
        head, rows = self._snapshot()
        cut, seqs = head["offset"], named(head["seqs"])
        more = self._random.randint(*LIVE_EVENTS)
        heartbeats = self._heartbeats
        self._read_until(lambda _topic, _body: len(self._live) >= more or self._heartbeats > heartbeats)
        truth = own_snapshot(self._run)
        self._read_until(lambda topic, body: topic == "heartbeat" and body["ts"] > truth.ts)
        state = Folded()
        for topic, body in rows:
            state.take(topic.partition(".")[0], body)
        last, end, found = dict(seqs), named(truth.seqs), []
        for topic, body in self._live:
            if not wants(topic, self._topics) or is_before(topic, body, cut, seqs):
                continue
            if body["seq"] != last.get(topic, 0) + 1:
                found.append(f"{topic}: {body['seq']} after {last.get(topic, 0)}")
            last[topic] = body["seq"]
            if is_before(topic, body, truth.offset, end):
                state.take(topic.partition(".")[0], body)
        return found + compare(state, truth, self._topics, self._ignored)

    def _read_until(self, is_end: Callable[[str, dict[str, Any]], bool]) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while True:
            assert self._socket.poll(max(0, int((deadline_s - time.monotonic()) * 1000))), "nothing came"
            name, body = decode_frames(self._socket.recv_multipart())
            topic = name.decode()
            if topic == "heartbeat":
                self._heartbeats += 1
            else:
                self._live.append((topic, body))
            if is_end(topic, body):
                return

    def _snapshot(self) -> tuple[dict[str, Any], list[Taken]]:
        """Return the head, with the numbers of all pages, and the rows."""
        limit = self._random.choice((7, 50, 10_000))
        request: dict[str, Any] = {"op": "snapshot", "topics": self._prefixes, "limit": limit}
        first: dict[str, Any] = {}
        seqs: dict[str, int] = {}
        rows: list[Taken] = []
        while True:
            self._ask.send(msgpack.packb(request))
            assert self._ask.poll(int(WAIT_S * 1000)), "no answer came"
            packed, *frames = self._ask.recv_multipart()
            head = msgpack.unpackb(packed)
            assert head["ok"], head
            first = first or head
            seqs |= head["seqs"]
            pairs = zip(frames[::2], frames[1::2], strict=True)
            rows += [(topic.decode(), msgpack.unpackb(body)) for topic, body in pairs]
            if head["cursor"] is None:
                return {**first, "seqs": seqs}, rows
            request["cursor"] = head["cursor"]


def confirmed(sub: Subscriber) -> int:
    """Return up to which offset everything was handed over."""
    return sub.position.confirmed if sub.position is not None else -1


def client_join(market: Market, topics: Iterable[str], random: Random) -> list[str]:
    """Join by `Subscriber`; return in what we differ from the daemon at one later moment."""
    run, topics, more = market.run, list(topics), random.randint(*LIVE_EVENTS)
    taken: list[Event] = []
    truth: StateSnapshot | None = None
    heartbeats = 0
    deadline_s = time.monotonic() + WAIT_S
    with Subscriber(
        run.daemon.endpoint, query_endpoint=run.daemon.query_endpoint, topics=[*topics, "heartbeat"]
    ) as sub:
        for event in sub:
            assert isinstance(event, Event)
            assert time.monotonic() < deadline_s, f"{len(taken)} events came, {sub.counts}"
            if event.topic != "heartbeat":
                taken.append(event)
            elif truth is None and sub.position is not None:
                truth = own_snapshot(run) if heartbeats or len(taken) >= more else None
                heartbeats += 1
            elif truth is not None and event.ts > truth.ts and confirmed(sub) >= truth.offset:
                break  # a heartbeat alone says nothing of events that wait for the journal
        counts = dict(sub.counts)
    assert truth is not None
    state, end = Folded(), named(truth.seqs)
    for event in taken:
        if event.snapshot or is_before(event.topic, event.body, truth.offset, end):
            state.take(event.kind, event.body)
    found = compare(state, truth, topics, market.ignored)
    return found + [f"{name}: {counts[name]}" for name in ("lost", "decode_errors") if counts.get(name)]


def disturb(market: Market, random: Random) -> None:
    """Now and then, have something happen besides the usual trading."""
    simulator = getattr(market.run.daemon._source.factory, "__self__", None)  # noqa: SLF001
    assert isinstance(simulator, Simulator)
    simulator.inject("null" if market.trouble == NULLS else "burst", random.choice((1, 5, 40)))


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_plain_join_at_a_random_moment_ends_in_the_daemons_own_state(market: Market, batch: int) -> None:
    random = Random(batch)  # noqa: S311 - chance that can be repeated is the point
    with context() as own:
        for number in range(JOINS // BATCHES // 2):
            if random.random() < 0.3:
                disturb(market, random)
            topics = random.choice(TOPICS)
            with closing(PlainJoin(own, market, topics, random)) as join:
                found = join.result()
            assert not found, f"join {number} of {topics}: {found}"


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_join_of_the_client_at_a_random_moment_ends_in_the_daemons_own_state(market: Market, batch: int) -> None:
    random = Random(100 + batch)  # noqa: S311
    for number in range(JOINS // BATCHES // 2):
        if random.random() < 0.3:
            disturb(market, random)
        topics = random.choice(TOPICS)
        found = client_join(market, topics, random)
        assert not found, f"join {number} of {topics}: {found}"


def test_the_comparison_notices_what_is_missing_too_much_or_different(market: Market) -> None:
    """A proof that cannot fail proves nothing."""
    truth = own_snapshot(market.run)
    state = Folded()
    state.rows = rows_of(truth)
    assert compare(state, truth, ["*"]) == []
    place = next(place for place in state.rows if place[0] == "trade")
    row = state.rows.pop(place)
    assert compare(state, truth, ["*"]) == [f"only in the daemon: {place}"]
    state.rows[place] = {**row, "sl": 123.0}
    assert "differs in {'sl'" in compare(state, truth, ["*"])[0]
    state.rows[place] = row
    state.rows["trade", -1] = row
    assert compare(state, truth, ["*"]) == ["only built from events: ('trade', -1)"]
