"""The XPUB socket: who listens to what, and the fastest way out.

Owned by one thread, the pump's. A topic that nobody subscribed to is numbered and counted but not packed nor sent.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

import zmq

from mt4pump.address_holder import holder_of
from mt4pump.errors import BindError
from mt4pump.quotes import Send

SUBSCRIPTIONS_PER_LOOK = 1_000
"""Subscription messages taken at one look, so that a storm of them cannot hold up events."""
SUBSCRIBE, UNSUBSCRIBE = 1, 0


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """How the publishing socket behaves; see the settings of the same names."""

    sndhwm: int = 100_000
    zmtp_heartbeat_ivl_s: float = 5.0
    zmtp_heartbeat_timeout_s: float = 15.0
    tcp_keepalive: bool = True
    tcp_keepalive_idle_s: int = 60
    ipv6: bool = False
    linger_s: float = 0.2


class Interest:
    """The prefixes that somebody subscribed to. XPUB tells the first subscriber and the last leaver of each."""

    def __init__(self) -> None:
        self._prefixes: set[bytes] = set()
        self._tuple: tuple[bytes, ...] = ()

    def __len__(self) -> int:
        return len(self._prefixes)

    def take(self, message: bytes) -> bool:
        """Take one XPUB message and return whether anything changed; anything that is no subscription is ignored."""
        if not message or message[0] not in {SUBSCRIBE, UNSUBSCRIBE}:
            return False
        prefix = message[1:]
        known = prefix in self._prefixes
        if message[0] == SUBSCRIBE:
            self._prefixes.add(prefix)
        else:
            self._prefixes.discard(prefix)
        self._tuple = tuple(self._prefixes)
        return known != (message[0] == SUBSCRIBE)

    def wants(self, topic: bytes) -> bool:
        """Return whether a subscriber would receive ``topic``."""
        return topic.startswith(self._tuple)


class Publisher:
    """Binds ``endpoint`` and sends two-frame messages. ``sent`` counts those handed to libzmq."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, options: SocketOptions) -> None:
        self.interest = Interest()
        self.sent = 0
        self._socket = context.socket(zmq.XPUB)
        _apply(self._socket, options)
        try:
            _bind(self._socket, endpoint)
        except zmq.ZMQError as error:
            self._socket.close(0)
            raise BindError(bind_failure(endpoint, error)) from error
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.send_frame: Send = super(zmq.Socket, self._socket).send  # below the layer for options we do not use

    def send(self, topic: bytes, body: bytes) -> None:
        """Queue one message for every subscriber of ``topic``; one that is too slow loses it (high-water mark)."""
        self.send_frame(topic, zmq.SNDMORE)
        self.send_frame(body)
        self.sent += 1

    def look_for_subscriptions(self) -> bool:
        """Take what subscribers said since the last look; return whether anybody's interest changed."""
        changed = False
        for _ in range(SUBSCRIPTIONS_PER_LOOK):
            if not self._socket.poll(0, zmq.POLLIN):
                break
            changed |= self.interest.take(self._socket.recv(zmq.NOBLOCK))
        return changed

    def close(self) -> None:
        """Let queued messages go out for as long as the linger setting says, then close."""
        self._socket.close()


def bind_failure(endpoint: str, error: zmq.ZMQError) -> str:
    """Return which address failed, why, who holds it, and what to do."""
    if error.errno == zmq.EADDRINUSE:
        holder = holder_of(endpoint) or "another program"
        return f"pub_endpoint {endpoint} is taken by {holder}: stop it, or publish on another address"
    if error.errno in {zmq.EADDRNOTAVAIL, errno.ENODEV}:
        return f"pub_endpoint {endpoint}: this machine has no such address: use one of its own, or 127.0.0.1"
    if error.errno == zmq.EPROTONOSUPPORT:
        return f"pub_endpoint {endpoint}: this transport does not work here: use tcp://"
    return f"pub_endpoint {endpoint} cannot be bound: {error}: write it as tcp://127.0.0.1:5556"


def _bind(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Bind; an ``ipc`` address that is held is refused here, as libzmq would take the socket file from its owner."""
    if endpoint.startswith("ipc://") and holder_of(endpoint):
        raise zmq.ZMQError(zmq.EADDRINUSE)
    socket.bind(endpoint)


def _apply(socket: zmq.Socket[bytes], options: SocketOptions) -> None:
    socket.setsockopt(zmq.SNDHWM, options.sndhwm)
    socket.setsockopt(zmq.LINGER, int(options.linger_s * 1000))
    socket.setsockopt(zmq.HEARTBEAT_IVL, int(options.zmtp_heartbeat_ivl_s * 1000))
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(options.zmtp_heartbeat_timeout_s * 1000))
    socket.setsockopt(zmq.TCP_KEEPALIVE, int(options.tcp_keepalive))
    if options.tcp_keepalive:
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, options.tcp_keepalive_idle_s)
    socket.setsockopt(zmq.IPV6, int(options.ipv6))
