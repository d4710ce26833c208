"""Requests to the query endpoint, for programs that do not subscribe."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import zmq

from mt4pump.client.checks import check_head, event_body, stored_body
from mt4pump.client.event import HEALED, SNAPSHOT, Event, TopicName
from mt4pump.client.events import CLASSES
from mt4pump.client.keys import ClientKeys
from mt4pump.client.query_connection import (
    PAGE_LIMIT,
    Ask,
    QueryConnection,
    QueryError,
    ReplayPages,
    Reply,
    SnapshotLimits,
    SnapshotPages,
)
from mt4pump.client.topic_state import SubscriptionSet
from mt4pump.errors import ClientError, FrameError
from mt4pump.wire import Body

SLICE_MS = 100
"""Longest wait in one poll, so that Ctrl-C is seen on Windows, too."""


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
        self.first_available = 0
        self.last = 0
        self.log: str | None = None
        self._query = query
        self._topics = topics
        self._fields = fields

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
        timeout_s: how long one answer may take.
        snapshot_limits: how much of one snapshot is read; beyond it ``too_large`` is raised.

    Every method raises ClientError, with the daemon's ``code``, or ``timeout``.
    """

    def __init__(
        self,
        endpoint: str,
        keys: ClientKeys | None = None,
        timeout_s: float = 5.0,
        snapshot_limits: SnapshotLimits | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._snapshot_limits = snapshot_limits
        self._timeout_s = timeout_s
        self._number = 0
        self._suffix: str | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._connection = QueryConnection(self._context, endpoint, keys)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise ClientError("arguments", f"cannot connect to {endpoint}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._connection.close()
        self._context.destroy(linger=0)

    def describe(self) -> dict[str, Any]:
        """Return the daemon's description: protocol, version, epoch, log, offsets, kinds with their fields."""
        head = self.ask(Ask("describe", {})).head
        self._suffix = head.get("topic_suffix") or ""
        return head

    def snapshot(self, topics: Iterable[str] = ("*",)) -> Snapshot:
        """Return the last values of these topics (names and patterns) at one moment."""
        wanted = self._wanted(topics)
        fields: Body = {"topics": wanted.prefixes()}
        reply = self.ask(Ask("snapshot", fields))
        head = reply.head
        found = Snapshot(head["epoch"], head.get("log"), head["offset"], head["ts"])
        pages = SnapshotPages(self._snapshot_limits)
        while True:
            cursor = pages.next_of(reply)
            for topic, seq in reply.head["seqs"].items():
                name = wanted.name_of(topic.encode())
                if wanted.is_wanted(name):
                    found.seqs[name] = seq
            found.events.extend(_events(wanted, reply, SNAPSHOT))
            if cursor is None:
                return found
            reply = self.ask(Ask("snapshot", {**fields, "cursor": cursor}))

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
        limits = {"since": since, "until": until, "to": to}
        fields: Body = {
            "topics": wanted.prefixes(),
            **{name: value for name, value in limits.items() if value is not None},
        }
        if after is not None or since is None:
            fields["after"] = after or 0
        return Replay(self, wanted, fields)

    def ask(self, ask: Ask) -> Reply:
        """Send one request and wait for its reply; raises ClientError."""
        self._number += 1
        deadline_s = time.monotonic() + self._timeout_s
        self._connection.send(self._number, ask, time.monotonic())
        while True:
            reply = self._connection.receive()
            if reply is not None:
                return _checked(ask, reply)
            if time.monotonic() >= deadline_s:
                self._connection.reconnect()
                raise QueryError("timeout", f"{self.endpoint} did not answer `{ask.op}` within {self._timeout_s:g} s")
            self._connection.socket.poll(SLICE_MS)

    def _wanted(self, topics: Iterable[str]) -> SubscriptionSet:
        if self._suffix is None:
            self.describe()
        return SubscriptionSet(topics, self._suffix or "")


def _checked(ask: Ask, reply: Reply) -> Reply:
    try:
        check_head(ask.op, reply.head)
    except FrameError as error:
        raise QueryError("bad_reply", f"the daemon gave a malformed reply: {error}") from error
    return reply


def _events(wanted: SubscriptionSet, reply: Reply, came: int) -> Iterator[Event]:
    for frames in reply.pairs():
        name = wanted.name_of(frames[0])
        if wanted.is_wanted(name):
            topic = TopicName(name)
            try:
                body = stored_body(*frames) if came == HEALED else event_body(*frames)
            except FrameError as error:
                raise QueryError("bad_reply", f"the daemon gave a malformed row: {error}") from error
            yield CLASSES.get(topic.kind, Event)(topic, body, frames, came)
