"""Carries requests to the query endpoint and replies back, without ever waiting."""

from __future__ import annotations

from contextlib import suppress

import zmq

from mt4pump.client.asking import FRAMES_MAX, REPLY_MAX_BYTES, Ask, QueryError, Reply, unpacked
from mt4pump.client.checks import LARGE_BODY_MAX_BYTES
from mt4pump.client.keys import ClientKeys
from mt4pump.errors import FrameError

STRAYS_PER_TURN = 100
"""Messages that answer nothing which are thrown away in one go: others get their turn, however fast they come."""

Context = zmq.Context[zmq.Socket[bytes]]


class Courier:
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
