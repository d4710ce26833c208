"""The query thread and its ROUTER socket: requests in, replies out; no client delays another one.

An iteration receives the messages that wait, answers the cheap ones at once, and then one of the queued requests. No
work is done for a connection while libzmq holds a page for it, or many short replies: a tracker of the last frame shows
when libzmq has sent them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Event, Thread

import zmq

from mt4pump.errors import BindError
from mt4pump.publisher.binding import apply, bind, bind_failure
from mt4pump.publisher.descriptors import EndpointLimits, number_of, user_of
from mt4pump.publisher.subscriptions import NO_CONNECTION
from mt4pump.query.connections import PeerConnection, QueuedRequest, RequestScheduler, ServedConnections
from mt4pump.query.handlers import QuerySources, RequestHandler, error_reply
from mt4pump.query.limits import QueryOptions, Stopped
from mt4pump.query.requests import FRAMES_LIMIT, Envelope, RequestError, parse_envelope
from mt4pump.query.snapshots import Peer
from mt4pump.security.zap import FAILURES_LIMIT, pause_s
from mt4pump.settings import Settings

POLL_MS = 200
"""How late, at most, an idle thread notices that it is to stop, or that a snapshot has expired."""
WAIT_MS = 2
"""The same while queued requests wait for something else than a message."""
MESSAGES_PER_ITERATION = 32
"""Messages received, and cheap requests answered, before the next of the queued requests is handled."""
WIRE_SLACK = 2
"""A frame of up to this many times the limit is still read, and refused; a larger one ends its connection."""
SKIPPED_FRAME_BYTES = 64
"""What a surplus frame counts beside its content: libzmq's memory, and the time to skip it."""
FRAMES_PER_TICK = 16
"""Frames sent or skipped between two ticks of the work budget."""
TRACKED_BYTES = 4_096
"""Replies of this size are tracked until libzmq has sent them; of smaller ones it holds ``sndhwm`` at most."""
CHEAP_WAITING = 64
"""No more messages are received while so many cheap requests are queued: they come faster than they can be answered."""
WORK_LIMIT_S, REST_LIMIT_S = 0.001, 0.05
"""Work after which the thread rests, and its longest rest: other threads run under any flood of requests."""
SEND_BUFFER_BYTES, RECEIVE_BUFFER_BYTES = 2**18, 2**17
"""What the system buffers for a connection; it doubles them."""

log = logging.getLogger(__name__)


class QueryServer(Thread):
    """Answers `describe`, `snapshot` and `replay` on ``endpoint``. Binds in the caller's thread; raises BindError.

    ``secure`` makes the socket a CURVE server, or does nothing. ``sources.reader`` is the thread's own from here on.
    ``crash`` is the error that ended the thread unexpectedly.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        settings: Settings,
        options: QueryOptions,
        sources: QuerySources,
        *,
        secure: Callable[[zmq.Socket[bytes]], None],
    ) -> None:
        super().__init__(name="query", daemon=True)
        self.crash: BaseException | None = None
        self._stopping = Event()
        self._is_sending = False
        self._failures = 0  # in a row
        self._worked_since_s = self._rested_s = 0.0
        self._reader = sources.reader
        self._options = options
        self._handler = RequestHandler(options, sources, self._maintain_and_check_stop)
        self.counts, fault_counters = self._handler.counts, self._handler.fault_counters
        self._scheduler = RequestScheduler(options)
        limits = EndpointLimits(
            settings.max_connections,
            settings.max_connections_per_client,
            burst_bytes=0,
            by_address=settings.curve_secret_key is None,
        )
        self._served = ServedConnections(options, self._scheduler, fault_counters, self.counts, limits)
        self.connections = self._served.monitored
        self._socket = context.socket(zmq.ROUTER)
        self._socket.copy_threshold = 0  # else a short last frame could not be tracked
        try:
            _apply(self._socket, settings, options)
            secure(self._socket)
            self.connections.attach(self._socket)
            bind(self._socket, endpoint)
            self.connections.read_events()
        except BaseException as error:
            self.connections.detach()
            self._socket.close(0)
            if isinstance(error, zmq.ZMQError):
                raise BindError(bind_failure(endpoint, error, setting="query_endpoint")) from error
            raise
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._send = super(zmq.Socket, self._socket).send  # half the cost of the layer above it

    def stop(self) -> None:
        """End the thread, within 200 ms; one that was never started only closes its socket."""
        self._stopping.set()
        if self.ident is None:
            self._close()

    def run(self) -> None:
        """Answer until stopped."""
        try:
            while not self._stopping.is_set():
                self._iterate()
        except (Stopped, zmq.ContextTerminated):
            pass
        except BaseException as error:
            self.crash = error
            log.exception("the query thread crashed")
        finally:
            self._close()

    def _close(self) -> None:
        self.connections.detach()
        self._socket.close()
        if self._reader is not None:
            self._reader.close()

    def _maintain_and_check_stop(self) -> bool:
        """Return whether the thread is to stop; also checks the connections, which must not wait for long work."""
        self._served.maintain()
        return self._stopping.is_set()

    def _iterate(self) -> None:
        """Receive and answer. An error of our own costs one request only, and is counted."""
        try:
            self._served.maintain()
            if self._poll():
                self._receive_messages()
            for connection in self._served.blocked():
                if (kept := connection.blocked) is not None and self._send_all(connection, *kept):
                    connection.blocked = None
            self._handle_queued()
            self._rest()
        except (Stopped, zmq.ContextTerminated):
            raise
        except Exception as error:
            if self._stopping.is_set() or self._socket.closed:
                raise Stopped from error
            self._failures += 1
            self._handler.fault_counters.record("query_socket", f"a request was lost: {error!r}")
            self.counts["dropped"] += 1
            if self._failures >= FAILURES_LIMIT:
                raise
            self._end_message()
            self._stopping.wait(pause_s(self._failures))
        else:
            self._failures = 0

    def _poll(self) -> bool:
        """Wait for a message, only briefly if there is other work; return whether there is one."""
        if self._scheduler.waiting or any(self._served.blocked()):
            timeout_ms = 0 if self._next_ready() is not None else WAIT_MS
        else:
            timeout_ms = POLL_MS
            self._handler.snapshots.expire()
        since_s = time.perf_counter()
        has_message = bool(self._socket.poll(timeout_ms, zmq.POLLIN))
        self._rested_s += time.perf_counter() - since_s
        return has_message

    def _rest(self) -> None:
        """Release the interpreter after some work, unless waiting for messages did."""
        worked_s = time.thread_time() - self._worked_since_s
        if worked_s < WORK_LIMIT_S:
            return
        rest_s = min(worked_s * self._options.flood_rests, REST_LIMIT_S) - self._rested_s
        if rest_s > 0:
            self._stopping.wait(rest_s)
        self._worked_since_s, self._rested_s = time.thread_time(), 0.0

    def _receive_messages(self) -> None:
        """Receive the messages that wait; answer the cheap requests and queue the others."""
        for _ in range(MESSAGES_PER_ITERATION):
            if self._scheduler.waiting_cheap >= CHEAP_WAITING and self._next_ready() is not None:
                return
            try:
                name = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._handle_message(name)
            self._handler.budget.tick()

    def _handle_message(self, name: bytes) -> None:
        envelope, number, user, size = self._receive_rest()
        connection = self._served.find(name, number, user)
        if connection is None:
            self.counts["dropped"] += 1
            return
        if size > WIRE_SLACK * self._options.max_request_bytes:
            self._served.disconnect(number, f"it sent a message of {size} bytes")
        id_, parsed = self._handler.parse(envelope.payload)
        request = QueuedRequest(envelope.routing, id_, parsed, size, time.monotonic())
        is_next = not connection.queue and connection.blocked is None
        if request.is_cheap and is_next and self._served.has_room_for_short(connection):
            self._answer(connection, request)
        elif not self._scheduler.add(connection, request):
            text = f"at most {self._options.waiting_limit} requests of a connection may wait: read the replies first"
            self._refuse(connection, request, text)

    def _receive_rest(self) -> tuple[Envelope, int, str, int]:
        """Return the rest of the next message, its connection's number, user and size; surplus frames are skipped."""
        frames: list[bytes] = []
        number, user, size, skipped = NO_CONNECTION, "", 0, 0
        while self._socket.getsockopt(zmq.RCVMORE):
            frame = self._socket.recv(zmq.NOBLOCK, copy=False)
            size += len(frame)
            if not frames:
                number, user = number_of(frame), user_of(frame)
            if len(frames) < FRAMES_LIMIT:
                frames.append(frame.bytes)
            else:
                size += SKIPPED_FRAME_BYTES
                skipped += 1
                if not skipped % FRAMES_PER_TICK:
                    self._handler.budget.tick()
        return parse_envelope(frames), number, user, size

    def _is_ready(self, connection: PeerConnection, request: QueuedRequest) -> bool:
        """Return whether a request can be answered now."""
        if request.is_cheap:
            return self._served.has_room_for_short(connection)
        must_wait = request.needs_snapshot and self._handler.snapshot_wait_s() > 0
        return not must_wait and self._served.has_room(connection)

    def _next_ready(self) -> PeerConnection | None:
        self._served.refresh()
        return self._scheduler.first(self._is_ready)

    def _handle_queued(self) -> None:
        """Refuse the requests that waited too long; answer the cheap ones that are next, and one other."""
        for late, request in self._scheduler.late(time.monotonic() - self._options.waiting_s):
            self._refuse(late, request, f"it waited {self._options.waiting_s:g} s behind others: ask again")
        for _ in range(MESSAGES_PER_ITERATION):
            connection = self._next_ready() if self._scheduler.waiting else None
            if connection is None:
                break
            request = self._scheduler.take(connection)
            self._answer(connection, request)
            if not request.is_cheap:
                break
        self.counts["waiting"] = self._scheduler.waiting
        self.counts["snapshots"] = len(self._handler.snapshots)
        self.counts["evicted"] = self._handler.snapshots.evicted

    def _answer(self, connection: PeerConnection, request: QueuedRequest) -> None:
        began_s = time.perf_counter()
        reply = self._handler.reply(request.id_, request.request, Peer(connection.name, connection.user))
        self._deliver(connection, request.routing, reply)
        self._scheduler.spend(connection, time.perf_counter() - began_s)

    def _refuse(self, connection: PeerConnection, request: QueuedRequest, text: str) -> None:
        self.counts["busy"] += 1
        self._deliver(connection, request.routing, error_reply(request.id_, RequestError("busy", text)))

    def _deliver(self, connection: PeerConnection, routing: tuple[bytes, ...], reply: list[bytes]) -> None:
        """Send a reply, or keep it until libzmq accepts it; a second one is dropped."""
        if connection.blocked is not None:
            self.counts["dropped"] += 1
        elif not self._send_all(connection, routing, reply):
            connection.blocked = (routing, reply)
            connection.unread_since_s = time.monotonic()

    def _end_message(self) -> None:
        """End a message that an error cut short, so that it does not swallow the next one."""
        if self._is_sending:
            self._is_sending = False
            self._send(b"", int(zmq.NOBLOCK))

    def _send_all(self, connection: PeerConnection, routing: tuple[bytes, ...], reply: list[bytes]) -> bool:
        """Send a whole reply; return False when libzmq still holds the one before. One to a closed peer is dropped."""
        send, more = self._send, int(zmq.SNDMORE | zmq.NOBLOCK)  # an enum costs more than the call
        try:
            send(connection.name, more)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self.counts["dropped"] += 1
            self._served.remove(connection)
            return True
        self._is_sending = True
        frames = [*routing, *reply]
        last = frames.pop()
        for count, frame in enumerate(frames, 1):
            send(frame, more)
            if not count % FRAMES_PER_TICK:
                self._handler.budget.tick()
        self.counts["events"] += len(reply) // 2
        size = sum(map(len, reply))
        if size < TRACKED_BYTES:
            send(last, int(zmq.NOBLOCK))
        else:
            tracker = send(last, int(zmq.NOBLOCK), copy=False, track=True)
            connection.add_unread(tracker, size, time.monotonic())
        self._is_sending = False
        return True


def _apply(socket: zmq.Socket[bytes], settings: Settings, options: QueryOptions) -> None:
    apply(socket, settings)
    socket.setsockopt(zmq.SNDHWM, options.sndhwm)
    socket.setsockopt(zmq.SNDBUF, SEND_BUFFER_BYTES)
    socket.setsockopt(zmq.RCVBUF, RECEIVE_BUFFER_BYTES)
    socket.setsockopt(zmq.RCVHWM, options.rcvhwm)
    socket.setsockopt(zmq.MAXMSGSIZE, WIRE_SLACK * options.max_request_bytes)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.setsockopt(zmq.ROUTER_HANDOVER, 0)
