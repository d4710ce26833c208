"""A broken or hostile daemon: the client raises ClientError or puts out notices, nothing else, and stays bounded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from mt4pump.cli.arguments import TopicFilter
from mt4pump.cli.stream import StreamStats
from mt4pump.client import ClientError, Query
from mt4pump.client.event import HELD_BYTES_LIMIT, LOST, MALFORMED, QUERY_FAILED, SILENT
from mt4pump.client.liveness import INTERVAL_MAX_S, SILENT_INTERVALS
from mt4pump.client.ordering import StreamOptions
from mt4pump.client.query import (
    EMPTY_PAGES_MAX,
    FRAMES_MAX,
    STRAYS_LIMIT,
    Ask,
    QueryConnection,
    QueryError,
    SnapshotLimits,
)
from mt4pump.client.topic_state import QUOTE_KEPT_BYTES
from tests.bus import context
from tests.client.daemon_model import DaemonModel
from tests.client.fake_daemon import LIMIT_S, FakeDaemon
from tests.client.harness import Harness
from tests.fuzz.client import INF, NAN, fuzz

Head = dict[str, Any]
Lie = Callable[[Head, Head, list[bytes]], tuple[Head, list[bytes]]]
BODY = {"epoch": 1_000, "seq": 2, "ts": 5, "offset": 2}
IMPOSSIBLE = ("x", None, [1], {"a": 1}, True, 1.5, NAN, INF, -1, 2**63, 2**64 - 1, b"1")


def test_no_malformed_message_does_more_than_be_counted(tmp_path: Path) -> None:
    run = fuzz(1_500, 7, tmp_path)
    assert run.seen["events"] > 0
    assert run.seen[MALFORMED] > 0
    assert run.seen[QUERY_FAILED] > 0
    assert run.seen["refused: bad_reply"] > 0
    assert run.seen["refused: position"] > 0


@pytest.mark.parametrize("value", IMPOSSIBLE, ids=repr)
@pytest.mark.parametrize("field", ["epoch", "seq", "ts", "offset"])
def test_an_event_with_an_impossible_number_is_dropped_and_the_next_one_comes(field: str, value: object) -> None:
    harness = Harness("trade.*").live()
    harness.receive((b"trade.9", msgpack.packb({**BODY, field: value})))
    assert harness.notices(MALFORMED) == [(MALFORMED, "", 1)]
    harness.receive(harness.model.event("trade.1"))
    assert harness.events() == [("trade.1", 1)]


@pytest.mark.parametrize(
    "fields",
    [
        *({"uptime_s": odd} for odd in (NAN, INF, -1.0, 1e300, "x")),
        *({"interval_s": odd} for odd in (NAN, INF, -1, "x", [1])),
        *({"offset": odd} for odd in ("x", -1, 1e300, 2**63)),
        *({"log": 5}, {"log": []}, {"state": {}}, {"server": 5}, {"version": []}, {"reason": {}}, {"durable": "x"}),
        *({"last_quote_ts": "x"}, {"last_quote_ts": NAN}, {"journal": "x"}, {"journal": {"unstored": "x"}}),
        *({"slow_readers": 3}, {"slow_readers": {"messages": [1]}}),
    ],
    ids=repr,
)
def test_a_heartbeat_that_says_something_impossible_proves_nothing(fields: Head) -> None:
    harness = Harness("*").live()
    before = harness.stream.monitor.status(harness.now_s)
    harness.receive(harness.model.heartbeat(**fields))
    assert harness.notices(MALFORMED) == [(MALFORMED, "", 1)]
    assert harness.stream.monitor.status(harness.now_s).body == before.body
    harness.receive(harness.model.event("trade.1"), harness.model.heartbeat())
    assert harness.events() == [("trade.1", 1)]


def test_malformed_messages_by_the_thousand_make_one_notice_a_minute() -> None:
    harness = Harness("trade.*").live()
    for _ in range(50):
        harness.receive(*[(b"trade.1", b"\xc1")] * 100)
    assert harness.notices(MALFORMED) == [(MALFORMED, "", 100)]
    harness.wait(60.0)
    harness.receive((b"trade.1", b"\xc1"))
    assert harness.notices(MALFORMED)[1:] == [(MALFORMED, "", 4_901)]


def test_a_topic_that_begins_like_a_heartbeat_waits_for_nothing() -> None:
    harness = Harness("*").live()
    harness.receive((b"heartbeat..", msgpack.packb(BODY)), harness.model.event("trade.1"), harness.model.heartbeat())
    assert harness.events() == [("trade.1", 1)]
    assert not harness.stream.ordering.held


@pytest.mark.parametrize(
    ("interval_s", "patience_s"), [(1e300, 5), (1e9, 5), (INTERVAL_MAX_S, SILENT_INTERVALS * INTERVAL_MAX_S)]
)
def test_no_interval_makes_a_dead_daemon_alive(interval_s: float, patience_s: float) -> None:
    harness = Harness("*").live()
    harness.receive(harness.model.heartbeat(interval_s=interval_s))
    assert harness.stream.monitor.status(harness.now_s + patience_s - 1).alive
    harness.now_s += patience_s + 1
    harness.stream.set_drained(harness.now_s)
    harness.collect()
    assert not harness.stream.monitor.status(harness.now_s).alive
    assert [kind for kind, _, _ in harness.notices(SILENT)] == [SILENT]


def test_events_that_wait_are_bounded_in_bytes() -> None:
    harness = Harness("*", options=StreamOptions(hold_limit=10**9))
    harness.answering = False
    harness.receive(harness.model.heartbeat())
    harness.refuse("busy")
    harness.stream.recovery.steps.discard = False
    size = 2**20
    events = 0
    while not harness.stream.is_full:
        harness.receive(harness.model.event("news.1", body="x" * size))
        events += 1
    assert HELD_BYTES_LIMIT // size - 1 <= events <= HELD_BYTES_LIMIT // size


def test_quotes_with_giant_bodies_are_not_remembered() -> None:
    harness = Harness("quote.*").live()
    harness.receive(harness.model.event("quote.A"), harness.model.event("quote.B", pad="x" * QUOTE_KEPT_BYTES))
    assert len(harness.events("quote")) == 2
    assert set(harness.stream.ordering.quotes) == {"A"}


class LyingDaemon(DaemonModel):
    """``lie`` makes another head and other frames of each reply to ``op``."""

    op = ""

    lie: Lie

    def answer(self, request: Head) -> list[bytes]:
        head, *frames = super().answer(request)
        if request["op"] != self.op:
            return [head, *frames]
        lied, frames = self.lie(request, msgpack.unpackb(head), frames)
        return [msgpack.packb(lied), *frames]


@pytest.fixture
def liar() -> Iterator[tuple[LyingDaemon, Query]]:
    model = LyingDaemon()
    for number in range(12):
        model.event(f"trade.{number}")
        model.event(f"quote.S{number}")
    with FakeDaemon(model) as daemon:
        assert daemon.query_endpoint is not None
        limits = SnapshotLimits(pages=500, rows=1_000, size_bytes=2**20)
        with Query(daemon.query_endpoint, timeout_s=LIMIT_S, snapshot_limits=limits) as query:
            yield model, query


def lying(model: LyingDaemon, op: str, lie: Lie) -> None:
    model.op, model.lie = op, lie


def refused(ask: Callable[[], object]) -> str:
    with pytest.raises(ClientError) as caught:
        ask()
    return caught.value.code


def row(**fields: Any) -> list[bytes]:
    return [b"trade.1", msgpack.packb({**BODY, **fields})]


@pytest.mark.parametrize(
    "fields",
    [
        *({"seqs": "x"}, {"seqs": None}, {"seqs": {"trade.1": "x"}}, {"seqs": {"trade.1": -1}}, {"seqs": []}),
        *({"offset": "x"}, {"epoch": NAN}, {"ts": "x"}, {"cursor": 5}, {"cursor": "x" * 5_000}, {"log": 7}),
    ],
    ids=repr,
)
def test_a_snapshot_with_an_impossible_head_is_refused(liar: tuple[LyingDaemon, Query], fields: Head) -> None:
    model, query = liar
    lying(model, "snapshot", lambda _request, head, frames: ({**head, **fields}, frames))
    assert refused(query.snapshot) == "bad_reply"
    assert query.describe()["protocol"] == 1


@pytest.mark.parametrize("body", [b"", b"\xc1\xff", b"\x91\x01", b"\x05", msgpack.packb({"epoch": "x"})], ids=repr)
@pytest.mark.parametrize("op", ["snapshot", "replay"])
def test_a_page_with_a_row_that_is_none_is_refused(liar: tuple[LyingDaemon, Query], op: str, body: bytes) -> None:
    model, query = liar
    lying(model, op, lambda _request, head, _frames: (head, [b"trade.1", body]))
    assert refused(query.snapshot if op == "snapshot" else lambda: list(query.replay(after=0))) == "bad_reply"


@pytest.mark.parametrize("kinds", ["x", [], None, 5], ids=repr)
def test_a_description_with_impossible_kinds_is_refused(liar: tuple[LyingDaemon, Query], kinds: object) -> None:
    model, query = liar
    lying(model, "describe", lambda _request, head, frames: ({**head, "kinds": kinds}, frames))
    assert refused(query.describe) == "bad_reply"


def test_a_cursor_that_stands_still_is_refused(liar: tuple[LyingDaemon, Query]) -> None:
    model, query = liar
    lying(model, "snapshot", lambda _request, head, frames: ({**head, "cursor": "0"}, frames))
    assert refused(query.snapshot) == "bad_reply"


def test_a_snapshot_without_end_is_refused_once_it_is_beyond_its_limits(liar: tuple[LyingDaemon, Query]) -> None:
    model, query = liar
    pages = iter(range(10**6))

    def lie(_request: Head, head: Head, _frames: list[bytes]) -> tuple[Head, list[bytes]]:
        number = next(pages)
        return {**head, "cursor": f"{number}", "seqs": {f"trade.{number}": 1}}, row(pad="x" * 100)

    lying(model, "snapshot", lie)
    assert refused(query.snapshot) == "too_large"
    assert next(pages) == 501


@pytest.mark.parametrize(
    "lie",
    [
        lambda request, head, _frames: ({**head, "next": request["after"]}, []),
        lambda _request, head, frames: ({**head, "next": 1}, frames),
        lambda _request, head, frames: ({**head, "next": -5}, frames),
        lambda _request, head, frames: ({**head, "next": "x"}, frames),
        lambda _request, head, frames: ({**head, "next": 10**9}, frames),
        lambda _request, head, frames: ({**head, "whole": "yes"}, frames),
        lambda _request, head, frames: ({**head, "last": None}, frames),
        lambda _request, head, frames: ({name: head[name] for name in head if name != "next"}, frames),
        lambda _request, head, _frames: (head, row(offset=1) + row(offset=1)),
        lambda _request, head, _frames: (head, row(offset=0)),
        lambda _request, head, _frames: (head, row() * 5_001),
    ],
)
def test_a_replay_that_does_not_go_on_is_refused(liar: tuple[LyingDaemon, Query], lie: Lie) -> None:
    model, query = liar
    model.page_limit = 2
    lying(model, "replay", lie)
    assert refused(lambda: list(query.replay(after=0))) == "bad_reply"


def test_a_replay_of_empty_pages_comes_to_an_end(
    liar: tuple[LyingDaemon, Query], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert EMPTY_PAGES_MAX <= 10_000
    monkeypatch.setattr("mt4pump.client.query.EMPTY_PAGES_MAX", 100)  # each page is a round trip
    model, query = liar
    lying(model, "replay", lambda ask, head, _: ({**head, "next": ask["after"] + 1, "last": 2**60, "count": 0}, []))
    assert refused(lambda: list(query.replay(after=0))) == "bad_reply"


def test_a_fault_of_ours_in_a_reply_is_logged_once_a_minute_and_does_not_end_the_stream(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    harness = Harness("trade.*")
    with monkeypatch.context() as patched:
        patched.setattr(harness.stream.ordering, "apply_snapshot", lambda *_, **__: int("pigeon"))
        for _ in range(10):
            harness.receive(harness.model.heartbeat())
            harness.wait(5.0)
    (record,) = caplog.records
    assert record.getMessage() == "the reply to snapshot could not be handled"
    assert "pigeon" in (record.exc_text or ""), "with its traceback"
    assert harness.notices(QUERY_FAILED) == [(QUERY_FAILED, "", 0)]
    harness.wait(60.0)
    harness.receive(harness.model.event("trade.1"), harness.model.heartbeat())
    assert harness.events() == [("trade.1", 1)]


def test_a_stream_gives_up_on_a_journal_that_never_ends() -> None:
    harness = Harness("trade.*").live()
    harness.answering = False
    harness.receive((b"trade.1", msgpack.packb({**BODY, "seq": 5, "offset": 2**60})))
    for _ in range(10 * EMPTY_PAGES_MAX):
        ask = harness.ask()
        if ask is None:
            break
        after = ask.fields.get("after", 0)
        head, *_ = harness.make_reply()
        lied = {**msgpack.unpackb(head), "next": after + 1, "last": 2**62, "first_available": 1, "whole": True}
        harness.deliver_reply([msgpack.packb(lied)])
    harness.collect()
    assert [kind for kind, _, _ in harness.notices(QUERY_FAILED)] == [QUERY_FAILED]


def test_a_hostile_answer_does_not_keep_the_stream_from_going_on() -> None:
    harness = Harness("trade.*").live()
    harness.model.event("trade.1")
    harness.answering = False
    harness.receive(harness.model.event("trade.1"))
    for _ in range(200):
        if harness.ask() is not None:
            head, *_ = harness.make_reply()
            harness.deliver_reply([msgpack.packb({**msgpack.unpackb(head), "next": "x"})])
        harness.wait(1.0)
    assert harness.events("trade") == [("trade.1", 2)]
    assert [count for _, _, count in harness.notices(LOST)] == [1]


def test_a_reply_of_too_many_frames_is_given_up() -> None:
    with context() as made, made.socket(zmq.ROUTER) as router:
        router.bind("tcp://127.0.0.1:*")
        connection = QueryConnection(made, router.getsockopt_string(zmq.LAST_ENDPOINT), None)
        connection.send(1, Ask("describe", {}), 0.0)
        peer, _ = router.recv_multipart()
        router.send_multipart([peer, msgpack.packb({"ok": True, "id": 1}), *[b""] * (FRAMES_MAX + 1)])
        assert connection.socket.poll(int(LIMIT_S * 1000))
        with pytest.raises(QueryError, match="frames"):
            connection.receive()
        assert connection.number is None
        connection.close()


def test_replies_to_no_request_do_not_keep_receive_from_returning() -> None:
    with context() as made, made.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.SNDHWM, 0)
        router.bind("tcp://127.0.0.1:*")
        connection = QueryConnection(made, router.getsockopt_string(zmq.LAST_ENDPOINT), None)
        connection.send(7, Ask("describe", {}), 0.0)
        peer, _ = router.recv_multipart()
        for _ in range(3 * STRAYS_LIMIT):
            router.send_multipart([peer, msgpack.packb({"ok": True, "id": "another"})])
        router.send_multipart([peer, msgpack.packb({"ok": True, "id": 7})])
        assert connection.socket.poll(int(LIMIT_S * 1000))
        attempts, deadline_s = 0, time.monotonic() + LIMIT_S
        while connection.receive() is None:
            attempts += 1
            assert time.monotonic() < deadline_s
        assert attempts >= 3
        connection.close()


def test_a_request_that_cannot_be_packed_is_an_error_of_its_caller(liar: tuple[LyingDaemon, Query]) -> None:
    assert refused(lambda: list(liar[1].replay(after=10**40))) == "arguments"


def test_tail_believes_no_interval_without_end() -> None:
    stats, model = StreamStats("tcp://x", TopicFilter(()), 0.0), DaemonModel()
    stats.handle(model.heartbeat(), 0.0)
    model.ts += 10**18
    stats.handle(model.heartbeat(), 1.0)
    assert stats.heartbeat_interval_s <= 60
    model.ts += 10**18
    stats.handle(model.event("trade.1"), 2.0)
    assert stats.without_heartbeat_s(3.0) <= 3.0
