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

**Subscriptions** are bounded in size, number and pace (`mt4pump.publisher.quotas`). libzmq holds no such bounds, and
keeps what it has read for us without one: so it is given small buffers for what subscribers send, and who goes beyond a
bound, or pushes messages *upstream*, which no SUB socket does, loses its connection (`Connections.disconnect`) and is
kept out for a while (`ConnectionGate.ban`). Nothing that a client does costs another one its connection.

**With keys** (CURVE) libzmq is told each subscription by us (XPUB_MANUAL), narrowed to what the client may hear. In
that mode libzmq 4.3.5 has a flaw: a message pushed upstream makes it apply the subscriptions that wait behind it to the
wrong connections, each to the owner of the next one, so that a client could be given what another one may hear. All is
right again once nothing waits. Therefore no subscription is applied from a pushed message on until nothing waits: the
connections that they came over, if others than the pusher's, end, and come back with their subscriptions by themselves.
And libzmq tells connections apart by addresses in memory, which are used again like their numbers: applied after its
connection has ended, what an earlier client asked for could be given to a later one. Therefore a subscription is
applied only while its connection is known to be open (`mt4pump.publisher.connections`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import zmq

from mt4pump.errors import BindError
from mt4pump.log import FaultCounters
from mt4pump.publisher.binding import SocketOptions, apply, bind, bind_failure
from mt4pump.publisher.connections import Connections
from mt4pump.publisher.flow import BURST_BYTES, CURVE_BURST_BYTES
from mt4pump.publisher.frames import ConnectionGate, is_subscription, number_of, user_of
from mt4pump.publisher.peers import EndpointLimits
from mt4pump.publisher.quotas import Excess, Quotas
from mt4pump.publisher.slow_readers import LARGE_BYTES, LargeBodies, SlowReaders, StalledConnections
from mt4pump.publisher.subscriptions import NO_CONNECTION, SUBSCRIBE, UNSUBSCRIBE, SubscriptionTable
from mt4pump.security.subscription_filter import SubscriptionFilter, split_user_id
from mt4pump.wire import FIRST, HEARTBEAT, Send

__all__ = ["ConnectionGate", "Publisher", "SlowReaders", "SocketOptions", "SubscriptionTable", "bind_failure"]

SUBSCRIPTIONS_PER_READ = 1_000
READ_LIMIT_S = 0.002
"""Subscription messages taken at one look, and the time for it, so that a storm of them cannot hold up events.

The same time is for connections that came and went: while those are more, subscriptions wait for the next look."""
MESSAGES_PER_CLOCK_CHECK = 16
"""Messages taken between two looks at the clock."""
PREFIX_BYTES_MAX = 1_024
WIRE_BYTES_MAX = PREFIX_BYTES_MAX + 64
"""The largest frame that is read: a subscription, and what CURVE and ZMTP put around it."""
RECEIVE_MESSAGES, RECEIVE_BYTES = 200, 16_384
"""What libzmq, and the system, keep of what one connection sent until it is taken."""
HOSTILE = frozenset({"pushed_upstream", "subscription_flood"})
"""What no honest program does: a key that did it loses all its connections."""
CALM_S = 1.0
"""Queues that were not found full for so long are fine again."""
HEARTBEAT_TOPIC = HEARTBEAT.name.encode()

log = logging.getLogger(__name__)


class Publisher:
    """Binds ``endpoint`` and sends two-frame messages. Raises BindError. ``sent`` counts those handed to libzmq.

    The fastest way out is ``send_frame(topic, FIRST)``, then ``send_frame(body)``; when the first raises ``full``,
    ``resend(topic, body)`` instead of the second.
    ``heartbeat_subscribed`` is set when somebody subscribes to the heartbeat's topic; whoever reads it clears it.
    ``has_more`` tells that the last look left something for the next.
    """

    full = zmq.Again
    counts_large = True
    """Whether the bytes of large bodies that wait are counted."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        options: SocketOptions,
        gate: ConnectionGate | None = None,
        fault_counters: FaultCounters | None = None,
    ) -> None:
        self.subscriptions = SubscriptionTable()
        self.sent = 0
        self.slow = SlowReaders()
        self.heartbeat_subscribed = self.has_more = False
        self._fault_counters = fault_counters or FaultCounters(log)
        self._narrows = gate is not None and gate.narrows
        limits = EndpointLimits(
            options.max_connections,
            options.max_connections_per_client,
            CURVE_BURST_BYTES if self._narrows else BURST_BYTES,
            by_address=not self._narrows,
        )
        self.connections = Connections(self._fault_counters, self._forget_connection, limits)
        self.quotas = Quotas()
        self._context = context
        self._options = options
        self._gate = gate
        self._filter = SubscriptionFilter()
        self._users: dict[int, str] = {}
        self._large, self._stalled = LargeBodies(self.slow), StalledConnections()
        self._pending_frame: zmq.Frame | None = None
        self._ignored: tuple[int, str] | None = None
        self._is_changed = self._is_shifted = False
        self._calm_at_s = 0.0
        self._open()
        try:
            bind(self._socket, endpoint)
        except zmq.ZMQError as error:
            self._shut(0)
            raise BindError(bind_failure(endpoint, error)) from error
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def send(self, topic: bytes, body: bytes) -> None:
        """Queue one message for every subscriber of ``topic``; one that is too slow loses it (high-water mark)."""
        if len(body) > LARGE_BYTES and self.counts_large:
            self._send_large(topic, body)
            return
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
        self._resend(topic, lambda: self.send_frame(body))

    def _resend(self, topic: bytes, send_body: Callable[[], object]) -> None:
        self._socket.poll(0)
        try:
            self.send_frame(topic, FIRST)
        except zmq.Again:
            self._send_past_full_queues(topic, send_body)
        else:
            send_body()

    def _send_past_full_queues(self, topic: bytes, send_body: Callable[[], object]) -> None:
        now_s = time.monotonic()
        self.slow.messages += 1
        self.slow.moments += now_s >= self._calm_at_s
        self.slow.last_ts = time.time_ns()
        self._calm_at_s = now_s + CALM_S
        text = f"a subscriber's queue of {self._options.sndhwm} messages is full: it loses messages until it reads some"
        self._fault_counters.record("slow_reader", text)
        self._socket.setsockopt(zmq.XPUB_NODROP, 0)
        try:
            self.send_frame(topic, zmq.SNDMORE)
            send_body()
        finally:
            self._socket.setsockopt(zmq.XPUB_NODROP, 1)

    def read_subscriptions(self) -> bool:
        """Take what subscribers said since the last look, a bounded lot; return whether anybody's interest changed."""
        self.has_more = not self.connections.read_events(READ_LIMIT_S) or self._read_waiting()
        changed, self._is_changed = self._is_changed, False
        return changed

    def maintain(self) -> None:
        """Look after what waits for slow readers; about once a second."""
        if self.slow.large_bytes:
            self._large.settle()
            self._stalled.check(self.connections.numbers())

    def disconnect_revoked(self) -> int:
        """End the connections whose client may no longer hear all that they were allowed; return how many.

        They come back by themselves, to be given what their client may hear now; nobody else notices.
        """
        gate = self._gate
        if gate is None:
            return 0
        revoked = [number for number, user in self._users.items() if self._filter.exceeding(number, gate.allowed(user))]
        for number in revoked:
            self.connections.disconnect(number, is_offender=False)
        return len(revoked)

    def close(self) -> None:
        """Let queued messages go out for as long as the linger setting says, then close."""
        self._shut(None)

    def _open(self) -> None:
        self._socket = self._context.socket(zmq.XPUB)
        self.send_frame: Send = super(zmq.Socket, self._socket).send  # below the layer for options we do not use
        apply(self._socket, self._options)
        self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        self._socket.setsockopt(zmq.SNDTIMEO, 0)  # whatever happens, sending never waits
        self._socket.setsockopt(zmq.MAXMSGSIZE, WIRE_BYTES_MAX)
        self._socket.setsockopt(zmq.RCVHWM, RECEIVE_MESSAGES)
        self._socket.setsockopt(zmq.RCVBUF, RECEIVE_BYTES)
        self._socket.setsockopt(zmq.XPUB_MANUAL if self._narrows else zmq.XPUB_VERBOSER, 1)
        if self._gate is not None:
            self._gate.secure(self._socket, self.connections.generation)
        self.connections.watch(self._socket)

    def _shut(self, linger_ms: int | None) -> None:
        self.connections.unwatch()
        self._socket.close(linger_ms)

    def _send_large(self, topic: bytes, body: bytes) -> None:
        """Send a body whose bytes are counted while it waits; see `mt4pump.publisher.slow_readers`."""
        if not self._large.fits(len(body)) and not self._disconnect_stalled(len(body)):
            self.slow.large_dropped += 1
            text = f"{self.slow.large_bytes} bytes of large bodies wait for slow readers: {topic!r} was sent to nobody"
            self._fault_counters.record("large_dropped", text)
            return
        frame = self._large.frame(body)
        send_whole = super(zmq.Socket, self._socket).send
        try:
            self.send_frame(topic, FIRST)
        except zmq.Again:
            self._resend(topic, lambda: send_whole(frame, copy=False))
        else:
            send_whole(frame, copy=False)
        self.sent += 1

    def _disconnect_stalled(self, size: int) -> bool:
        """End the connections that take nothing; return whether there is room for ``size`` bytes by that.

        libzmq gives up what it keeps for them in its own time: until then large bodies are dropped.
        """
        for number in self._stalled.stalled():
            if peer := self.connections.disconnect(number):
                text = f"{peer} takes nothing while {self.slow.large_bytes} bytes of large bodies wait: it is put out"
                self._fault_counters.record("stalled_reader", text)
        return self._large.fits(size)

    def _read_waiting(self) -> bool:
        """Take messages until there is none, or enough for one look; return whether there are more."""
        deadline_s = time.monotonic() + READ_LIMIT_S
        for count in range(1, SUBSCRIPTIONS_PER_READ + 1):
            frame, self._pending_frame = self._pending_frame, None
            if frame is None:
                try:
                    frame = self._socket.recv(zmq.NOBLOCK, copy=False)
                except zmq.Again:
                    self._is_shifted = False  # nothing waits: libzmq has its order again
                    return count > RECEIVE_MESSAGES // 2  # its thread is reading on meanwhile
            if not self._is_of_ignored(frame):
                if not self.connections.read_events(
                    READ_LIMIT_S
                ):  # first of all: numbers of connections are used again
                    self._pending_frame = frame
                    break
                self._handle(frame)
            if not count % MESSAGES_PER_CLOCK_CHECK and time.monotonic() >= deadline_s:
                break
        return True

    def _is_of_ignored(self, frame: zmq.Frame) -> bool:
        """Return whether the connection that was ignored last sent this, too: after a flood most of what waits."""
        ignored = self._ignored
        if ignored is None or ignored[0] != number_of(frame) or ignored[1] != user_of(frame):
            return False
        self._is_shifted |= self._narrows and not is_subscription(frame.bytes)
        return True

    def _handle(self, frame: zmq.Frame) -> None:
        message, number, called = frame.bytes, number_of(frame), user_of(frame)
        is_wanting = is_subscription(message)
        self._is_shifted |= self._narrows and not is_wanting
        if number == NO_CONNECTION:
            if not self._narrows:
                self._note(self.subscriptions.take(message), message, message[1:])
            return
        user, generation = split_user_id(called) if self._gate is not None else ("", None)
        if not self.connections.is_open(number, generation):  # it ended before it was heard
            if self._gate is not None and self.connections.has_flooded(number, generation):
                self._gate.ban(user, "it sent more than a subscriber may")
                self._disconnect_all_of(user)
            self._ignored = (number, called) if called else None
            return
        if self._gate is not None and self._gate.is_banned(user):  # since its handshake
            self.connections.disconnect(number)
            return
        if not self.connections.claim(number, user):
            return
        if not is_wanting:
            self._disconnect_offender(
                number, user, "pushed_upstream", "it pushed a message upstream, which no subscriber does"
            )
        elif self._is_shifted:
            self._fault_counters.record(
                "misattributed", "subscriptions beside a pushed message: their connections begin anew"
            )
            self.connections.disconnect(number, is_offender=False)
        elif len(message) > PREFIX_BYTES_MAX + 1:
            self._disconnect_offender(
                number, user, "too_long_prefix", f"it subscribed to a text above {PREFIX_BYTES_MAX} bytes"
            )
        elif not self.quotas.receive(number, self.connections.client_of(number)):
            self._disconnect_offender(number, user, "subscription_flood", "it subscribes and unsubscribes without end")
        elif self._narrows and self._gate is not None:
            self._handle_narrowed(message, number, user, self._gate)
        else:
            self._handle_plain(message, number, user)

    def _handle_plain(self, message: bytes, number: int, user: str) -> None:
        is_new = self.subscriptions.take(message, number)
        if is_new:
            self._count(message, number, user, message[1:])
        self._note(is_new, message, message[1:])

    def _handle_narrowed(self, message: bytes, number: int, user: str, gate: ConnectionGate) -> None:
        """Give a connection the allowed part of what it asks for; libzmq knows which one was heard last."""
        self._users[number] = user
        prefix = message[1:]
        if message[0] == SUBSCRIBE:
            given = self._filter.ask(number, prefix, lambda: gate.allowed(user))
            if not given:
                self._check_excess(self.quotas.add_idle(number, len(prefix)), number, user)
            for each in given:
                self._socket.setsockopt(zmq.SUBSCRIBE, each)
                is_new = self.subscriptions.add(each, number)
                if is_new:
                    self._count(message, number, user, each)
                self._note(is_new, message, each)
        else:
            for each in self._filter.withdraw(number, prefix):
                self._socket.setsockopt(zmq.UNSUBSCRIBE, each)
                is_new = self.subscriptions.drop(each, number)
                if is_new:
                    self._count(message, number, user, each)
                self._note(is_new, message, each)

    def _count(self, message: bytes, number: int, user: str, prefix: bytes) -> None:
        """Count what a connection has more, or less, than before; put it out when that is too much."""
        if message[0] == UNSUBSCRIBE:
            self.quotas.drop(number, len(prefix))
        else:
            self._check_excess(self.quotas.add(number, len(prefix)), number, user)

    def _check_excess(self, excess: Excess, number: int, user: str) -> None:
        if excess is Excess.TOTAL:
            largest = self.quotas.largest()
            number, user = (number, user) if largest is None else (largest, self._users.get(largest, ""))
        if excess:
            self._disconnect_offender(number, user, "too_many_prefixes", f"more subscriptions than {excess} may have")

    def _disconnect_offender(self, number: int, user: str, name: str, why: str) -> None:
        """End a connection, and keep its client out for a while."""
        client = user or self.connections.client_of(number)
        if peer := self.connections.disconnect(number):
            self._fault_counters.record(name, f"client {client!r} from {peer}: {why}: its connection is closed")
            if self._gate is not None:
                self._gate.ban(client, why)
            if name in HOSTILE:
                self._disconnect_all_of(client)

    def _disconnect_all_of(self, client: str) -> None:
        """End what a key still has open; an address, which others may share, keeps it."""
        if self._narrows:
            self.connections.disconnect_client(client)

    def _note(self, is_new: bool, message: bytes, prefix: bytes) -> None:  # noqa: FBT001 - what Interest answered
        """Note that somebody wants something more, or less, than before."""
        if not is_new:
            return
        self._is_changed = True
        if message[0] == SUBSCRIBE and (HEARTBEAT_TOPIC.startswith(prefix) or prefix.startswith(HEARTBEAT_TOPIC)):
            self.heartbeat_subscribed = True

    def _forget_connection(self, number: int) -> None:
        self._filter.remove(number)
        self._users.pop(number, None)
        self.quotas.remove(number)
        self._stalled.remove(number)
        self._is_changed |= self.subscriptions.remove(number)
