"""Options of a bound socket, binding it, and what to say when that fails."""

from __future__ import annotations

import errno
from dataclasses import dataclass

import zmq

from mt4pump.publishing.address_holder import holder_of


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
    max_connections: int = 1_000
    max_connections_per_client: int = 250


def apply(socket: zmq.Socket[bytes], options: SocketOptions) -> None:
    """Set ``options``; before the socket is bound."""
    socket.setsockopt(zmq.SNDHWM, options.sndhwm)
    socket.setsockopt(zmq.LINGER, int(options.linger_s * 1000))
    socket.setsockopt(zmq.HEARTBEAT_IVL, int(options.zmtp_heartbeat_ivl_s * 1000))
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(options.zmtp_heartbeat_timeout_s * 1000))
    socket.setsockopt(zmq.TCP_KEEPALIVE, int(options.tcp_keepalive))
    if options.tcp_keepalive:
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, options.tcp_keepalive_idle_s)
    socket.setsockopt(zmq.IPV6, int(options.ipv6))


def bind(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Bind; an ``ipc`` address that is held is refused here, as libzmq would take the socket file from its owner."""
    if endpoint.startswith("ipc://") and holder_of(endpoint):
        raise zmq.ZMQError(zmq.EADDRINUSE)
    socket.bind(endpoint)


def bind_failure(endpoint: str, error: zmq.ZMQError, setting: str = "pub_endpoint") -> str:
    """Return which address failed, why, who holds it, and what to do; ``setting`` is where the address stands."""
    if error.errno == zmq.EADDRINUSE:
        holder = holder_of(endpoint) or "another program"
        verb = "publish on" if setting == "pub_endpoint" else "use"
        return f"{setting} {endpoint} is taken by {holder}: stop it, or {verb} another address"
    if error.errno in {zmq.EADDRNOTAVAIL, errno.ENODEV}:
        return f"{setting} {endpoint}: this machine has no such address: use one of its own, or 127.0.0.1"
    if error.errno == zmq.EPROTONOSUPPORT:
        return f"{setting} {endpoint}: this transport does not work here: use tcp://"
    return f"{setting} {endpoint} cannot be bound: {error}: write it as tcp://127.0.0.1:5556"
