"""Options of a bound socket, binding it, and what to say when that fails."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import zmq
from zmq.backend import Socket as SocketBase

from mt4pump.process.endpoints import ANY_HOST
from mt4pump.settings import Settings


def holder_of(endpoint: str) -> str | None:
    """Return the program that listens on ``endpoint`` (``tcp://`` or ``ipc://``), as ``python (pid 1234)``.

    ``another user's program`` where the system hides whose it is; None where nobody is found, or the system is silent.
    Never raises. The command line is left out on purpose: it may hold a password.
    """
    transport, _, address = endpoint.partition("://")
    try:
        if transport == "tcp":
            host, _, port = address.rpartition(":")
            return _first_name(_tcp_listeners(host.strip("[]"), int(port)))
        if transport == "ipc" and address:
            return _first_name(each for each in psutil.net_connections("unix") if str(each.laddr) == address)
    # macOS shows root only; there is no such kind on Windows, where psutil gives up (RuntimeError) if its table grows
    except (psutil.Error, OSError, ValueError, RuntimeError):
        return None
    return None


def _tcp_listeners(host: str, port: int) -> Iterator[Any]:
    """Yield the sockets that listen where binding ``host:port`` would collide."""
    wanted = _addresses(host)
    for each in psutil.net_connections("tcp"):
        if each.status != psutil.CONN_LISTEN or not each.laddr or each.laddr.port != port:
            continue
        if wanted & ANY_HOST or each.laddr.ip in ANY_HOST or each.laddr.ip in wanted:
            yield each


def _addresses(host: str) -> set[str]:
    """Return the numeric addresses of ``host``; of an interface, those that it has."""
    if host in ANY_HOST:
        return {host}
    if interface := psutil.net_if_addrs().get(host):
        return {each.address for each in interface}
    if host == "localhost":
        return {"127.0.0.1", "::1"}
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return {socket.inet_ntop(family, socket.inet_pton(family, host))}
    except OSError:  # not numeric
        return {host}


def _first_name(connections: Iterator[Any]) -> str | None:
    first = next(iter(connections), None)
    if first is None or first.pid == 0:  # 0, Windows' idle process: the system does not say
        return None
    if first.pid is None:
        return "another user's program"
    try:
        return f"{psutil.Process(first.pid).name()} (pid {first.pid})"
    except psutil.Error:  # gone meanwhile, or hidden
        return f"a program (pid {first.pid})"


class DirectSocket(zmq.Socket[bytes]):
    """A socket whose `send` is below pyzmq's layer for options that we do not use."""

    send: Callable[..., Any] = SocketBase.send


SocketClass = Callable[[zmq.Context[zmq.Socket[bytes]], int], DirectSocket]


def apply(socket: zmq.Socket[bytes], settings: Settings) -> None:
    """Set the options that ``settings`` name; before the socket is bound."""
    socket.setsockopt(zmq.SNDHWM, settings.sndhwm)
    socket.setsockopt(zmq.LINGER, int(settings.linger_s * 1000))
    socket.setsockopt(zmq.HEARTBEAT_IVL, int(settings.zmtp_heartbeat_ivl_s * 1000))
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(settings.zmtp_heartbeat_timeout_s * 1000))
    socket.setsockopt(zmq.TCP_KEEPALIVE, int(settings.tcp_keepalive))
    if settings.tcp_keepalive:
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, settings.tcp_keepalive_idle_s)
    socket.setsockopt(zmq.IPV6, int(settings.ipv6))


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
