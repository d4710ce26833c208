"""A query endpoint for tests: a pump that makes snapshots, a journal in a list, permissions, and clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import Any, NamedTuple

import msgpack
import zmq

from mt4pump.errors import PumpError
from mt4pump.journal import JournalPage, JournalReader, Replayed, Stored
from mt4pump.pump.snapshot import SnapshotRequest, StateRow, StateSnapshot
from mt4pump.query.handlers import QuerySources
from mt4pump.query.limits import QueryOptions, YieldToPump
from mt4pump.query.server import QueryServer
from mt4pump.security import EVERYTHING, Permissions
from mt4pump.settings import Settings
from mt4pump.wire import Body
from tests.bus import ANY_PORT, LIMIT_S, context, wire_settings

EPOCH, LOG, TS = 1_700_000_000_000, "log-of-the-tests", 1_700_000_000_000_000_000
DESCRIPTION: Body = {"epoch": EPOCH, "log": LOG, "protocol": 1}


UNDISTURBED = YieldToPump(lambda: False)
"""What yields to a pump that is always idle."""


class Reply(NamedTuple):
    """One reply, unpacked."""

    head: Body
    topics: list[bytes]
    bodies: list[Any]


class BrokenJournalError(PumpError):
    """The error of a journal that cannot be read."""


class FakeReader(JournalReader):
    """A journal in a list; it searches ``scan`` events at most per step."""

    def __init__(self, events: Sequence[Stored] = (), *, first: int = 1, scan: int = 1_000_000) -> None:
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
        to: int | None = None,
        prefixes: Sequence[bytes] = (),
        limit: int = 10_000,
        since: int | None = None,
        until: int | None = None,
    ) -> JournalPage:
        self.steps += 1
        limit = max(1, limit)  # as the journal does: a page has one event at least
        if self.failure:
            raise self.failure
        whole = after >= self.first - 1
        last = self.events[-1].offset if self.events else 0
        found: list[Replayed] = []
        end: int | None = None
        for searched, event in enumerate(event for event in self.events if event.offset > after):
            if to is not None and event.offset > to:
                break
            if searched == self.scan or len(found) == limit:
                end = after
                break
            after = event.offset
            in_time = (since is None or event.ts >= since) and (until is None or event.ts <= until)
            if in_time and event.topic.startswith(tuple(prefixes)):
                found.append(Replayed(event.offset, event.topic, event.body))
        return JournalPage(found, end, last, self.first, whole, LOG)

    def close(self) -> None:
        self.closed = True


def stored(count: int, *, accounts: int = 10, size: int = 0) -> list[Stored]:
    """Return ``count`` events of ``accounts`` accounts in turn, their bodies about ``size`` bytes large."""
    return [
        Stored(offset, TS + offset, b"trade.%d" % (1000 + offset % accounts), msgpack.packb([offset, b"x" * size]))
        for offset in range(1, count + 1)
    ]


def snapshot_of(rows: Mapping[bytes, Sequence[bytes | Body]], seqs: Mapping[bytes, int]) -> StateSnapshot:
    """Return a snapshot of ``rows`` by topic."""
    flat = [StateRow(topic, packed) for topic, some in rows.items() for packed in some]
    return StateSnapshot(epoch=EPOCH, log=LOG, offset=7, offsets={"trade": 7}, ts=TS, seqs=seqs, rows=flat)


def accounts(count: int) -> StateSnapshot:
    """Return a snapshot of ``count`` accounts in no order, each its own topic and row, and one topic without a row."""
    numbers = sorted(range(count), key=lambda number: (number * 7919) % 104_729)
    rows: dict[bytes, Sequence[bytes | Body]] = {
        b"user.%d" % number: [msgpack.packb({"login": number})] for number in numbers
    }
    return snapshot_of(rows, dict.fromkeys(rows, 3) | {b"trade.1": 9})


class FakePump:
    """Answers every request with ``snapshot``, on a thread of its own, as the pump does."""

    def __init__(self, snapshot: StateSnapshot | None = None) -> None:
        self.snapshot = snapshot or snapshot_of({}, {})
        self.requests: list[SnapshotRequest] = []
        self.is_mute = False

    def request(self, request: SnapshotRequest) -> None:
        self.requests.append(request)
        if not self.is_mute:
            Thread(target=request.answer, args=(self.snapshot,)).start()


class Endpoint:
    """A live server and a context to make clients in."""

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

    def ask(self, **request: Any) -> Reply:
        """Return the reply to ``request`` of a new client."""
        with self.peer() as socket:
            return ask(socket, **request)


def ask(socket: zmq.Socket[bytes], **request: Any) -> Reply:
    """Return the reply to ``request`` of a REQ socket."""
    socket.send(msgpack.packb(request))
    return receive_reply(socket)


def receive_reply(socket: zmq.Socket[bytes]) -> Reply:
    """Return the next reply at a REQ socket; fail when none comes."""
    assert socket.poll(int(LIMIT_S * 1000)), "no reply came"
    return unpack_reply(socket.recv_multipart())


def unpack_reply(frames: Sequence[bytes]) -> Reply:
    """Return head and frames of a reply, without an envelope."""
    head = msgpack.unpackb(frames[0])
    return Reply(head, list(frames[1::2]), [msgpack.unpackb(body, strict_map_key=False) for body in frames[2::2]])


PATIENT = QueryOptions(
    page_s=LIMIT_S, snapshot_wait_s=LIMIT_S, snapshot_evictable_s=LIMIT_S, snapshot_old_s=LIMIT_S, waiting_s=LIMIT_S
)
"""Of a test machine that may be slow: no request is refused, and no snapshot discarded, because of its age."""


class Setup(NamedTuple):
    """How `serving` sets the endpoint up."""

    options: QueryOptions = PATIENT
    pump: FakePump | None = None
    reader: JournalReader | None = None
    permissions: Callable[[str], Permissions] = lambda _user: EVERYTHING
    describe: Callable[[], Body] = lambda: dict(DESCRIPTION)
    secure: Callable[[zmq.Socket[bytes]], None] = lambda _socket: None
    settings: Settings | None = None


@contextmanager
def serving(setup: Setup = Setup()) -> Iterator[Endpoint]:  # noqa: B008 - immutable
    """Give a running server; it must end without a crash."""
    with context() as own:
        pump = setup.pump or FakePump()
        sources = QuerySources(setup.permissions, pump.request, setup.reader, setup.describe, UNDISTURBED)
        settings = setup.settings or wire_settings()
        server = QueryServer(own, ANY_PORT, settings, setup.options, sources, secure=setup.secure)
        server.start()
        try:
            yield Endpoint(own, server, pump)
        finally:
            server.stop()
            server.join(LIMIT_S)
            assert not server.is_alive()
        assert server.crash is None


@contextmanager
def curve_endpoint(
    user: str, permissions: Callable[[str], Permissions]
) -> Iterator[tuple[Endpoint, zmq.Socket[bytes]]]:
    """Give a CURVE server whose ZAP handler calls every client ``user``, and a REQ socket with a key of its own."""
    public, secret = zmq.curve_keypair()

    def secure(socket: zmq.Socket[bytes]) -> None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, b"tests")
        zap = socket.context.socket(zmq.REP)
        zap.bind("inproc://zeromq.zap.01")
        Thread(target=accept, args=(zap, user.encode())).start()

    with serving(Setup(secure=secure, permissions=permissions)) as at, at.own.socket(zmq.REQ) as socket:
        own_public, own_secret = zmq.curve_keypair()
        socket.setsockopt(zmq.CURVE_SERVERKEY, public)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, own_public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, own_secret)
        socket.connect(at.server.endpoint)
        yield at, socket


def accept(zap: zmq.Socket[bytes], user: bytes) -> None:
    """Accept one client as ``user`` (RFC 27)."""
    with zap:
        if zap.poll(int(LIMIT_S * 1000)):
            version, request, *_ = zap.recv_multipart()
            zap.send_multipart([version, request, b"200", b"OK", user, b""])
