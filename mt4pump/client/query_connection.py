"""Carries requests to the query endpoint and replies back, without ever waiting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgpack
import zmq

from mt4pump.client.checks import LARGE_BODY_MAX_BYTES
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

    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
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


STRAYS_PER_TURN = 100
"""Messages that answer nothing which are thrown away in one go: others get their turn, however fast they come."""

Context = zmq.Context[zmq.Socket[bytes]]


class QueryConnection:
    """A DEALER socket with one request on its way. Owned by one thread."""

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
            self.start_anew()
        self.number, self.sent_at_s = number, now_s
        with suppress(zmq.Again):  # nobody is connected: the time-out will tell
            self.socket.send(ask.packed(number), zmq.NOBLOCK)

    def receive(self) -> Reply | None:
        """Return the reply to the last request if it is there; raises QueryError for a refusal."""
        for _ in range(STRAYS_PER_TURN):
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
        """Return the frames of the next message; raises FrameError for one beyond all measure, and gives it up."""
        frames = [self.socket.recv(zmq.NOBLOCK)]
        size = len(frames[0])
        while self.socket.getsockopt(zmq.RCVMORE):
            frames.append(self.socket.recv(zmq.NOBLOCK))
            size += len(frames[-1])
            if len(frames) > FRAMES_MAX or size > REPLY_MAX_BYTES:
                self.start_anew()
                raise FrameError(f"a reply of more than {FRAMES_MAX} frames or {REPLY_MAX_BYTES} bytes")
        return frames

    def start_anew(self) -> None:
        """Give up what is on its way: a new connection cannot bring an old answer."""
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
