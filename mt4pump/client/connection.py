"""Runs a `Stream` on real sockets. One thread's, whichever; the two kinds of subscriber are built on it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock, Thread

import zmq

from mt4pump.client.keys import ClientKeys
from mt4pump.client.query_connection import Context, QueryConnection, QueryError
from mt4pump.client.stream import Stream
from mt4pump.client.sub_connection import SubConnection
from mt4pump.errors import ClientError

SLICE_S = 0.1
"""Longest wait in one go: Ctrl-C (on Windows) and close() are seen this late at worst."""


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """Where and how to connect."""

    endpoint: str
    query_endpoint: str | None
    keys: ClientKeys | None
    rcvhwm: int
    query_timeout_s: float
    context: Context | None


class StreamRunner:
    """Opens the sockets at its first turn. All but `call` is for one thread at a time."""

    def __init__(self, connection: ConnectionState, stream: Stream) -> None:
        self.stream = stream
        self._connection = connection
        self._own: Context | None = None
        self._line: SubConnection | None = None
        self._courier: QueryConnection | None = None
        self._asked = 0
        self._calls: deque[Callable[[], None]] = deque()
        self._lock = Lock()
        self._refused = False
        self._closed = False
        self._opener: Thread | None = None

    def call(self, what: Callable[[], None]) -> None:
        """Have ``what`` done by the reading thread; from any thread."""
        self._calls.append(what)

    def turn(self, wait_s: float) -> None:
        """Read what is there; when that is nothing to hand over, wait up to ``wait_s`` (in slices) for more."""
        with self._lock:
            if self._closed:
                return
            line = self._line or self._opened()
            self._work(line)
            if not self.stream.out and wait_s > 0 and (line.is_drained or self.stream.is_full):
                self._wait(line, min(wait_s, SLICE_S))
                self._work(line)

    def close(self) -> None:
        """Close the sockets, once no turn is being taken."""
        with self._lock:
            self._closed = True
            if self._opener is not None:
                self._opener.join()
            if self._line is not None:
                self._line.close()
            if self._courier is not None:
                self._courier.close()
            if self._own is not None:
                self._own.destroy(linger=0)  # also a socket that Ctrl-C left half made: term() would wait for it
            self._line = self._courier = self._own = None

    def _opened(self) -> SubConnection:
        """Open the sockets in a thread of its own, which Ctrl-C cannot interrupt.

        A socket that was left half made would have the context wait for it for ever.
        """
        faults: list[Exception] = []

        def run() -> None:
            try:
                self._open()
            except Exception as error:  # noqa: BLE001 - raised where it was asked for
                faults.append(error)

        if self._opener is None:
            self._opener = Thread(target=run, name="mt4pump-client-open", daemon=True)
            self._opener.start()
        self._opener.join()
        if faults:
            where = f"{self._connection.endpoint} or {self._connection.query_endpoint}"
            text = f"cannot connect to {where}: {faults[0]}: write addresses as tcp://127.0.0.1:5556"
            raise ClientError("arguments", text) from faults[0]
        if self._line is None:
            raise ClientError("closed", "the sockets could not be opened before: make a new subscriber")
        return self._line

    def _open(self) -> None:
        to = self._connection
        context = to.context
        if context is None:
            context = self._own = zmq.Context()
        if to.query_endpoint is not None:
            self._courier = QueryConnection(context, to.query_endpoint, to.keys)
        line = SubConnection(context, to.endpoint, to.keys, to.rcvhwm)
        line.subscribe(self.stream.changed_subscriptions() or self.stream.subscriptions())
        self._line = line

    def _work(self, line: SubConnection) -> None:
        stream = self.stream
        while self._calls:
            self._calls.popleft()()
        if (prefixes := stream.changed_subscriptions()) is not None:
            line.subscribe(prefixes)
        faults = stream.counts["decode_errors"]
        messages = [] if stream.is_full else line.read()
        # The monitor is read after the messages, else one of a new connection might be handled before the break of the
        # old one is known; and it is handled before them, as it decides what a heartbeat among them proves.
        has_changed = self._hear_of_connection(line)
        now_s = time.monotonic()
        if messages:
            stream.take(messages, now_s, time.time_ns())
            if stream.counts["decode_errors"] != faults:
                line.look_at_frames()
        if line.is_drained and not has_changed and not stream.is_full:
            stream.drained(now_s)
        if line.faults:
            stream.count_malformed(line.faults)
            line.faults = 0
        if self._courier is not None:
            self._hear_of_query(self._courier)
        stream.tick(now_s)
        if self._courier is not None:
            self._send(self._courier)

    def _hear_of_connection(self, line: SubConnection) -> bool:
        turns = line.turns()
        if turns.broke:
            self.stream.disconnected()
        if turns.refused and not self._refused:
            self.stream.refused()
        self._refused = (self._refused or turns.refused) and not turns.made
        if turns.made:
            self.stream.connected(time.monotonic())
        return turns.broke or turns.made

    def _hear_of_query(self, courier: QueryConnection) -> None:
        number = courier.number
        if number is None:
            return
        try:
            reply = courier.receive()
        except QueryError as error:
            self.stream.failed(number, error.code, str(error), time.monotonic())
            return
        now_s = time.monotonic()
        if reply is not None:
            self.stream.reply(number, reply, now_s)
        elif now_s - courier.sent_at_s > self._connection.query_timeout_s:
            courier.start_anew()
            text = f"{courier.endpoint} did not answer within {self._connection.query_timeout_s:g} s"
            self.stream.failed(number, "timeout", text, now_s)

    def _send(self, courier: QueryConnection) -> None:
        ask = self.stream.ask
        if ask is not None and self._asked != self.stream.number:
            self._asked = self.stream.number
            courier.send(self._asked, ask, time.monotonic())

    def _wait(self, line: SubConnection, wait_s: float) -> None:
        poller = zmq.Poller()
        if not self.stream.is_full:
            poller.register(line.socket, zmq.POLLIN)
        poller.register(line.monitor, zmq.POLLIN)
        if self._courier is not None:
            poller.register(self._courier.socket, zmq.POLLIN)
        poller.poll(int(wait_s * 1000) or 1)
