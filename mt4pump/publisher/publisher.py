"""The XPUB socket: sends messages, reads subscriptions, and handles subscribers that are too slow or do harm.

Owned by one thread, the pump's. A topic without a subscriber is numbered and counted but not packed nor sent.
Why it is done so, and libzmq's flaw with keys: ARCHITECTURE, "The publishing socket".
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

import zmq

from mt4pump.errors import BindError
from mt4pump.log import FaultCounters
from mt4pump.publisher.binding import DirectSocket, SocketClass, apply, bind, bind_failure
from mt4pump.publisher.connections import Connections
from mt4pump.publisher.descriptors import BURST_BYTES, CURVE_BURST_BYTES, EndpointLimits, number_of, user_of
from mt4pump.publisher.slow_readers import LARGE_BYTES, LargeBodies, SlowReaders
from mt4pump.publisher.subscriptions import NO_CONNECTION, SUBSCRIBE, Excess, SubscriptionTable, is_subscription
from mt4pump.security import Permissions, PlainAuthenticator, ZapAuthenticator
from mt4pump.security.permissions import SubscriptionFilter, split_user_id
from mt4pump.settings import Settings
from mt4pump.wire import FIRST, HEARTBEAT, Send

Authenticator = ZapAuthenticator | PlainAuthenticator

SUBSCRIPTIONS_PER_READ = 1_000
READ_LIMIT_S = 0.002
"""Messages taken at one reading, and the time for it, so that a storm of them cannot delay events.

The same time is for connections that came and went: while those are more, subscriptions wait for the next reading."""
MESSAGES_PER_CLOCK_CHECK = 16
PREFIX_BYTES_MAX = 1_024
WIRE_BYTES_MAX = PREFIX_BYTES_MAX + 64
"""The largest frame that is read: a subscription, and what CURVE and ZMTP put around it."""
RECEIVE_MESSAGES, RECEIVE_BYTES = 200, 16_384
"""What libzmq, and the system, keep of what one connection sent until it is taken.

Where the system reports how many bytes came, `ByteFlow` bounds what libzmq keeps, which holds nothing back then: see
`mt4pump.libzmq_sockets`."""
HOSTILE = frozenset({"pushed_upstream", "subscription_flood"})
"""What no honest program does: a key that did it loses all its connections."""
CALM_S = 1.0
"""Queues that were not full for so long count as fine again."""
HEARTBEAT_TOPIC = HEARTBEAT.name.encode()

log = logging.getLogger(__name__)


class Publisher:
    """Binds ``pub_endpoint`` and sends two-frame messages. Raises BindError. ``sent`` counts those handed to libzmq.

    The fastest way to send is ``send_frame(topic, FIRST)``, then ``send_frame(body)``; when the first raises ``full``,
    ``resend(topic, body)`` instead of the second. ``heartbeat_subscribed`` is set when a client subscribes to the
    heartbeat's topic; its reader clears it. ``has_more``: the last reading left something for the next.
    """

    full = zmq.Again

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        settings: Settings,
        authenticator: Authenticator | None = None,
        fault_counters: FaultCounters | None = None,
        *,
        socket_class: SocketClass = DirectSocket,
    ) -> None:
        self.subscriptions = SubscriptionTable()
        self.sent = 0
        self.slow = SlowReaders()
        self.heartbeat_subscribed = self.has_more = False
        self._fault_counters = fault_counters or FaultCounters(log)
        self._narrows = authenticator is not None and authenticator.narrows
        limits = EndpointLimits(
            settings.max_connections,
            settings.max_connections_per_client,
            CURVE_BURST_BYTES if self._narrows else BURST_BYTES,
            by_address=not self._narrows,
        )
        self.connections = Connections(self._fault_counters, limits, self._forget_connection)
        self._settings = settings
        self._authenticator = authenticator
        self._filter = SubscriptionFilter()
        self._users: dict[int, str] = {}
        self._large = LargeBodies(self.slow)
        self._pending_frame: zmq.Frame | None = None
        self._ignored: tuple[int, str] | None = None
        self._is_changed = False
        self._is_misattributed = False  # libzmq mistakes whose subscriptions wait: ARCHITECTURE, "Keys"
        self._calm_at_s = 0.0
        endpoint = settings.pub_endpoint
        self._knows_bytes = sys.platform == "linux" and endpoint.startswith("tcp:") and authenticator is not None
        self._socket = context.socket(zmq.XPUB, socket_class)
        self.send_frame: Send = self._socket.send
        self._configure()
        try:
            bind(self._socket, endpoint)
            self.connections.read_events()
        except zmq.ZMQError as error:
            self.close(0)
            raise BindError(bind_failure(endpoint, error)) from error
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def send(self, topic: bytes, body: bytes) -> None:
        """Queue one message for every subscriber of ``topic``; one that is too slow loses it (high-water mark)."""
        if len(body) > LARGE_BYTES:
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
        """Send a message that raised ``full``: queues that are full are skipped, which is counted."""
        self._resend(topic, lambda: self.send_frame(body))

    def _resend(self, topic: bytes, send_body: Callable[[], object]) -> None:
        self._socket.poll(0)  # libzmq checks only now and then what readers took; this makes it check
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
        limit = self._settings.sndhwm
        text = f"a subscriber's queue of {limit} messages is full: it loses messages until it reads some"
        self._fault_counters.record("slow_reader", text)
        self._socket.setsockopt(zmq.XPUB_NODROP, 0)
        try:
            self.send_frame(topic, zmq.SNDMORE)
            send_body()
        finally:
            self._socket.setsockopt(zmq.XPUB_NODROP, 1)

    def read_subscriptions(self) -> bool:
        """Take a bounded number of messages of subscribers; return whether any subscription changed.

        Connections whose client lost permissions are closed first.
        """
        if self._authenticator is not None and self._authenticator.has_new_revocations():
            self._disconnect_revoked(self._authenticator.allowed)
        self.has_more = not self.connections.read_events(READ_LIMIT_S) or self._read_waiting()
        changed, self._is_changed = self._is_changed, False
        return changed

    def maintain(self) -> None:
        """Check what waits for slow readers; about once a second."""
        if self.slow.large_bytes:
            self._large.settle()
            self._large.check_stalled(self.connections.numbers())

    def close(self, linger_ms: int | None = None) -> None:
        """Send queued messages for as long as ``linger_ms``, or the setting, says, then close."""
        self.connections.detach()
        self._socket.close(linger_ms)

    def _disconnect_revoked(self, allowed: Callable[[str], Permissions]) -> None:
        """Close the connections whose client may no longer receive all that they were allowed.

        They reconnect by themselves and get what their client may receive now; no other client notices.
        """
        exceeding = self._filter.exceeding
        revoked = [number for number, user in self._users.items() if exceeding(number, allowed(user))]
        for number in revoked:
            self.connections.disconnect(number, is_offender=False)
        if revoked:
            text = "a client lost permissions: %d connections were closed; the new permissions hold when they reconnect"
            log.warning(text, len(revoked))

    def _configure(self) -> None:
        apply(self._socket, self._settings)
        self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        self._socket.setsockopt(zmq.SNDTIMEO, 0)  # whatever happens, sending never waits
        self._socket.setsockopt(zmq.MAXMSGSIZE, WIRE_BYTES_MAX)
        self._socket.setsockopt(zmq.RCVHWM, 0 if self._knows_bytes else RECEIVE_MESSAGES)
        self._socket.setsockopt(zmq.RCVBUF, RECEIVE_BYTES)
        self._socket.setsockopt(zmq.XPUB_MANUAL if self._narrows else zmq.XPUB_VERBOSER, 1)
        if self._authenticator is not None:
            self._authenticator.secure(self._socket, self.connections.generation)
        self.connections.attach(self._socket)

    def _send_large(self, topic: bytes, body: bytes) -> None:
        """Send a body whose bytes are counted while it is queued; see `mt4pump.publisher.slow_readers`."""
        if not self._large.fits(len(body)) and not self._disconnect_stalled(len(body)):
            self.slow.large_dropped += 1
            text = f"{self.slow.large_bytes} bytes of large bodies wait for slow readers: {topic!r} was sent to nobody"
            self._fault_counters.record("large_dropped", text)
            return
        frame = self._large.frame(body)
        send_whole = self._socket.send
        try:
            self.send_frame(topic, FIRST)
        except zmq.Again:
            self._resend(topic, lambda: send_whole(frame, copy=False))
        else:
            send_whole(frame, copy=False)
        self.sent += 1

    def _disconnect_stalled(self, size: int) -> bool:
        """Close the connections that accept nothing; return whether there is room for ``size`` bytes by that.

        libzmq frees what it keeps for them in its own time: until then large bodies are dropped.
        """
        for number in self._large.stalled():
            if peer := self.connections.disconnect(number):
                waiting = self.slow.large_bytes
                text = f"{peer} reads nothing while {waiting} bytes of large bodies wait: its connection is closed"
                self._fault_counters.record("stalled_reader", text)
        return self._large.fits(size)

    def _read_waiting(self) -> bool:
        """Take messages until none waits, or enough for one reading; return whether there are more."""
        deadline_s = time.monotonic() + READ_LIMIT_S
        for count in range(1, SUBSCRIPTIONS_PER_READ + 1):
            frame, self._pending_frame = self._pending_frame, None
            if frame is None:
                try:
                    frame = self._socket.recv(zmq.NOBLOCK, copy=False)
                except zmq.Again:
                    self._is_misattributed = False  # nothing waits behind the pushed message any more
                    self.connections.incomplete.note_empty()
                    return count > RECEIVE_MESSAGES // 2  # more may have come meanwhile
            if not self._is_of_ignored(frame):
                if not self.connections.read_events(READ_LIMIT_S):  # first: numbers of connections are reused
                    self._pending_frame = frame
                    break
                self._handle(frame)
            if not count % MESSAGES_PER_CLOCK_CHECK and time.monotonic() >= deadline_s:
                break
        return True

    def _is_of_ignored(self, frame: zmq.Frame) -> bool:
        """Return whether the connection that was ignored last sent this, too: after a flood most of what waits."""
        if self._ignored is None or self._ignored != (number_of(frame), user_of(frame)):
            return False
        self._is_misattributed |= self._narrows and not is_subscription(frame.bytes)
        return True

    def _handle(self, frame: zmq.Frame) -> None:
        message, number, user_id = frame.bytes, number_of(frame), user_of(frame)
        self._is_misattributed |= self._narrows and not is_subscription(message)
        if number == NO_CONNECTION:
            if not self._narrows and is_subscription(message):
                self._apply(message, message[1:], number, user="")
            return
        user, generation = split_user_id(user_id) if self._authenticator is not None else ("", None)
        if not self.connections.is_open(number, generation):  # it ended before this was read
            if self._authenticator is not None and self.connections.has_flooded(number, generation):
                self._authenticator.ban(user, "it sent more than a subscriber may")
                self._disconnect_all_of(user)
            self._ignored = (number, user_id) if user_id else None
        elif self._authenticator is not None and self._authenticator.is_banned(user):  # since its handshake
            self.connections.disconnect(number)
        elif self.connections.claim(number, user) and self._is_acceptable(message, number, user):
            if self._narrows and self._authenticator is not None:
                self._apply_narrowed(message, number, user, self._authenticator)
            else:
                self._apply(message, message[1:], number, user)

    def _is_acceptable(self, message: bytes, number: int, user: str) -> bool:
        """Return whether a message may be applied; the connection of one that may not is closed."""
        if not is_subscription(message):
            why = "it pushed a message upstream, which no subscriber does"
            self._disconnect_offender(number, user, "pushed_upstream", why)
        elif self._is_misattributed:
            text = "subscriptions waited behind a pushed message: their connections are closed and reconnect"
            self._fault_counters.record("misattributed", text)
            self.connections.disconnect(number, is_offender=False)
        elif len(message) > PREFIX_BYTES_MAX + 1:
            why = f"it subscribed to a text above {PREFIX_BYTES_MAX} bytes"
            self._disconnect_offender(number, user, "too_long_prefix", why)
        elif not self.subscriptions.receive(number, self.connections.client_of(number)):
            self._disconnect_offender(number, user, "subscription_flood", "it subscribes and unsubscribes without end")
        else:
            return True
        return False

    def _apply_narrowed(self, message: bytes, number: int, user: str, authenticator: Authenticator) -> None:
        """Give a connection the allowed part of its subscription; libzmq applies it to the sender of the last frame."""
        self._users[number] = user
        prefix = message[1:]
        if message[0] == SUBSCRIBE:
            option, narrowed = zmq.SUBSCRIBE, self._filter.ask(number, prefix, lambda: authenticator.allowed(user))
            if not narrowed:
                self.subscriptions.add_idle(len(prefix), number)
                self._check_excess(number, user)
        else:
            option, narrowed = zmq.UNSUBSCRIBE, self._filter.withdraw(number, prefix)
        for each in narrowed:
            self._socket.setsockopt(option, each)
            self._apply(message, each, number, user)

    def _apply(self, message: bytes, prefix: bytes, number: int, user: str) -> None:
        """Add or drop a prefix of a connection; close the connection if it has too many."""
        is_new = message[0] == SUBSCRIBE
        if not (self.subscriptions.add if is_new else self.subscriptions.drop)(prefix, number):
            return
        self._is_changed = True
        if is_new:
            self.heartbeat_subscribed |= HEARTBEAT_TOPIC.startswith(prefix) or prefix.startswith(HEARTBEAT_TOPIC)
            self._check_excess(number, user)

    def _check_excess(self, number: int, user: str) -> None:
        if number == NO_CONNECTION:
            return
        excess = self.subscriptions.excess(number)
        if excess is Excess.TOTAL:
            largest = self.subscriptions.largest()
            number, user = (number, user) if largest is None else (largest, self._users.get(largest, ""))
        if excess:
            self._disconnect_offender(number, user, "too_many_prefixes", f"more subscriptions than {excess} may have")

    def _disconnect_offender(self, number: int, user: str, name: str, why: str) -> None:
        """Close a connection, and ban its client for a while."""
        client = user or self.connections.client_of(number)
        if peer := self.connections.disconnect(number):
            self._fault_counters.record(name, f"client {client!r} from {peer}: {why}: its connection is closed")
            if self._authenticator is not None and client:  # a peer of ipc has no address that could be banned
                self._authenticator.ban(client, why)
            if name in HOSTILE:
                self._disconnect_all_of(client)

    def _disconnect_all_of(self, client: str) -> None:
        """Close what a key still has open; an address, which others may share, keeps its connections."""
        if self._narrows:
            self.connections.disconnect_client(client)

    def _forget_connection(self, number: int) -> None:
        self._filter.remove(number)
        self._users.pop(number, None)
        self._large.remove(number)
        self._is_changed |= self.subscriptions.remove(number)
