"""What stands around a query endpoint in its tests: a pump that cuts, a journal, permissions, and peers that ask."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import Any, NamedTuple

import msgpack
import zmq

from mt4pump.errors import PumpError
from mt4pump.pump.snapshot import SnapshotRequest, StateRow, StateSnapshot
from mt4pump.query.limits import QueryOptions
from mt4pump.query.replay import PageReader
from mt4pump.query.server import QueryServer
from mt4pump.wire import Body
from tests.bus import ANY_PORT, LIMIT_S, context

EPOCH, LOG, TS = 1_700_000_000_000, "log-of-the-tests", 1_700_000_000_000_000_000
ABOUT: Body = {"epoch": EPOCH, "log": LOG, "protocol": 1}


class Answer(NamedTuple):
    """One reply, unpacked."""

    head: Body
    topics: list[bytes]
    bodies: list[Any]


class Event(NamedTuple):
    """A stored event."""

    offset: int
    ts: int
    topic: bytes
    body: bytes


class Page(NamedTuple):
    """What `FakeReader` found in one step."""

    events: list[Event]
    next: int | None
    last: int
    first_available: int
    whole: bool


class FakeReader:
    """A journal in a list; it looks at ``scan`` events at most per step."""

    def __init__(self, events: Sequence[Event] = (), *, first: int = 1, scan: int = 1_000_000) -> None:
        self.events = list(events)
        self.first = first
        self.scan = scan
        self.failure: Exception | None = None
        self.closed = False
        self.steps = 0

    def page(
        self,
        *,
        after: int,
        to: int | None,
        prefixes: Sequence[bytes],
        limit: int,
        since: int | None = None,
        until: int | None = None,
    ) -> Page:
        self.steps += 1
        limit = max(1, limit)  # as the journal's has it: it gives one event at least
        if self.failure:
            raise self.failure
        whole = after >= self.first - 1
        last = self.events[-1].offset if self.events else 0
        found: list[Event] = []
        end: int | None = None
        for looked, event in enumerate(event for event in self.events if event.offset > after):
            if to is not None and event.offset > to:
                break
            if looked == self.scan or len(found) == limit:
                end = after
                break
            after = event.offset
            in_time = (since is None or event.ts >= since) and (until is None or event.ts <= until)
            if in_time and event.topic.startswith(tuple(prefixes)):
                found.append(event)
        return Page(found, end, last, self.first, whole)

    def close(self) -> None:
        self.closed = True


def stored(count: int, *, accounts: int = 10, size: int = 0) -> list[Event]:
    """Return ``count`` events of ``accounts`` accounts in turn, their bodies ``size`` bytes larger than need be."""
    return [
        Event(offset, TS + offset, b"trade.%d" % (1000 + offset % accounts), msgpack.packb([offset, b"x" * size]))
        for offset in range(1, count + 1)
    ]


class Only:
    """Permission for what starts with one of ``prefixes``."""

    def __init__(self, *prefixes: bytes, query: bool = True) -> None:
        self.prefixes = prefixes
        self.query = query

    def narrow(self, prefixes: Iterable[bytes], /) -> tuple[bytes, ...]:
        return tuple(
            sorted(
                {max(asked, own) for asked in prefixes for own in self.prefixes if asked.startswith(own)}
                | {own for asked in prefixes for own in self.prefixes if own.startswith(asked)}
            )
        )


def cut_of(rows: Mapping[bytes, Sequence[bytes | Body]], seqs: Mapping[bytes, int]) -> StateSnapshot:
    """Return a cut of ``rows`` by topic."""
    flat = [StateRow(topic, packed) for topic, some in rows.items() for packed in some]
    return StateSnapshot(epoch=EPOCH, log=LOG, offset=7, offsets={"trade": 7}, ts=TS, seqs=seqs, rows=flat)


def accounts(count: int) -> StateSnapshot:
    """Return a cut of ``count`` accounts in no order, each its own topic and row; and one topic without a row."""
    numbers = sorted(range(count), key=lambda number: (number * 7919) % 104_729)
    rows: dict[bytes, Sequence[bytes | Body]] = {
        b"user.%d" % number: [msgpack.packb({"login": number})] for number in numbers
    }
    return cut_of(rows, dict.fromkeys(rows, 3) | {b"trade.1": 9})


class FakePump:
    """Answers every request for a cut with ``cut``, on a thread of its own, as the pump does."""

    def __init__(self, cut: StateSnapshot | None = None) -> None:
        self.cut = cut or cut_of({}, {})
        self.asked: list[SnapshotRequest] = []
        self.is_mute = False

    def ask(self, request: SnapshotRequest) -> None:
        self.asked.append(request)
        if not self.is_mute:
            Thread(target=request.answer, args=(self.cut,)).start()


class Stand:
    """A live server and a context to make peers in."""

    def __init__(self, own: zmq.Context[zmq.Socket[bytes]], server: QueryServer, pump: FakePump) -> None:
        self.own = own
        self.server = server
        self.pump = pump

    def peer(self, kind: int = zmq.REQ, **options: int) -> zmq.Socket[bytes]:
        """Return a connected socket; ``options`` are set by their names before it connects."""
        socket: zmq.Socket[bytes] = self.own.socket(kind)
        for name, value in options.items():
            socket.setsockopt(getattr(zmq, name), value)
        socket.connect(self.server.endpoint)
        return socket

    def ask(self, **request: Any) -> Answer:
        """Return the answer to ``request`` of a new peer."""
        with self.peer() as socket:
            return ask(socket, **request)


def ask(socket: zmq.Socket[bytes], **request: Any) -> Answer:
    """Return the answer to ``request`` of a REQ socket."""
    socket.send(msgpack.packb(request))
    return heard(socket)


def heard(socket: zmq.Socket[bytes]) -> Answer:
    """Return the next reply at a REQ socket; fail when none comes."""
    assert socket.poll(int(LIMIT_S * 1000)), "no reply came"
    return answer_of(socket.recv_multipart())


def answer_of(frames: Sequence[bytes]) -> Answer:
    """Return frames, envelope aside, as an answer."""
    head = msgpack.unpackb(frames[0])
    return Answer(head, list(frames[1::2]), [msgpack.unpackb(body, strict_map_key=False) for body in frames[2::2]])


class Bench(NamedTuple):
    """What `stand` is made of; every part has a plain default, but a page has time: the machine may stand still."""

    options: QueryOptions = QueryOptions(page_s=LIMIT_S)
    pump: FakePump | None = None
    reader: PageReader | None = None
    allowed: Callable[[str], Only] = lambda _user: Only(b"")
    describe: Callable[[], Body] = lambda: dict(ABOUT)
    secure: Callable[[zmq.Socket[bytes]], None] = lambda _socket: None


@contextmanager
def stand(made: Bench = Bench()) -> Iterator[Stand]:  # noqa: B008 - immutable
    """Give a running server; it must end without a crash."""
    with context() as own:
        pump = made.pump or FakePump()
        server = QueryServer(
            own,
            ANY_PORT,
            options=made.options,
            secure=made.secure,
            allowed=made.allowed,
            ask_cut=pump.ask,
            reader=made.reader,
            describe=made.describe,
        )
        server.start()
        try:
            yield Stand(own, server, pump)
        finally:
            server.stop()
            server.join(LIMIT_S)
            assert not server.is_alive()
        assert server.crash is None


class Broken(PumpError):
    """The journal's trouble."""


@contextmanager
def curve_stand(user: str, allowed: Callable[[str], Only]) -> Iterator[tuple[Stand, zmq.Socket[bytes]]]:
    """Give a CURVE server whose ZAP handler calls every client ``user``, and a REQ socket with a key of its own."""
    public, secret = zmq.curve_keypair()

    def secure(socket: zmq.Socket[bytes]) -> None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, b"tests")
        door = socket.context.socket(zmq.REP)
        door.bind("inproc://zeromq.zap.01")
        Thread(target=admit, args=(door, user.encode())).start()

    with stand(Bench(secure=secure, allowed=allowed)) as at, at.own.socket(zmq.REQ) as socket:
        own_public, own_secret = zmq.curve_keypair()
        socket.setsockopt(zmq.CURVE_SERVERKEY, public)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, own_public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, own_secret)
        socket.connect(at.server.endpoint)
        yield at, socket


def admit(door: zmq.Socket[bytes], user: bytes) -> None:
    """Let one client in, as ``user`` (RFC 27)."""
    with door:
        if door.poll(int(LIMIT_S * 1000)):
            version, request, *_ = door.recv_multipart()
            door.send_multipart([version, request, b"200", b"OK", user, b""])
