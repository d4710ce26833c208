"""The query thread and its ROUTER socket: requests in, replies out, and no peer in the way of another.

A turn takes the messages that came, answers the cheap ones at once, and then one of the requests that wait. No work is
done for a connection while libzmq holds a page of it, or many short replies: a tracker of the last frame tells when it
has passed them on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from threading import Event, Thread
from typing import NamedTuple

import zmq

from mt4pump.errors import BindError
from mt4pump.publisher.binding import apply, bind, bind_failure
from mt4pump.publisher.connections import Connections
from mt4pump.pump.snapshot import SnapshotRequest
from mt4pump.query.handlers import PermissionLookup, RequestHandler
from mt4pump.query.limits import QueryOptions, Stopped, YieldToPump
from mt4pump.query.peers import Peers
from mt4pump.query.replay import PageReader
from mt4pump.query.replies import OutgoingReply, packed_head
from mt4pump.query.snapshots import Peer
from mt4pump.query.turns import FairQueue, WaitingRequest, WaitingRequests
from mt4pump.security.zap import FAILURES_LIMIT, pause_s
from mt4pump.wire import Body

HOPS_LIMIT = 8
"""Frames before the empty one, at most."""
HOP_BYTES = 255
"""What libzmq allows for the name of a peer."""
FRAMES_LIMIT = HOPS_LIMIT + 3
"""More than any request has: what comes after these frames of a message is read and forgotten."""


class Envelope(NamedTuple):
    """A message taken apart. ``payload`` is None when the message is not one frame in an envelope."""

    hops: tuple[bytes, ...]
    payload: bytes | None


def opened(frames: Sequence[bytes]) -> Envelope:
    """Return envelope and payload of the frames that followed the peer's name."""
    head = list(frames[: HOPS_LIMIT + 1])
    if b"" not in head or len(frames) == 1:
        return Envelope((), frames[0] if len(frames) == 1 else None)
    end = head.index(b"") + 1
    hops = tuple(head[:end])
    if any(len(hop) > HOP_BYTES for hop in hops):
        return Envelope((), None)
    return Envelope(hops, frames[end] if len(frames) == end + 1 else None)


POLL_MS = 50
"""How late, at most, an idle thread notices that it is to stop, or that a held cut has expired."""
WAIT_MS = 2
"""The same where requests wait for something else than a message."""
MESSAGES_PER_TURN = 32
"""Messages taken before the next one of the requests that wait is answered."""
WIRE_SLACK = 2
"""A frame up to this many times too large is still read, so that its sender is told; a larger one cuts it off."""
FRAMES_PER_LOOK = 16
"""Frames sent or skipped between two looks at the clock."""
TRACKED_BYTES = 4_096
"""Of a reply of this size it is noted when libzmq has passed it on; of smaller ones it holds ``sndhwm`` at most."""
CHEAP_WAITING = 64
"""No more messages are taken while so many cheap requests wait: they come faster than they can be answered."""
STRETCH_S, LONGEST_REST_S = 0.002, 0.05
"""Work after which the thread rests, and how long at most: others get the interpreter under any flood of requests."""
SEND_BUFFER_BYTES, RECEIVE_BUFFER_BYTES = 2**18, 2**17
"""What the system buffers of a connection; it doubles them."""

log = logging.getLogger(__name__)


class QueryServer(Thread):
    """Answers `describe`, `snapshot` and `replay` on ``endpoint``. Binds in the caller's thread; raises BindError.

    ``secure`` makes the socket a CURVE server, or nothing; ``allowed`` gives the permissions of a client's name (empty
    without CURVE); ``ask_cut`` hands a request to the pump thread; ``reader`` is the journal (None: there is none) and
    from here on the thread's own; ``describe`` gives the body of a description;
    ``way`` makes way for the live stream in the midst of long work. ``crash`` is what ended the thread
    when it should not have.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        *,
        options: QueryOptions,
        secure: Callable[[zmq.Socket[bytes]], None],
        allowed: Callable[[str], PermissionLookup],
        ask_cut: Callable[[SnapshotRequest], None],
        reader: PageReader | None,
        describe: Callable[[], Body],
        way: YieldToPump | None = None,
    ) -> None:
        super().__init__(name="query", daemon=True)
        self.crash: BaseException | None = None
        self._stopping = Event()
        self._is_begun = False
        self._failures = 0  # in a row
        self._reader = reader
        self._options = options
        self._worked_since_s = self._rested_s = 0.0
        self._answers = RequestHandler(
            options,
            allowed=allowed,
            ask_cut=ask_cut,
            reader=reader,
            describe=describe,
            is_stopping=self._check_in,
            way=way,
        )
        self.counts = self._answers.counts
        self._turns = FairQueue(options)
        fault_counters = self._answers.fault_counters
        self.connections = Connections(fault_counters, self._forget_connection, endpoint="query")
        self._peers = Peers(
            options,
            turns=self._turns,
            connections=self.connections,
            fault_counters=fault_counters,
            counts=self.counts,
        )
        self._socket = context.socket(zmq.ROUTER)
        self._socket.copy_threshold = 0  # else a short last frame could not be tracked
        try:
            _apply(self._socket, options)
            secure(self._socket)
            self.connections.watch(self._socket)
            bind(self._socket, endpoint)
        except zmq.ZMQError as error:
            self.connections.unwatch()
            self._socket.close(0)
            raise BindError(bind_failure(endpoint, error, setting="query_endpoint")) from error
        except BaseException:
            self.connections.unwatch()
            self._socket.close(0)
            raise
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._send = super(zmq.Socket, self._socket).send  # half the cost of the layer above it

    def stop(self) -> None:
        """Tell the thread to end, which takes it less than 100 ms; a thread that never began lets go of its address."""
        self._stopping.set()
        if self.ident is None:
            self._close()

    def run(self) -> None:
        """Answer until told to stop."""
        try:
            while not self._stopping.is_set():
                self._turn()
        except (Stopped, zmq.ContextTerminated):
            pass
        except BaseException as error:
            self.crash = error
            log.exception("the query thread crashed")
        finally:
            self._close()

    def _close(self) -> None:
        self.connections.unwatch()
        self._socket.close()
        if self._reader is not None:
            self._reader.close()

    def _check_in(self) -> bool:
        """Look after the connections, also amid long work; return whether the thread is to stop."""
        self._peers.maintain()
        return self._stopping.is_set()

    def _forget_connection(self, number: int) -> None:
        self._peers.gone(number)

    def _turn(self) -> None:
        """Take what came, answer what can be answered. An error of our own costs one request only, and is counted."""
        try:
            self._peers.maintain()
            if self._poll():
                self._take_messages()
            self._send_blocked()
            self._serve()
            self._rest()
        except (Stopped, zmq.ContextTerminated):
            raise
        except Exception as error:
            if self._stopping.is_set() or self._socket.closed:
                raise Stopped from error
            self._failures += 1
            self._answers.fault_counters.record("query_socket", f"a request was lost: {error!r}")
            self.counts["dropped"] += 1
            if self._failures >= FAILURES_LIMIT:
                raise
            self._end_message()
            self._stopping.wait(pause_s(self._failures))
        else:
            self._failures = 0

    def _poll(self) -> bool:
        """Wait for a message, not long where something else is to be done; return whether there is one."""
        if self._turns.waiting or any(self._peers.blocked()):
            patience_ms = 0 if self._ready() is not None else WAIT_MS
        else:
            patience_ms = POLL_MS
            self._answers.cuts.expire()
        since_s = time.perf_counter()
        has_message = bool(self._socket.poll(patience_ms, zmq.POLLIN))
        self._rested_s += time.perf_counter() - since_s
        return has_message

    def _rest(self) -> None:
        """Leave the interpreter to others after a stretch of work, unless waiting for messages did."""
        worked_s = time.thread_time() - self._worked_since_s
        if worked_s < STRETCH_S:
            return
        rest_s = min(worked_s * self._options.flood_rests, LONGEST_REST_S) - self._rested_s
        if rest_s > 0:
            self._stopping.wait(rest_s)
        self._worked_since_s, self._rested_s = time.thread_time(), 0.0

    def _take_messages(self) -> None:
        """Take the messages that came; answer those that are cheap, and let the others wait."""
        for _ in range(MESSAGES_PER_TURN):
            if self._turns.waiting_cheap >= CHEAP_WAITING and self._ready() is not None:
                return
            try:
                name = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._take(name)
            self._answers.pace.tick()

    def _take(self, name: bytes) -> None:
        letter, number, user, size = self._received()
        connection = self._peers.find(name, number, user)
        if connection is None:
            self.counts["dropped"] += 1
            return
        if size > WIRE_SLACK * self._options.max_request_bytes:
            self._peers.disconnect(number, f"it sent a message of {size} bytes")
        id_, request = self._answers.parse(letter.payload)
        ask = WaitingRequest(letter.hops, id_, request, size, time.monotonic())
        can_answer = not connection.waiting and connection.blocked is None
        if ask.is_cheap and can_answer and self._peers.has_room_for_short(connection):
            self._answer(connection, ask)
        elif not self._turns.add(connection, ask):
            text = f"at most {self._options.waiting_limit} requests of a connection may wait: read the replies first"
            self._deliver(connection, ask.hops, self._answers.busy(id_, text))

    def _received(self) -> tuple[Envelope, int, str, int]:
        """Return the rest of the next message, its connection's number, user and size; surplus frames are skipped."""
        frames: list[bytes] = []
        number, user, size, skipped = -1, "", 0, 0
        while self._socket.getsockopt(zmq.RCVMORE):
            frame = self._socket.recv(zmq.NOBLOCK, copy=False)
            size += len(frame)
            if len(frames) < FRAMES_LIMIT:
                frames.append(frame.bytes)
                if number < 0:
                    number, user = _number_of(frame), _user_of(frame)
            else:
                skipped += 1
                if not skipped % FRAMES_PER_LOOK:
                    self._answers.pace.tick()
        return opened(frames), number, user, size

    def _is_ready(self, connection: WaitingRequests, ask: WaitingRequest) -> bool:
        """Return whether a request can be answered now."""
        if ask.is_cheap:
            return self._peers.has_room_for_short(connection)
        return not (ask.wants_cut and self._answers.cut_wait_s() > 0) and self._peers.has_room(connection)

    def _ready(self) -> WaitingRequests | None:
        """Return the connection whose waiting request is next."""
        self._peers.refresh()
        return self._turns.first(self._is_ready)

    def _serve(self) -> None:
        """Answer the next of the requests that wait, and refuse those that waited for too long."""
        for late, ask in self._turns.late(time.monotonic() - self._options.waiting_s):
            text = f"it waited {self._options.waiting_s:g} s behind others: ask again"
            self._deliver(late, ask.hops, self._answers.busy(ask.name, text))
        for _ in range(MESSAGES_PER_TURN):
            connection = self._ready() if self._turns.waiting else None
            if connection is None:
                break
            ask = self._turns.take(connection)
            self._answer(connection, ask)
            if not ask.is_cheap:
                break
        self.counts["waiting"] = self._turns.waiting
        self.counts["snapshots"] = len(self._answers.cuts)
        self.counts["evicted"] = self._answers.cuts.evicted

    def _answer(self, connection: WaitingRequests, ask: WaitingRequest) -> None:
        began_s = time.perf_counter()
        reply = self._answers.reply(ask.name, ask.request, Peer(connection.name, connection.user))
        self._deliver(connection, ask.hops, reply)
        self._turns.spend(connection, time.perf_counter() - began_s)

    def _deliver(self, connection: WaitingRequests, hops: tuple[bytes, ...], reply: OutgoingReply) -> None:
        """Send a reply, or keep it until libzmq takes it; one refusal more than that is dropped."""
        try:
            head = packed_head(reply.head)
        except Exception as error:  # noqa: BLE001 - whatever a description holds, the asker gets an answer
            reply = self._answers.failed(error)
            head = packed_head(reply.head)
        if connection.blocked is not None:
            self.counts["dropped"] += 1
        elif not self._send_all(connection, hops, head, reply):
            self._peers.block(connection, (hops, head, reply))

    def _send_blocked(self) -> None:
        """Try again what libzmq did not take."""
        for connection in self._peers.blocked():
            if (kept := connection.blocked) is not None and self._send_all(connection, *kept):
                connection.blocked = None

    def _end_message(self) -> None:
        """End a message that an error cut short, so that the next one does not become its tail."""
        if self._is_begun:
            self._is_begun = False
            self._send(b"", int(zmq.NOBLOCK))

    def _send_all(
        self, connection: WaitingRequests, hops: tuple[bytes, ...], head: bytes, reply: OutgoingReply
    ) -> bool:
        """Send a whole reply; return False when libzmq still holds the one before. A peer that is gone gets none."""
        send, more = self._send, int(zmq.SNDMORE | zmq.NOBLOCK)  # an enum costs more than the call
        try:
            send(connection.name, more)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self.counts["dropped"] += 1
            self._peers.remove(connection)
            return True
        self._is_begun = True
        frames = [*hops, head, *reply.frames]
        last = len(frames) - 1
        for start in range(0, last, FRAMES_PER_LOOK):
            for frame in frames[start : min(start + FRAMES_PER_LOOK, last)]:
                send(frame, more)
            if last > FRAMES_PER_LOOK:
                self._answers.pace.tick()
        self.counts["events"] += reply.events
        self._send_last(connection, frames[last], len(head) + reply.size)
        self._is_begun = False
        return True

    def _send_last(self, connection: WaitingRequests, frame: bytes, size: int) -> None:
        """End a reply; of a large one note when libzmq has passed it on."""
        if size < TRACKED_BYTES:
            self._send(frame, int(zmq.NOBLOCK))
            return
        tracker = self._send(frame, int(zmq.NOBLOCK), copy=False, track=True)
        self._peers.unread(connection, tracker, size)


def _number_of(frame: zmq.Frame) -> int:
    """Return the file descriptor that a frame came over; -1 where there is none."""
    try:
        return int(frame.get(zmq.SRCFD))
    except (zmq.ZMQError, ValueError, TypeError):
        return -1


def _user_of(frame: zmq.Frame) -> str:
    """Return the client's name that ZAP gave to the connection; empty without CURVE."""
    try:
        return str(frame.get("User-Id"))
    except (zmq.ZMQError, UnicodeDecodeError):
        return ""


def _apply(socket: zmq.Socket[bytes], options: QueryOptions) -> None:
    apply(socket, options.transport)
    socket.setsockopt(zmq.SNDHWM, options.sndhwm)
    socket.setsockopt(zmq.SNDBUF, SEND_BUFFER_BYTES)
    socket.setsockopt(zmq.RCVBUF, RECEIVE_BUFFER_BYTES)
    socket.setsockopt(zmq.RCVHWM, options.rcvhwm)
    socket.setsockopt(zmq.MAXMSGSIZE, WIRE_SLACK * options.max_request_bytes)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.setsockopt(zmq.ROUTER_HANDOVER, 0)
