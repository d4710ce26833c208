"""Requests to the query endpoint: one socket with one open request, pages within bounds, and `Query` for programs.

A subscriber's `Recovery` makes its own requests, and never waits for a reply.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple, Self

import msgpack
import zmq

from mt4pump.client.checks import LARGE_BODY_MAX_BYTES, check_head, event_body, stored_body
from mt4pump.client.event import HEALED, SNAPSHOT, Event, Frames, TopicName
from mt4pump.client.events import CLASSES
from mt4pump.client.keys import ClientKeys, ZmqContext, client_socket
from mt4pump.client.topic_state import SubscriptionSet, warn_of_unmatched
from mt4pump.errors import ClientError, FrameError
from mt4pump.wire import Body, unpack_map

FRAMES_MAX = 200_001  # of one reply: a page has at most 10,000 rows, or all rows of one topic
REPLY_MAX_BYTES = 64 * 2**20  # a page ends once it has more than 1 MiB, but a body may have 15 MiB
ERROR_MAX_CHARS = 1_000
FOR_GOOD = frozenset({"no_journal", "forbidden", "bad_request", "unknown_op", "too_large"})  # will be refused again
STRAYS_LIMIT = 100  # messages that answer nothing which one `QueryConnection.receive` drops, so that it always returns
EMPTY_PAGES_MAX = 10_000  # pages of the journal in a row without an event: the daemon searches 50 ms for each
PAGE_LIMIT = 5_000  # events asked for in one replay request
SLICE_MS = 100  # longest wait in one poll, so that Ctrl-C is seen on Windows, too


class Ask(NamedTuple):
    """One request: the ``op`` and its fields."""

    op: str
    fields: Body

    def packed(self, number: int) -> bytes:
        """Return the payload; ``number`` comes back in the reply's head. Raises ClientError (``arguments``)."""
        try:
            payload: bytes = msgpack.packb({"op": self.op, "id": number, **self.fields})
        except (OverflowError, ValueError, TypeError) as error:
            raise ClientError("arguments", f"`{self.op}` cannot be asked with these values: {error}") from error
        return payload


class Reply(NamedTuple):
    """One answer that is ``ok``. ``frames`` are topic, body, and so on."""

    head: Body
    frames: Sequence[bytes]

    def pairs(self) -> Iterator[Frames]:
        """Yield topic and body."""
        return zip(self.frames[::2], self.frames[1::2], strict=True)


QueryJob = Generator[Ask, Reply, None]
"""Requests one after the other, each after the reply to the one before."""


class QueryError(ClientError):
    """The query endpoint refused, or did not answer; ``number`` is the request's, None where not known."""

    def __init__(self, code: str, text: str, number: Any = None) -> None:
        super().__init__(code, text)
        self.number = number


def unpacked(frames: Sequence[bytes]) -> Reply:
    """Return the reply in ``frames``; raises QueryError for a refusal and FrameError for what is no reply."""
    if not frames or len(frames) % 2 == 0:
        raise FrameError(f"a reply has an odd number of frames, this one has {len(frames)}")
    try:
        head = unpack_map(frames[0])
    except FrameError as error:
        raise FrameError(f"the head of a reply: {error}") from error
    if not isinstance(head.get("ok"), bool):
        raise FrameError("the head of a reply is not a map with `ok`")
    if not head["ok"]:
        code, text = str(head.get("code", "unknown")), str(head.get("error", "no reason given"))
        raise QueryError(code[:ERROR_MAX_CHARS], text[:ERROR_MAX_CHARS], head.get("id"))
    return Reply(head, frames[1:])


class QueryConnection:
    """A DEALER socket with at most one open request, whose ``number`` it has. For one thread."""

    def __init__(self, context: ZmqContext, endpoint: str, keys: ClientKeys | None) -> None:
        self.endpoint, self.sent_at_s = endpoint, 0.0
        self.number: int | None = None
        self._context, self._keys = context, keys
        self.socket = self._open()

    def send(self, number: int, ask: Ask, now_s: float) -> None:
        """Send a request; the one before, if any, is given up."""
        if self.number is not None:
            self.reconnect()
        self.number, self.sent_at_s = number, now_s
        with suppress(zmq.Again):  # nobody is connected: the request will time out
            self.socket.send(ask.packed(number), zmq.NOBLOCK)

    def receive(self) -> Reply | None:
        """Return the reply to the last request if it is there; raises QueryError for a refusal."""
        for _ in range(STRAYS_LIMIT):
            try:
                reply = unpacked(self._frames())
            except zmq.Again:
                return None
            except QueryError as refusal:
                if refusal.number is None or refusal.number == self.number:
                    self.number = None
                    raise
            except FrameError as error:
                self.number = None
                raise QueryError("bad_reply", f"{self.endpoint} gave no reply of this protocol: {error}") from error
            else:
                if reply.head.get("id") == self.number:
                    self.number = None
                    return reply
        return None

    def _frames(self) -> list[bytes]:
        """Return the frames of the next message; raises FrameError for one that is too large, after a reconnect."""
        frames = [self.socket.recv(zmq.NOBLOCK)]
        size = len(frames[0])
        while self.socket.getsockopt(zmq.RCVMORE):
            frames.append(self.socket.recv(zmq.NOBLOCK))
            size += len(frames[-1])
            if len(frames) > FRAMES_MAX or size > REPLY_MAX_BYTES:
                self.reconnect()
                raise FrameError(f"a reply of more than {FRAMES_MAX} frames or {REPLY_MAX_BYTES} bytes")
        return frames

    def reconnect(self) -> None:
        """Give up the open request: a new connection cannot bring an old answer."""
        self.close()
        self.number = None
        self.socket = self._open()

    def close(self) -> None:
        """Close the socket."""
        self.socket.close(0)

    def _open(self) -> zmq.Socket[bytes]:
        socket = client_socket(self._context, zmq.DEALER, self.endpoint, self._keys)
        socket.setsockopt(zmq.MAXMSGSIZE, LARGE_BODY_MAX_BYTES)
        socket.connect(self.endpoint)
        return socket


@dataclass(frozen=True, slots=True)
class SnapshotLimits:
    """How much of one snapshot is read: pages, topics with their rows, and their bytes."""

    pages: int = 100_000
    rows: int = 4_000_000
    size_bytes: int = 2**30


def further_pages(
    page: Reply, asked: Body, handle: Callable[[Reply], None], limits: SnapshotLimits | None = None
) -> QueryJob:
    """Handle ``page``, the first of the snapshot ``asked`` for, and each further one: the daemon names the next.

    Raises QueryError for a page of another epoch or without a new topic (``bad_reply``), and beyond the limits.
    """
    limits, epoch, topics = limits or SnapshotLimits(), page.head["epoch"], set[str]()
    pages = rows = size_bytes = 0
    while True:
        head, known = page.head, len(topics)
        if head["epoch"] != epoch:
            raise QueryError("bad_reply", "the pages of a snapshot are of two epochs")
        topics.update(head["seqs"])
        pages += 1
        rows += max(len(page.frames) // 2, len(head["seqs"]))
        size_bytes += sum(map(len, page.frames)) + sum(map(len, head["seqs"]))
        if pages > limits.pages or rows > limits.rows or size_bytes > limits.size_bytes:
            text = f"the snapshot has more than {limits.rows} rows, {limits.size_bytes} bytes or {limits.pages} pages"
            raise QueryError("too_large", f"{text}: ask for fewer topics")
        if head["cursor"] is not None and len(topics) == known:
            raise QueryError("bad_reply", "a snapshot does not come to an end: a page has no new topic")
        handle(page)
        if head["cursor"] is None:
            return
        page = yield Ask("snapshot", {**asked, "cursor": head["cursor"]})


class ReplayPages:
    """Follows the pages of one replay."""

    def __init__(self) -> None:
        self._empty = 0

    def next_of(self, page: Reply, after: int | None) -> int | None:
        """Return the offset after which the next page begins, None at the end; ``after`` is where this one began.

        Raises QueryError (``bad_reply``) for a page that does not go on.
        """
        events, last, begin, fault = len(page.frames) // 2, page.head["last"], after or 0, ""
        reached: int | None = page.head["next"]
        self._empty = 0 if events else self._empty + 1
        if events > PAGE_LIMIT:
            fault = f"a page of {events} events, {PAGE_LIMIT} were asked for"
        elif self._empty > EMPTY_PAGES_MAX:
            fault = f"a replay does not come to an end: {self._empty} pages without an event"
        elif reached is not None and not begin < reached <= last:
            fault = f"a replay after {begin} goes on after {reached}, and the journal ends at {last}"
        if fault:
            raise QueryError("bad_reply", fault)
        return reached


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Last values at one moment.

    ``epoch`` and ``log`` name the daemon's run and its journal, ``offset`` is the last durable event in it, ``ts`` the
    moment (ns since 1970), ``seqs`` the last number of each topic, ``events`` the values (``event.snapshot``).
    """

    epoch: int
    log: str | None
    offset: int
    ts: int
    seqs: dict[str, int] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)


class Replay:
    """Iterates over stored events, page by page.

    ``whole`` is None before the first page, then whether nothing asked for is missing: False once a page said that
    events were deleted or could not be stored. ``first_available``, ``last`` and ``log`` are of the last page.
    """

    def __init__(self, query: Query, topics: SubscriptionSet, fields: Body) -> None:
        self.whole: bool | None = None
        self.first_available = self.last = 0
        self.log: str | None = None
        self._query, self._topics, self._fields = query, topics, fields

    def __iter__(self) -> Iterator[Event]:
        """Yield the events in order of offset.

        Raises ClientError when the endpoint refuses, is silent, or gives pages that do not go on.
        """
        fields, after, pages = self._fields, self._fields.get("after"), ReplayPages()
        while True:
            reply = self._query.ask(Ask("replay", {**fields, "limit": PAGE_LIMIT}))
            head = reply.head
            reached = pages.next_of(reply, after)
            self.whole = head["whole"] and self.whole is not False
            self.first_available, self.last, self.log = head["first_available"], head["last"], head.get("log")
            for event in _events(self._topics, reply, HEALED):
                if (event.offset or 0) <= (after or 0):
                    raise QueryError("bad_reply", f"a replay after {after or 0} holds offset {event.offset}")
                after = event.offset
                yield event
            if reached is None:
                return
            after = max(reached, after or 0)
            fields = {**fields, "after": reached}


class Query:
    """Asks the daemon's query endpoint; for one thread.

    Args:
        endpoint: ``tcp://127.0.0.1:5557``.
        keys: `ClientKeys` for a daemon that uses CURVE.
        timeout_s: how long one answer may take; an attribute that any thread may set, for the request that waits, too.
        snapshot_limits: how much of one snapshot is read; beyond it ``too_large`` is raised.
        warn: log a warning for each topic asked for that can match nothing; False for a program that does so itself.

    Every method raises ClientError, with the daemon's ``code``, or ``timeout``.
    """

    def __init__(
        self,
        endpoint: str,
        keys: ClientKeys | None = None,
        timeout_s: float = 5.0,
        snapshot_limits: SnapshotLimits | None = None,
        *,
        warn: bool = True,
    ) -> None:
        self.endpoint, self.timeout_s, self._warn = endpoint, timeout_s, warn
        self._snapshot_limits, self._number = snapshot_limits, 0
        self._suffix: str | None = None
        self._context: ZmqContext = zmq.Context()
        try:
            self._connection = QueryConnection(self._context, endpoint, keys)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise ClientError("arguments", f"cannot connect to {endpoint}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._context.destroy(linger=0)

    def describe(self) -> dict[str, Any]:
        """Return the daemon's description: protocol, version, epoch, log, offsets, kinds with their fields."""
        head = self.ask(Ask("describe", {})).head
        self._suffix = head.get("topic_suffix") or ""
        return head

    def snapshot(self, topics: Iterable[str] = ("*",)) -> Snapshot:
        """Return the last values of these topics (names and patterns) at one moment."""
        wanted = self._wanted(topics)
        asked: Body = {"topics": wanted.prefixes()}
        first = self.ask(Ask("snapshot", asked))
        found = Snapshot(first.head["epoch"], first.head.get("log"), first.head["offset"], first.head["ts"])

        def add(page: Reply) -> None:
            names = ((wanted.name_of(topic.encode()), seq) for topic, seq in page.head["seqs"].items())
            found.seqs.update((name, seq) for name, seq in names if wanted.is_wanted(name))
            found.events.extend(_events(wanted, page, SNAPSHOT))

        further = further_pages(first, asked, add, self._snapshot_limits)
        with suppress(StopIteration):
            ask = next(further)
            while True:
                ask = further.send(self.ask(ask))
        return found

    def replay(
        self,
        topics: Iterable[str] = ("*",),
        *,
        after: int | None = None,
        since: int | None = None,
        until: int | None = None,
        to: int | None = None,
    ) -> Replay:
        """Return the stored events of these topics, to iterate over.

        Args:
            topics: names and patterns.
            after: the offset after which to begin; from the journal's start if neither it nor ``since`` is given.
            since: the time from which to begin, ns since 1970.
            until: the time up to which to go, ns since 1970.
            to: the last offset to give.
        """
        wanted = self._wanted(topics)
        after = 0 if after is None and since is None else after
        limits = {"after": after, "since": since, "until": until, "to": to}
        given = {name: value for name, value in limits.items() if value is not None}
        return Replay(self, wanted, {"topics": wanted.prefixes(), **given})

    def ask(self, ask: Ask) -> Reply:
        """Send one request and wait for its reply; raises ClientError."""
        self._number += 1
        sent_at_s = time.monotonic()
        self._connection.send(self._number, ask, sent_at_s)
        while (reply := self._connection.receive()) is None:
            if time.monotonic() >= sent_at_s + self.timeout_s:
                self._connection.reconnect()
                raise QueryError("timeout", f"{self.endpoint} did not answer `{ask.op}` within {self.timeout_s:g} s")
            self._connection.socket.poll(SLICE_MS)
        try:
            check_head(ask.op, reply.head)
        except FrameError as error:
            raise QueryError("bad_reply", f"the daemon gave a malformed reply: {error}") from error
        return reply

    def _wanted(self, topics: Iterable[str]) -> SubscriptionSet:
        if self._suffix is None:
            self.describe()
        wanted = SubscriptionSet(topics, self._suffix or "")
        warn_of_unmatched(wanted.wanted if self._warn else ())
        return wanted


def _events(wanted: SubscriptionSet, reply: Reply, origin: int) -> Iterator[Event]:
    is_wanted = cache(wanted.is_wanted)  # a page has few topics, each of them often
    for frames in reply.pairs():
        if is_wanted(name := wanted.name_of(frames[0])):
            topic = TopicName(name)
            try:
                body = stored_body(*frames) if origin == HEALED else event_body(*frames)
            except FrameError as error:
                raise QueryError("bad_reply", f"the daemon gave a malformed row: {error}") from error
            yield CLASSES.get(topic.kind, Event)(topic, body, frames, origin)
