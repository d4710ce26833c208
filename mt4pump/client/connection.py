"""Runs a `Stream` on real sockets: the SUB socket with its monitor, and the query connection. For one thread."""

from __future__ import annotations

import errno
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock, RLock, Thread

import zmq

from mt4pump.client.connection_fault import (
    FAILURES,
    ConnectionDiagnosis,
    TrialThread,
    connection_fault,
    events_of,
    monitor_of,
)
from mt4pump.client.event import Frames
from mt4pump.client.keys import ClientKeys, ZmqContext, client_socket
from mt4pump.client.query import QueryConnection, QueryError
from mt4pump.client.stream import HEARTBEAT_TOPIC, Stream
from mt4pump.errors import ClientError
from mt4pump.libzmq_sockets import duplicate, protect
from mt4pump.process.endpoints import port_of

SLICE_S = 0.1
"""Longest wait in one poll: Ctrl-C (on Windows) and close() are seen this late at worst."""
BATCH = 1_000
"""Messages read at once, so that replies and timeouts are handled between them."""
FRAME_MAX_BYTES = 256 * 2**20
"""Far above what is accepted: libzmq ends the connection of a longer one, and never reconnects."""
RECONNECT_MS, RECONNECT_LIMIT_MS = 100, 2_000
ZMTP_HEARTBEAT_MS, ZMTP_TIMEOUT_MS = 5_000, 15_000
NO_DESCRIPTOR = -1

log = logging.getLogger("mt4pump.client")


@dataclass(slots=True)
class ConnectionChanges:
    """What happened to the connection, in this order."""

    broke: bool = False
    made: bool = False
    refused: bool = False


class SubConnection:
    """Connects to ``endpoint``. ``is_drained``: the last `read` left nothing; ``malformed`` counts dropped messages."""

    def __init__(self, context: ZmqContext, endpoint: str, keys: ClientKeys | None, rcvhwm: int) -> None:
        self.is_drained = False
        self.malformed = 0
        self._descriptor = NO_DESCRIPTOR
        self._prefixes: set[bytes] = set()
        self._in_pairs = True
        self.socket = client_socket(context, zmq.SUB, endpoint, keys)
        self.socket.setsockopt(zmq.RCVHWM, rcvhwm)
        self.socket.setsockopt(zmq.MAXMSGSIZE, FRAME_MAX_BYTES)
        self.socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_LIMIT_MS)
        self.socket.setsockopt(zmq.HEARTBEAT_IVL, ZMTP_HEARTBEAT_MS)
        self.socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, ZMTP_TIMEOUT_MS)
        self.diagnosis = ConnectionDiagnosis(has_keys=keys is not None)
        self.monitor = monitor_of(self.socket, context)
        self.socket.connect(endpoint)
        self._receive = super(zmq.Socket, self.socket).recv  # below the layer for options we do not use

    def subscribe(self, prefixes: set[bytes]) -> None:
        """Subscribe to exactly these, and to the heartbeat after them: the daemon sends one at once for that."""
        wanted = prefixes - {HEARTBEAT_TOPIC}
        for prefix in sorted(wanted - self._prefixes):
            self.socket.setsockopt(zmq.SUBSCRIBE, prefix)
        for prefix in sorted(self._prefixes - wanted):
            self.socket.setsockopt(zmq.UNSUBSCRIBE, prefix)
        self._prefixes = wanted
        self.socket.setsockopt(zmq.UNSUBSCRIBE, HEARTBEAT_TOPIC)  # without it a second subscription would not be sent
        self.socket.setsockopt(zmq.SUBSCRIBE, HEARTBEAT_TOPIC)

    def read(self) -> list[Frames]:
        """Return the messages that are there, at most `BATCH` of them."""
        if not self._in_pairs:
            return self._read_whole()
        receive, now = self._receive, zmq.NOBLOCK
        messages = []
        self.is_drained = False
        try:
            messages.append((receive(now), receive(now)))
            if not self._skip_extra_frames():
                for _ in range(BATCH - 1):
                    messages.append((receive(now), receive(now)))  # noqa: PERF401 - keeps what came before the end
                self._skip_extra_frames()
        except zmq.Again:
            self.is_drained = True
        return messages

    def _skip_extra_frames(self) -> bool:
        """Return whether the last message has more than two frames; skip those, and read messages whole from now on.

        Called once or twice a batch, as it costs twice as much as reading a message does. Where that is too late, the
        decoder finds malformed messages, and what was lost in that one batch shows as gaps.
        """
        has_more = False
        while self.socket.getsockopt(zmq.RCVMORE):
            has_more = True
            self._receive(zmq.NOBLOCK)
        if has_more:
            self.read_whole_messages()
        return has_more

    def read_whole_messages(self) -> None:
        """Read slowly from now on: not everything comes in pairs (a later version, or not of this protocol)."""
        self._in_pairs = False

    def _read_whole(self) -> list[Frames]:
        messages = []
        self.is_drained = False
        try:
            for _ in range(BATCH):
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
                if len(frames) >= 2:  # those behind the two are a later version's
                    messages.append((frames[0], frames[1]))
                else:
                    self.malformed += 1
        except zmq.Again:
            self.is_drained = True
        return messages

    def changes(self) -> ConnectionChanges:
        """Return what happened to the connection since the last call."""
        changes = ConnectionChanges()
        for event, value in events_of(self.monitor):
            if event in {zmq.EVENT_CONNECTED, zmq.EVENT_DISCONNECTED}:
                self._descriptor = value if event == zmq.EVENT_CONNECTED else NO_DESCRIPTOR
            self.diagnosis.handle(event)
            changes.broke |= event == zmq.EVENT_DISCONNECTED
            changes.made |= event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            changes.refused |= bool(event & FAILURES)
        if changes.made:
            # A duplicate: Ctrl-C may come here, and would close a borrowed descriptor.
            with suppress(OSError), duplicate(self._descriptor) as own:
                protect(own)
        return changes

    def close(self) -> None:
        """Close both sockets."""
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Where and how to connect."""

    endpoint: str
    query_endpoint: str | None
    keys: ClientKeys | None
    rcvhwm: int
    query_timeout_s: float
    context: ZmqContext | None


class StreamRunner:
    """Opens the sockets at its first `run_once`. Only `call` is for any thread."""

    def __init__(self, options: ConnectionOptions, stream: Stream) -> None:
        self.stream = stream
        self._options = options
        self._own_context: ZmqContext | None = None
        self._sub: SubConnection | None = None
        self._query: QueryConnection | None = None
        self._sent = 0
        self._calls: deque[Callable[[], None]] = deque()
        self._lock = RLock()
        self._is_busy = self._is_close_asked = False
        self._refused = self._is_refusal_due = False
        self._logged_faults: set[str] = set()
        self._query_trial = TrialThread()
        self._closed = False
        self._opening = Lock()
        self._is_opened = False

    def call(self, function: Callable[[], None]) -> None:
        """Make the reading thread call ``function``."""
        self._calls.append(function)

    def run_once(self, wait_s: float) -> None:
        """Read what is there; when that is nothing to hand over, wait up to ``wait_s`` (in slices) for more."""
        with self._lock:
            try:
                self._is_busy = True  # a signal's handler that closes before this is seen in the next line
                if not self._closed:
                    self._read(wait_s)
            finally:
                self._is_busy = False
                if self._is_close_asked:
                    self.close()

    def _read(self, wait_s: float) -> None:
        sub = self._sub or self._opened()
        self._process(sub)
        if not self.stream.out and wait_s > 0 and (sub.is_drained or self.stream.is_full):
            self._wait(sub, min(wait_s, SLICE_S))
            self._process(sub)

    def close(self) -> None:
        """Close the sockets, once no `run_once` is under way; a signal's handler amid one leaves that to its end."""
        with self._lock:
            self._is_close_asked = True
            if self._is_busy:  # the lock is held by this very thread, else it would wait above
                return
            try:
                self._is_busy = True
                self._close()
            finally:
                self._is_busy = False

    def _close(self) -> None:
        with self._opening:  # a thread that Ctrl-C left behind opens nothing afterwards
            self._closed = True
            if self._sub is not None:
                self._sub.close()
            if self._query is not None:
                self._query.close()
            if self._own_context is not None:
                self._own_context.destroy(linger=0)  # term() would wait for a socket that Ctrl-C left half made
            self._sub = self._query = self._own_context = None

    def _opened(self) -> SubConnection:
        """Open the sockets in a thread of its own, which Ctrl-C cannot interrupt.

        The context would wait for ever for a socket that was left half made.
        """
        faults: list[Exception] = []

        def run() -> None:
            with self._opening:
                if self._closed or self._is_opened:
                    return
                self._is_opened = True
                try:
                    self._open()
                except Exception as error:  # noqa: BLE001 - raised below, in the caller's thread
                    faults.append(error)

        opener = Thread(target=run, name="mt4pump-client-open", daemon=True)
        opener.start()
        opener.join()
        if faults:
            where = f"{self._options.endpoint} or {self._options.query_endpoint}"
            is_short = getattr(faults[0], "errno", None) in {errno.EMFILE, errno.ENFILE}
            cure = "raise LimitNOFILE or ulimit -n" if is_short else "write addresses as tcp://127.0.0.1:5556"
            text = f"cannot connect to {where}: {faults[0]}: {cure}"
            raise ClientError("arguments", text) from faults[0]
        if self._sub is None:
            raise ClientError("closed", "the sockets could not be opened before: make a new subscriber")
        return self._sub

    def _open(self) -> None:
        options = self._options
        context = options.context
        if context is None:
            context = self._own_context = zmq.Context()
        if options.query_endpoint is not None:
            self._query = QueryConnection(context, options.query_endpoint, options.keys)
        self._sub = SubConnection(context, options.endpoint, options.keys, options.rcvhwm)

    def _process(self, sub: SubConnection) -> None:
        stream = self.stream
        while self._calls:
            self._calls.popleft()()
        if (prefixes := stream.changed_subscriptions()) is not None:
            sub.subscribe(prefixes)
        malformed = stream.counts["decode_errors"]
        messages = [] if stream.is_full else sub.read()
        # The monitor is read after the messages, else one of a new connection might be handled before the break of the
        # old one is known; and it is handled before them, as it decides what a heartbeat among them proves.
        has_changed = self._handle_changes(sub.changes(), sub.diagnosis)
        now_s = time.monotonic()
        if messages:
            stream.handle(messages, now_s, time.time_ns())
            if stream.counts["decode_errors"] != malformed:
                sub.read_whole_messages()
        if sub.is_drained and not has_changed and not stream.is_full:
            stream.set_drained(now_s, lambda: sub.diagnosis.text(self._options.endpoint))
        if sub.malformed:
            stream.counts["decode_errors"] += sub.malformed
            sub.malformed = 0
        if self._query is not None:
            self._receive_reply(self._query)
        stream.recovery.tick(now_s)
        ask, number = stream.recovery.ask, stream.recovery.number
        if self._query is not None and ask is not None and self._sent != number:
            self._sent = number
            self._query.send(number, ask, time.monotonic())

    def _handle_changes(self, changes: ConnectionChanges, diagnosis: ConnectionDiagnosis) -> bool:
        """Handle what happened to the connection; return whether it broke or was made."""
        if changes.broke:
            self.stream.set_disconnected()
        self._is_refusal_due |= changes.refused and not self._refused
        if self._is_refusal_due:
            self._report_refusal(diagnosis, is_over=changes.made)
        self._refused = (self._refused or changes.refused) and not changes.made
        self._log_fault(diagnosis)
        if changes.made:
            self._logged_faults.clear()
            self.stream.set_connected(time.monotonic())
        return changes.broke or changes.made

    def _report_refusal(self, diagnosis: ConnectionDiagnosis, *, is_over: bool) -> None:
        """Report a failed handshake as soon as its reason is there, or the next one succeeded."""
        text = diagnosis.text(self._options.endpoint)
        if text or is_over:
            self._is_refusal_due = False
            self.stream.set_refused(text or f"{self._options.endpoint}: a handshake failed, and a later one succeeded")

    def _log_fault(self, diagnosis: ConnectionDiagnosis) -> None:
        """Log each fault of the connection once until it is made, as soon as it is sure."""
        fault = diagnosis.fault
        if diagnosis.is_sure and fault not in self._logged_faults and (text := diagnosis.text(self._options.endpoint)):
            self._logged_faults.add(fault)
            log.warning("%s", text)

    def _receive_reply(self, query: QueryConnection) -> None:
        number, recovery = query.number, self.stream.recovery
        if number is None:
            return
        try:
            reply = query.receive()
        except QueryError as error:
            recovery.handle_failure(number, error.code, str(error), time.monotonic())
            return
        now_s = time.monotonic()
        if reply is not None:
            recovery.handle_reply(number, reply, now_s)
        elif now_s - query.sent_at_s > self._options.query_timeout_s:
            self._report_timeout(query, number, now_s)

    def _report_timeout(self, query: QueryConnection, number: int, now_s: float) -> None:
        """Report that a reply did not come, as soon as a trial connection has found out why."""
        keys = self._options.keys
        reason = self._query_trial.result(number, lambda: connection_fault(query.endpoint, keys, zmq.DEALER)[1])
        if reason is None:
            return
        query.reconnect()
        text = f"{query.endpoint} did not answer within {self._options.query_timeout_s:g} s"
        self.stream.recovery.handle_failure(number, "timeout", f"{text}: {reason}" if reason else text, now_s)

    def _wait(self, sub: SubConnection, wait_s: float) -> None:
        poller = zmq.Poller()
        if not self.stream.is_full:
            poller.register(sub.socket, zmq.POLLIN)
        poller.register(sub.monitor, zmq.POLLIN)
        if self._query is not None:
            poller.register(self._query.socket, zmq.POLLIN)
        poller.poll(int(wait_s * 1000) or 1)


def check_endpoint(endpoint: str) -> None:
    """Raise ClientError for what can be no address to connect to; its host need not be there yet."""
    transport, _, address = endpoint.partition("://")
    if not transport or not address or (transport == "tcp" and port_of(endpoint) is None):
        raise ClientError("arguments", f"{endpoint!r} is no address of a socket: give one as tcp://127.0.0.1:5556")
