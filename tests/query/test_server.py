"""A real ROUTER and real clients: every op, every envelope, permissions, cursors; no client delays another one.

Private access: the snapshots that the server holds, because a request for one would renew it; the socket, because only
its own thread may close it; and the wait for requests, because its failure ends the thread.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from threading import Thread

import msgpack
import pytest
import zmq

from mt4pump.errors import BindError
from mt4pump.query.handlers import QuerySources
from mt4pump.query.limits import QueryOptions
from mt4pump.query.server import QueryServer
from mt4pump.security import EVERYTHING, Permissions
from mt4pump.security.zap import FAILURES_LIMIT
from mt4pump.wire import Body
from tests.bus import ANY_PORT, LIMIT_S, context, until, wire_settings
from tests.query.endpoint import (
    DESCRIPTION,
    EPOCH,
    LOG,
    UNDISTURBED,
    BrokenJournalError,
    FakePump,
    FakeReader,
    Reply,
    Setup,
    accounts,
    ask,
    curve_endpoint,
    receive_reply,
    serving,
    snapshot_of,
    stored,
    unpack_reply,
)


def test_a_plain_req_socket_is_all_it_takes() -> None:
    """The example of PROTOCOL.md, in ten lines."""
    with serving(Setup(reader=FakeReader(stored(5)))) as at, zmq.Context() as own, own.socket(zmq.REQ) as socket:
        socket.connect(at.server.endpoint)
        after = 0
        while after is not None:
            socket.send(msgpack.packb({"op": "replay", "topics": ["trade."], "after": after, "limit": 2}))
            packed, *frames = socket.recv_multipart()
            head = msgpack.unpackb(packed)
            assert head["ok"], head["error"]
            for topic, body in zip(frames[::2], frames[1::2], strict=True):
                assert topic.startswith(b"trade.100")
                assert msgpack.unpackb(body)[0] > after
            after = head["next"]


def test_describe_returns_the_description() -> None:
    with serving() as at:
        assert at.ask(op="describe") == Reply({**DESCRIPTION, "ok": True}, [], [])


@pytest.mark.parametrize("name", [0, "a name", b"\xff", None, 1.5])
@pytest.mark.parametrize("op", ["describe", "snapshot", "replay", "nonsense"])
def test_the_id_of_a_request_comes_back(op: str, name: object) -> None:
    with serving(Setup(reader=FakeReader())) as at:
        assert at.ask(op=op, id=name).head["id"] == name


def test_a_snapshot_over_the_wire() -> None:
    pump = FakePump(snapshot_of({b"quote.EURUSD": [{"bid": 1.5}], b"user.1": [{}]}, {b"quote.EURUSD": 3}))
    with serving(Setup(pump=pump)) as at:
        head, topics, bodies = at.ask(op="snapshot", topics=["quote."])
    assert (head["ok"], head["offset"], head["seqs"], head["cursor"]) == (True, 7, {"quote.EURUSD": 3}, None)
    assert topics == [b"quote.EURUSD"]
    assert (bodies[0]["bid"], bodies[0]["seq"], bodies[0]["snapshot"]) == (1.5, 3, True)
    assert [request.prefixes for request in pump.requests] == [(b"quote.",)]
    assert (at.server.counts["cuts"], at.server.counts["events"]) == (1, 1)


def test_pages_are_of_one_snapshot() -> None:
    pump = FakePump(accounts(100))
    with serving(Setup(pump=pump)) as at, at.peer() as socket:
        page = ask(socket, op="snapshot", limit=30)
        seen = [*page.topics]
        while page.head["cursor"]:
            pump.snapshot = snapshot_of({}, {})
            page = ask(socket, op="snapshot", cursor=page.head["cursor"], limit=30)
            seen += page.topics
    assert seen == sorted(b"user.%d" % number for number in range(100))
    assert len(pump.requests) == 1


def test_a_page_that_was_missed_can_be_asked_for_again() -> None:
    with serving(Setup(pump=FakePump(accounts(50)))) as at, at.peer() as socket:
        cursor = ask(socket, op="snapshot", limit=30).head["cursor"]
        last = ask(socket, op="snapshot", limit=30, cursor=cursor)
        assert last.head["cursor"] is None
        assert ask(socket, op="snapshot", limit=30, cursor=cursor) == last


def test_a_cursor_is_of_no_use_to_another_peer() -> None:
    with serving(Setup(pump=FakePump(accounts(50)))) as at, at.peer() as socket:
        cursor = ask(socket, op="snapshot", limit=30).head["cursor"]
        assert at.ask(op="snapshot", cursor=cursor).head["code"] == "cursor_expired"
        assert ask(socket, op="snapshot", cursor=cursor).head["ok"]


def test_a_ninth_snapshot_is_refused_to_wait_but_one_of_a_single_page_is_not() -> None:
    with serving(Setup(pump=FakePump(accounts(50)))) as at:
        for _ in range(8):
            assert at.ask(op="snapshot", limit=30).head["ok"]
        assert at.ask(op="snapshot", limit=30).head["code"] == "busy"
        assert at.ask(op="snapshot").head["ok"]


def test_a_kept_snapshot_expires() -> None:
    with serving(Setup(QueryOptions(snapshot_idle_s=0.01), FakePump(accounts(50)))) as at, at.peer() as socket:
        cursor = ask(socket, op="snapshot", limit=30).head["cursor"]
        until(lambda: not len(at.server._handler.snapshots), "the snapshot is forgotten without a request")  # noqa: SLF001
        assert ask(socket, op="snapshot", cursor=cursor).head["code"] == "cursor_expired"


def test_a_pump_that_makes_no_snapshot_fails_that_request_alone() -> None:
    pump = FakePump()
    pump.is_mute = True
    with serving(Setup(QueryOptions(snapshot_wait_s=0.05), pump)) as at:
        refused = at.ask(op="snapshot").head
        assert (refused["code"], "ask again" in refused["error"]) == ("busy", True)
        assert not pump.requests[0].is_open
        assert at.ask(op="describe").head["ok"]


def test_a_replay_over_the_wire() -> None:
    with serving(Setup(reader=FakeReader(stored(10)))) as at:
        head, topics, bodies = at.ask(op="replay", after=3, limit=4, topics=["trade."])
        assert head == {
            "ok": True,
            "epoch": EPOCH,
            "log": LOG,
            "whole": True,
            "first_available": 1,
            "next": 7,
            "last": 10,
            "count": 4,
        }
        assert [body[0] for body in bodies] == [4, 5, 6, 7]
        assert topics[0] == b"trade.1004"
        counts = at.server.counts
        assert {name: counts[name] for name in ("requests", "errors", "dropped", "events", "cuts")} == {
            "requests": 1,
            "errors": 0,
            "dropped": 0,
            "events": 4,
            "cuts": 0,
        }


def test_without_a_journal_there_is_no_replay() -> None:
    with serving() as at:
        assert at.ask(op="replay").head["code"] == "no_journal"
        assert at.server.counts["errors"] == 1


def test_a_broken_journal_is_refused_and_the_rest_goes_on() -> None:
    reader = FakeReader(stored(3))
    with serving(Setup(reader=reader)) as at:
        reader.failure = BrokenJournalError("the file is damaged")
        refused = at.ask(op="replay").head
        assert (refused["code"], refused["error"]) == ("journal_error", "the file is damaged")
        reader.failure = None
        assert at.ask(op="replay").head["count"] == 3


@pytest.mark.parametrize("error", [RuntimeError("secret detail"), KeyError("x"), MemoryError()])
def test_an_error_of_our_own_is_answered_counted_and_keeps_its_details_to_the_log(error: Exception) -> None:
    def describe() -> Body:
        raise error

    with serving(Setup(describe=describe)) as at:
        refused = at.ask(op="describe", id=5).head
        assert (refused["code"], refused["id"]) == ("internal_error", 5)
        assert "secret" not in refused["error"]
        assert at.ask(op="snapshot").head["ok"]


def test_a_description_that_cannot_be_packed_is_an_internal_error() -> None:
    with serving(Setup(describe=lambda: {"path": object()})) as at:
        assert at.ask(op="describe").head["code"] == "internal_error"
        assert at.ask(op="snapshot").head["ok"]


def test_a_client_gets_only_what_it_may_read() -> None:
    pump = FakePump(snapshot_of({b"user.1": [{}], b"user.2": [{}], b"quote.A": [{}]}, {b"trade.1": 1}))
    with serving(
        Setup(pump=pump, reader=FakeReader(stored(20)), permissions=lambda _: Permissions((b"user.1", b"trade.1003")))
    ) as at:
        assert at.ask(op="snapshot").topics == [b"user.1"]
        assert pump.requests[0].prefixes == (b"trade.1003", b"user.1")
        assert at.ask(op="snapshot", topics=["user."]).topics == [b"user.1"]
        assert set(at.ask(op="replay").topics) == {b"trade.1003"}
        for op in ("snapshot", "replay"):
            assert at.ask(op=op, topics=["quote."]).head["code"] == "forbidden"
        assert at.ask(op="describe").head["ok"]


def test_a_kept_snapshot_ends_with_the_permission_for_it() -> None:
    allowed = [Permissions((b"user.",))]
    with serving(Setup(pump=FakePump(accounts(50)), permissions=lambda _: allowed[0])) as at, at.peer() as socket:
        cursor = ask(socket, op="snapshot", limit=10).head["cursor"]
        assert ask(socket, op="snapshot", limit=10, cursor=cursor).head["ok"]
        allowed[0] = Permissions((b"user.1",))
        assert ask(socket, op="snapshot", cursor=cursor).head["code"] == "cursor_expired"


@pytest.mark.parametrize(
    "envelope",
    [[], [b""], [b"hop", b""], [b"\0\0\0\7", b""], [b"a", b"b", b"c", b""]],
    ids=str,
)
def test_the_envelope_comes_back_as_it_went(envelope: list[bytes]) -> None:
    with serving() as at, at.peer(zmq.DEALER) as socket:
        socket.send_multipart([*envelope, msgpack.packb({"op": "describe"})])
        assert socket.poll(int(LIMIT_S * 1000))
        frames = socket.recv_multipart()
        assert frames[: len(envelope)] == envelope
        assert unpack_reply(frames[len(envelope) :]).head["ok"]


def test_a_correlating_req_socket_is_answered() -> None:
    with serving() as at, at.peer(REQ_CORRELATE=1, REQ_RELAXED=1) as socket:
        assert ask(socket, op="describe").head["ok"]


@pytest.mark.parametrize(
    "frames",
    [[b""], [b"", b""], [b"a", b"b", b"c"], [b"", b"a", b"b"], [b"x"] * 50, [b""] * 50, [b"x" * 300, b"", b"y"]],
    ids=lambda frames: f"{len(frames)} of {frames[0][:3]!r}",
)
def test_frames_that_are_no_request_are_answered_too(frames: list[bytes]) -> None:
    with serving() as at, at.peer(zmq.DEALER) as socket:
        socket.send_multipart(frames)
        assert socket.poll(int(LIMIT_S * 1000))
        refused = msgpack.unpackb(next(frame for frame in socket.recv_multipart() if frame))
        assert refused["code"] == "bad_request"
        assert at.ask(op="describe").head["ok"]


@pytest.mark.not_under_wine("a message of many frames takes Wine long")
def test_a_message_of_very_many_frames_is_read_to_its_end_and_answered() -> None:
    with serving() as at, at.peer(zmq.DEALER) as socket:
        socket.send_multipart([b"x"] * 2_000)
        assert socket.poll(int(LIMIT_S * 1000))
        assert unpack_reply(socket.recv_multipart()).head["code"] == "bad_request"


def test_a_request_that_is_a_little_too_large_is_refused_so_and_a_huge_one_ends_its_connection() -> None:
    with serving() as at:
        with at.peer() as socket:
            socket.send(b"x" * 100_000)
            assert receive_reply(socket).head["code"] == "too_large"
        with at.peer() as socket:
            monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            socket.send(b"x" * 1_000_000)
            assert monitor.poll(int(LIMIT_S * 1000)), "the server never hung up"
            assert not socket.poll(0)
            socket.disable_monitor()
        assert at.ask(op="describe").head["ok"]


def test_a_peer_that_never_reads_costs_one_page_and_another_one_is_answered_meanwhile() -> None:
    """100 pages of 2 MiB are asked for and none is read: of those one is built, the others are refused in the end."""
    reader = FakeReader(stored(200, size=10_000))
    options = QueryOptions(page_bytes=2**21, page_s=LIMIT_S, waiting_s=0.5)
    request = msgpack.packb({"op": "replay", "limit": 10_000})
    with serving(Setup(options, reader=reader)) as at, at.peer(zmq.DEALER, RCVHWM=1, RCVBUF=4096, SNDHWM=0) as slow:
        for _ in range(100):
            slow.send_multipart([b"", request])
        counts = at.server.counts
        until(lambda: counts["unread_bytes"] and counts["busy"] and not counts["waiting"], "what waited is refused")
        for _ in range(20):
            assert at.ask(op="describe").head["ok"]
        built = counts["events"] // 200
        assert built + counts["busy"] == 100
        assert built < 20  # what the system buffers, and one
        assert reader.steps <= 2 * (built + 1)  # nothing is read for a reply that cannot go
        pages = 0
        while pages < built:
            assert slow.poll(int(LIMIT_S * 1000)), "a page that was built did not come"
            pages += "next" in msgpack.unpackb(slow.recv_multipart()[1])
        until(lambda: not counts["unread_bytes"], "all is read")
        assert at.ask(op="replay").head["ok"]


def test_a_peer_that_left_before_its_answer_is_counted() -> None:
    pump = FakePump()
    pump.is_mute = True
    with serving(Setup(pump=pump)) as at:
        with at.peer() as busy, at.peer(zmq.DEALER, LINGER=1000) as gone:
            busy.send(msgpack.packb({"op": "snapshot"}))
            until(lambda: pump.requests, "the server is busy")
            gone.send_multipart([b"", msgpack.packb({"op": "describe"})])
            pump.requests[0].answer(pump.snapshot)
            receive_reply(busy)
        assert at.ask(op="describe").head["ok"]


@pytest.mark.parametrize("is_busy", [False, True], ids=["idle", "waiting for the pump"])
def test_stop_ends_the_thread_and_closes_everything(*, is_busy: bool) -> None:
    reader, pump = FakeReader(), FakePump()
    pump.is_mute = True
    with serving(Setup(reader=reader, pump=pump)) as at, at.peer(LINGER=0) as socket:
        if is_busy:
            socket.send(msgpack.packb({"op": "snapshot"}))
            until(lambda: pump.requests, "the server waits for a snapshot")
        at.server.stop()
        at.server.join(LIMIT_S)
        assert not at.server.is_alive()
        assert (at.server.crash, reader.closed, at.server._socket.closed) == (None, True, True)  # noqa: SLF001


def test_stop_ends_a_page_in_the_making() -> None:
    endless = FakeReader(stored(2_000), scan=1)
    options = QueryOptions(page_s=1e9, page_bytes=10**12, slice_rows=1)
    with serving(Setup(options, reader=endless)) as at, at.peer(LINGER=0) as socket:
        socket.send(msgpack.packb({"op": "replay", "topics": ["nothing."]}))
        until(lambda: endless.steps, "the page was started")
        at.server.stop()
        at.server.join(LIMIT_S)
        assert not at.server.is_alive()


def test_a_context_that_ends_before_the_thread_gets_all_its_sockets_closed() -> None:
    own: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    server = made(own, ANY_PORT)
    server.start()
    ending = Thread(target=own.term, daemon=True)  # as of a daemon that has waited long enough for the thread
    ending.start()
    server.join(LIMIT_S)
    ending.join(LIMIT_S)
    assert (server.is_alive(), ending.is_alive(), server.crash) == (False, False, None)


def test_a_server_that_never_ran_releases_its_address() -> None:
    with context() as own:
        first = made(own, ANY_PORT)
        first.stop()

        def is_free() -> bool:
            with suppress(BindError):
                made(own, first.endpoint).stop()
                return True
            return False

        until(is_free, "the address is free: libzmq lets go of it in its own time")


def made(own: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> QueryServer:
    """Return a server that was not started."""
    sources = QuerySources(lambda _user: EVERYTHING, FakePump().request, None, dict, UNDISTURBED)
    return QueryServer(own, endpoint, wire_settings(), QueryOptions(), sources, secure=lambda _socket: None)


@pytest.mark.not_under_wine(
    "asks psutil whose a socket or a process is: Wine 8 does not know, or searches the whole host for minutes"
)
def test_an_address_that_is_taken_is_named_with_its_setting() -> None:
    with serving() as at, pytest.raises(BindError, match=rf"query_endpoint {at.server.endpoint} is taken by .+pid"):
        made(at.own, at.server.endpoint)


@pytest.mark.skipif(sys.platform == "win32", reason="no ipc:// there")
def test_an_ipc_address_that_is_taken_is_not_taken_over(tmp_path: object) -> None:
    with context() as own:
        first = made(own, f"ipc://{tmp_path}/query")
        with pytest.raises(BindError, match="query_endpoint"):
            made(own, first.endpoint)
        first.stop()


@pytest.mark.parametrize("endpoint", ["tcp://192.0.2.1:5557", "nonsense", "pgm://x"])
def test_an_address_that_cannot_be_bound_is_named_with_its_setting(endpoint: str) -> None:
    with context() as own, pytest.raises(BindError, match=f"query_endpoint {endpoint}"):
        made(own, endpoint)


def test_the_socket_is_secured_before_it_is_bound() -> None:
    def refuse(socket: zmq.Socket[bytes]) -> None:
        assert not socket.getsockopt_string(zmq.LAST_ENDPOINT).strip("\0")
        raise LookupError("no key")

    with pytest.raises(LookupError), serving(Setup(secure=refuse)):
        pass


def test_the_name_that_curve_gives_a_client_reaches_the_permissions() -> None:
    asked: list[str] = []

    def allowed(user: str) -> Permissions:
        asked.append(user)
        return Permissions((b"",))

    with curve_endpoint("dealer", allowed) as (at, socket):
        assert ask(socket, op="snapshot").head["ok"]
        assert set(asked) == {"dealer"}
        assert at.server.counts["requests"] == 1


def test_a_client_without_the_right_to_ask_gets_no_answer_but_why() -> None:
    with curve_endpoint("tv", lambda _: Permissions((b"",), query=False)) as (_, socket):
        for op in ("describe", "snapshot", "replay"):
            refused = ask(socket, op=op).head
            assert (refused["code"], "'tv'" in refused["error"]) == ("forbidden", True)


def test_the_thread_ends_without_a_log_line_when_its_socket_is_closed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as at:

        def close_from_within() -> bool:
            at.server._socket.close(0)  # noqa: SLF001
            raise zmq.ZMQError(zmq.ENOTSUP)

        caplog.set_level("DEBUG", logger="mt4pump.query")
        monkeypatch.setattr(at.server, "_poll", close_from_within)
        at.server.join(LIMIT_S)
        assert not at.server.is_alive()
        assert caplog.records == []


def test_a_thread_that_fails_without_end_backs_off_and_ends_with_a_crash(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> bool:
        raise OSError("broken on purpose")

    monkeypatch.setattr("mt4pump.security.zap.PAUSE_LIMIT_S", 0.0)
    with serving() as at:
        monkeypatch.setattr(at.server, "_poll", fail)
        at.server.join(LIMIT_S)
        assert isinstance(at.server.crash, OSError)
        assert at.server.counts["dropped"] == FAILURES_LIMIT
        at.server.crash = None  # the end of `serving` expects none
    assert len([record for record in caplog.records if record.name.startswith("mt4pump.query")]) == 2
