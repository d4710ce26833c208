"""Carries requests to the query endpoint and replies back, without ever waiting."""

from __future__ import annotations

from contextlib import suppress

import zmq

from mt4pump.client.asking import Ask, QueryError, Reply, unpacked
from mt4pump.client.keys import ClientKeys
from mt4pump.errors import FrameError

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
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return None
            try:
                reply = unpacked(frames)
            except QueryError as refusal:
                if refusal.number in {None, self.number}:
                    self.number = None
                    raise
            except FrameError as error:
                self.number = None
                raise QueryError("bad_reply", f"{self.endpoint} gave no reply of this protocol: {error}") from error
            else:
                if reply.head.get("id") == self.number:
                    self.number = None
                    return reply

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
        socket.setsockopt(zmq.IPV6, 1 if "[" in self.endpoint else 0)
        if self._keys is not None:
            self._keys.apply(socket)
        socket.connect(self.endpoint)
        return socket
