"""Carries requests to the query endpoint and replies back without waiting, and bounds what is read page by page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack
import zmq

from mt4pump.client.checks import LARGE_BODY_MAX_BYTES
from mt4pump.client.event import Frames
from mt4pump.client.keys import ClientKeys
from mt4pump.errors import ClientError, FrameError
from mt4pump.unpacking import unpack_map
from mt4pump.wire import Body

FRAMES_MAX = 200_001
"""Frames of one reply: a page has at most 10,000 rows, or all rows of one topic."""
REPLY_MAX_BYTES = 64 * 2**20
"""Bytes of one reply: a page ends once it has more than 1 MiB, but a body may have 15 MiB."""
ERROR_MAX_CHARS = 1_000
FOR_GOOD = frozenset({"no_journal", "forbidden", "bad_request", "unknown_op", "too_large"})
"""Refusals that the same request will meet again."""
STRAYS_LIMIT = 100
"""Messages that answer nothing which one `QueryConnection.receive` drops, so that it always returns."""
EMPTY_PAGES_MAX = 10_000
"""Pages of the journal in a row without an event: the daemon searches 50 ms for each."""
PAGE_LIMIT = 5_000
"""Events asked for in one replay request."""

Context = zmq.Context[zmq.Socket[bytes]]


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

    def __init__(self, context: Context, endpoint: str, keys: ClientKeys | None) -> None:
        self.endpoint = endpoint
        self.number: int | None = None
        self.sent_at_s = 0.0
        self._context = context
        self._keys = keys
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
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, LARGE_BODY_MAX_BYTES)
        socket.setsockopt(zmq.IPV6, 1 if "[" in self.endpoint else 0)
        if self._keys is not None:
            self._keys.apply(socket)
        socket.connect(self.endpoint)
        return socket


@dataclass(frozen=True, slots=True)
class SnapshotLimits:
    """How much of one snapshot is read: pages, topics with their rows, and their bytes."""

    pages: int = 100_000
    rows: int = 4_000_000
    size_bytes: int = 2**30


class SnapshotPages:
    """Follows the pages of one snapshot: the daemon names the next one, which must go on and come to an end."""

    def __init__(self, limits: SnapshotLimits | None = None) -> None:
        self._limits = limits or SnapshotLimits()
        self._epoch: int | None = None
        self._topics: set[str] = set()
        self._pages = self._rows = self._size_bytes = 0

    def next_of(self, page: Reply) -> str | None:
        """Return the cursor of the page after ``page``, None at the end.

        Raises QueryError (``bad_reply``) for a page that brings no topic that was not there before, or is of another
        epoch, and (``too_large``) beyond the limits.
        """
        head, limits = page.head, self._limits
        if self._epoch is None:
            self._epoch = head["epoch"]
        elif head["epoch"] != self._epoch:
            raise QueryError("bad_reply", "the pages of a snapshot are of two epochs")
        known = len(self._topics)
        self._topics.update(head["seqs"])
        self._pages += 1
        self._rows += max(len(page.frames) // 2, len(head["seqs"]))
        self._size_bytes += sum(map(len, page.frames)) + sum(map(len, head["seqs"]))
        if self._pages > limits.pages or self._rows > limits.rows or self._size_bytes > limits.size_bytes:
            text = f"the snapshot has more than {limits.rows} rows, {limits.size_bytes} bytes or {limits.pages} pages"
            raise QueryError("too_large", f"{text}: ask for fewer topics")
        cursor: str | None = head["cursor"]
        if cursor is not None and len(self._topics) == known:
            raise QueryError("bad_reply", "a snapshot does not come to an end: a page has no new topic")
        return cursor


class ReplayPages:
    """Follows the pages of one replay in the same manner."""

    def __init__(self) -> None:
        self._empty = 0

    def next_of(self, page: Reply, after: int | None) -> int | None:
        """Return the offset after which the next page begins, None at the end; ``after`` is where this one began.

        Raises QueryError (``bad_reply``) for a page that does not go on.
        """
        head, events = page.head, len(page.frames) // 2
        if events > PAGE_LIMIT:
            raise QueryError("bad_reply", f"a page of {events} events, {PAGE_LIMIT} were asked for")
        self._empty = 0 if events else self._empty + 1
        if self._empty > EMPTY_PAGES_MAX:
            raise QueryError("bad_reply", f"a replay does not come to an end: {self._empty} pages without an event")
        reached: int | None = head["next"]
        if reached is not None and reached <= (after or 0):
            raise QueryError("bad_reply", f"a replay after {after or 0} goes on after {reached}")
        if reached is not None and reached > head["last"]:
            raise QueryError("bad_reply", f"a replay goes on after {reached}, but the journal ends at {head['last']}")
        return reached
