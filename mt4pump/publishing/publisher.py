"""The XPUB socket: who listens to what, the fastest way out, and what happens to readers that are too slow.

Owned by one thread, the pump's. A topic that nobody subscribed to is numbered and counted but not packed nor sent.

**Slow readers.** libzmq keeps up to ``sndhwm`` messages per subscriber; one whose queue is full loses what comes until
it has read half of the queue, and nobody else loses anything. XPUB_NODROP makes libzmq say so for the first message
that a queue does not take. libzmq is then made to look at what its readers took meanwhile (`Publisher.resend`); a queue
that is still full is passed over, which is counted in `SlowReaders`. From there until that subscriber has read half of
its queue libzmq leaves it out *without a word*: how many more it lost only the gap in its ``seq`` tells. So
``messages`` counts the beginnings of losses: each run of lost messages begins with one that is counted, and now and
then one is counted for which there was room again at the last attempt. 0 means: none was lost.

**Memory** of S subscribers that never read, at ``sndhwm`` H, with messages of two frames::

    S · H · 2 · 64 bytes                  a handle per frame and subscriber; a content up to 33 bytes is inside it
  + D · (body + about 60 bytes)           each different message once: D = H if all stalled together, at most S · H
  + S · (about 60 KiB)                    libzmq's buffers of a connection
  + S · what the system buffers           kernel memory, not the daemon's: net.ipv4.tcp_wmem and tcp_rmem

which is 13 MB of handles per stalled subscriber at the default of 100,000, plus its backlog once. ZMTP heartbeats end
the connections of programs that hang or vanish, but not of one whose ZeroMQ threads live while it does not read.

**Subscriptions** are frames of at most `PREFIX_BYTES_MAX` bytes; libzmq cuts off who sends longer ones. What is
remembered of them, and how much, tells `mt4pump.publishing.interest`.

**With a gate** (CURVE) libzmq is told each subscription by us (XPUB_MANUAL), narrowed to what the client may hear. In
that mode libzmq 4.3.5 has a flaw: a message pushed *upstream*, which no SUB socket sends, makes it apply subscriptions
that wait behind it to the wrong connection, so that a client could be given what another one may hear. Therefore none
of those is applied: who pushed is put out (`Gatekeeper.expel`), and the socket opened anew. And libzmq tells
connections apart by addresses in memory, which are used again like their numbers: applied after its connection has
ended, what an earlier client asked for could be given to a later one. Therefore a subscription is applied only while
its connection is known to be open (`mt4pump.publishing.connections`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol

import zmq

from mt4pump.complaints import Complaints
from mt4pump.errors import BindError
from mt4pump.publishing.binding import SocketOptions, apply, bind, bind_failure
from mt4pump.publishing.connections import Connections
from mt4pump.publishing.interest import NOBODY, SUBSCRIBE, UNSUBSCRIBE, Interest
from mt4pump.quotes import FIRST, Send
from mt4pump.security.admission import Admission, unmarked
from mt4pump.security.permissions import Permissions
from mt4pump.wire import HEARTBEAT

__all__ = ["Gate", "Interest", "Publisher", "SlowReaders", "SocketOptions", "bind_failure"]

SUBSCRIPTIONS_PER_LOOK = 1_000
LOOK_LIMIT_S = 0.002
"""Subscription messages taken at one look, and the time for it, so that a storm of them cannot hold up events.

The same time is for connections that came and went: while those are more, subscriptions wait for the next look."""
LOOKS_PER_CLOCK = 16
"""Messages taken between two looks at the clock."""
PREFIX_BYTES_MAX = 4_096
CALM_S = 1.0
"""Queues that were not found full for so long are fine again."""
CLOSE_LIMIT_S = 0.25
REBIND_TRIES = 10
REBIND_DELAY_S = 0.01
REBIND_AGAIN_S = 0.25
"""Opening the socket anew takes at most the sum of these; an address that is not free by then is tried again later."""
HEARTBEAT_TOPIC = HEARTBEAT.name.encode()

log = logging.getLogger(__name__)


class Gate(Protocol):
    """What the publisher needs of `mt4pump.security.Gatekeeper`."""

    def secure(self, socket: zmq.Socket[bytes], mark: Callable[[], int | None], /) -> None:
        """Make the socket a CURVE server, whose connections have a ``mark``."""

    def allowed(self, user: str, /) -> Permissions:
        """Return what a connection may hear."""

    def expel(self, user: str, why: str, /) -> None:
        """Refuse a client from now on."""


@dataclass(slots=True)
class SlowReaders:
    """``messages``: those at which a subscriber's queue was found to be newly full (see above).

    ``moments``: times that this began after a second without; ``last_ts``: the last time, ns since 1970, 0 for never.
    """

    messages: int = 0
    moments: int = 0
    last_ts: int = 0

    def counters(self) -> dict[str, int]:
        """Return the heartbeat's ``slow_readers``."""
        return asdict(self)


class Publisher:
    """Binds ``endpoint`` and sends two-frame messages. Raises BindError. ``sent`` counts those handed to libzmq.

    The fastest way out is ``send_frame(topic, FIRST)``, then ``send_frame(body)``; when the first raises ``full``,
    ``resend(topic, body)`` instead of the second. ``send_frame`` is another one after `reopen`: fetch it per batch.
    ``heard_heartbeat`` is set when somebody subscribes to the heartbeat's topic; whoever reads it clears it.
    ``more_waiting`` tells that the last look left something for the next.
    """

    full = zmq.Again

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        options: SocketOptions,
        gate: Gate | None = None,
        complaints: Complaints | None = None,
    ) -> None:
        self.interest = Interest()
        self.sent = 0
        self.reopened = 0
        self.slow = SlowReaders()
        self.heard_heartbeat = self.more_waiting = False
        self._complaints = complaints or Complaints(log)
        self.connections = Connections(self._complaints, self._gone)
        self._context = context
        self._options = options
        self._gate = gate
        self._admission = Admission()
        self._is_changed = self._is_bound = False
        self._calm_at_s = self._bind_at_s = 0.0
        self._open()
        try:
            bind(self._socket, endpoint)
        except zmq.ZMQError as error:
            self._shut(0)
            raise BindError(bind_failure(endpoint, error)) from error
        self._is_bound = True
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def send(self, topic: bytes, body: bytes) -> None:
        """Queue one message for every subscriber of ``topic``; one that is too slow loses it (high-water mark)."""
        try:
            self.send_frame(topic, FIRST)
        except zmq.Again:
            self.resend(topic, body)
        else:
            self.send_frame(body)
        self.sent += 1

    def resend(self, topic: bytes, body: bytes) -> None:
        """Send a message that ``full`` kept from going: past the queues that are full, which is counted.

        libzmq looks only now and then at what readers took meanwhile, so ``full`` may rest on stale credit: a second
        attempt, after it was made to look, is refused only for the sake of queues that are full now.
        """
        self._socket.getsockopt(zmq.EVENTS)
        try:
            self.send_frame(topic, FIRST)
        except zmq.Again:
            self._send_past_full_queues(topic, body)
        else:
            self.send_frame(body)

    def _send_past_full_queues(self, topic: bytes, body: bytes) -> None:
        now_s = time.monotonic()
        self.slow.messages += 1
        self.slow.moments += now_s >= self._calm_at_s
        self.slow.last_ts = time.time_ns()
        self._calm_at_s = now_s + CALM_S
        text = f"a subscriber's queue of {self._options.sndhwm} messages is full: it loses messages until it reads some"
        self._complaints.add("slow_reader", text)
        self._socket.setsockopt(zmq.XPUB_NODROP, 0)
        try:
            self.send_frame(topic, zmq.SNDMORE)
            self.send_frame(body)
        finally:
            self._socket.setsockopt(zmq.XPUB_NODROP, 1)

    def look_for_subscriptions(self) -> bool:
        """Take what subscribers said since the last look, a bounded lot; return whether anybody's interest changed."""
        if not self._is_bound and time.monotonic() >= self._bind_at_s:
            self._bind_again(1)
        self.more_waiting = not self.connections.look(LOOK_LIMIT_S) or self._take_waiting()
        changed, self._is_changed = self._is_changed, False
        return changed

    def reopen(self) -> None:
        """Close the socket and open it anew on the same address, so that every connection is judged anew.

        Subscribers come back by themselves; what is published meanwhile they lose, and see it by ``seq``. Takes a few
        milliseconds, at most half a second; an address that is not free by then is tried again at later looks.
        """
        if self._is_bound:
            self.connections.unbind(self.endpoint, CLOSE_LIMIT_S)  # an ipc one removes its file as the last thing
        self._shut(None)
        self.interest.clear()
        self._admission.clear()
        self._is_changed, self._is_bound = True, False
        self.reopened += 1
        self._open()
        self._bind_again(REBIND_TRIES)

    def close(self) -> None:
        """Let queued messages go out for as long as the linger setting says, then close."""
        self._shut(None)

    def _open(self) -> None:
        self._socket = self._context.socket(zmq.XPUB)
        self.send_frame: Send = super(zmq.Socket, self._socket).send  # below the layer for options we do not use
        apply(self._socket, self._options)
        self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        self._socket.setsockopt(zmq.SNDTIMEO, 0)  # whatever happens, sending never waits
        self._socket.setsockopt(zmq.MAXMSGSIZE, PREFIX_BYTES_MAX)
        self._socket.setsockopt(zmq.XPUB_VERBOSER if self._gate is None else zmq.XPUB_MANUAL, 1)
        if self._gate is not None:
            self._gate.secure(self._socket, self.connections.mark)
        self.connections.watch(self._socket)

    def _shut(self, linger_ms: int | None) -> None:
        self.connections.unwatch()
        self._socket.close(linger_ms)

    def _bind_again(self, tries: int) -> None:
        """Bind to the address that the socket had; the file of an ``ipc`` one is our own and may be replaced."""
        for trial in range(tries):
            if trial:
                time.sleep(REBIND_DELAY_S)
            try:
                self._socket.bind(self.endpoint)
            except zmq.ZMQError as error:
                failure = error
            else:
                self._is_bound = True
                return
        self._bind_at_s = time.monotonic() + REBIND_AGAIN_S
        self._complaints.add("rebind_failed", f"nobody can connect: {bind_failure(self.endpoint, failure)}")

    def _take_waiting(self) -> bool:
        """Take messages until there is none, or enough for one look; return whether there are more."""
        deadline_s = time.monotonic() + LOOK_LIMIT_S
        for count in range(1, SUBSCRIPTIONS_PER_LOOK + 1):
            try:
                frame = self._socket.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return False
            self._take(frame)
            if not count % LOOKS_PER_CLOCK and time.monotonic() >= deadline_s:
                break
        return True

    def _take(self, frame: zmq.Frame) -> None:
        if not self.connections.look():  # first of all: numbers of connections are used again
            self._complaints.add("uncounted", "connections come and go faster than they can be counted: all begin anew")
            self.reopen()
            return
        message, number = frame.bytes, _number_of(frame)
        if not message or message[0] not in {SUBSCRIBE, UNSUBSCRIBE}:
            self._take_pushed(frame)
        elif self._gate is not None:
            self._take_gated(message, number, _user_of(frame), self._gate)
        elif number == NOBODY or self.connections.is_open(number):  # else it ended before it was heard
            self._note(self.interest.take(message, number), message, message[1:])

    def _take_gated(self, message: bytes, number: int, called: str, gate: Gate) -> None:
        """Give a connection the allowed part of what it asks for; libzmq knows which one was heard last."""
        user, mark = unmarked(called)
        if number == NOBODY or not self.connections.is_open(number, mark):
            return
        prefix = message[1:]
        if message[0] == SUBSCRIBE:
            refused = self._admission.refused
            for each in self._admission.ask(number, prefix, lambda: gate.allowed(user)):
                self._socket.setsockopt(zmq.SUBSCRIBE, each)
                self._note(self.interest.add(each, number), message, each)
            if self._admission.refused != refused:
                self._complaints.add("too_many_prefixes", f"client {user!r}: a subscription was refused")
        else:
            for each in self._admission.withdraw(number, prefix):
                self._socket.setsockopt(zmq.UNSUBSCRIBE, each)
                self._note(self.interest.drop(each, number), message, each)

    def _note(self, is_new: bool, message: bytes, prefix: bytes) -> None:  # noqa: FBT001 - what Interest answered
        """Note that somebody wants something more, or less, than before."""
        if not is_new:
            return
        self._is_changed = True
        if message[0] == SUBSCRIBE and (HEARTBEAT_TOPIC.startswith(prefix) or prefix.startswith(HEARTBEAT_TOPIC)):
            self.heard_heartbeat = True
        if self.interest.overfull:
            text = "more subscriptions than are remembered: everything is packed until their connections end"
            self._complaints.add("too_many_prefixes", text)

    def _take_pushed(self, frame: zmq.Frame) -> None:
        """Ignore what no subscriber says; with a gate, put out who said it (see the module's text)."""
        if self._gate is not None:
            self._gate.expel(unmarked(_user_of(frame))[0], "it pushed a message upstream, which no subscriber does")
            self.reopen()

    def _gone(self, number: int) -> None:
        self._admission.leave(number)
        self._is_changed |= self.interest.leave(number)


def _number_of(frame: zmq.Frame) -> int:
    """Return the number of the connection that a message came over; NOBODY for what libzmq says itself."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return NOBODY


def _user_of(frame: zmq.Frame) -> str:
    """Return what ZAP called the client; empty for what has no name."""
    try:
        return str(frame.get("User-Id"))
    except (zmq.ZMQError, UnicodeDecodeError):
        return ""
