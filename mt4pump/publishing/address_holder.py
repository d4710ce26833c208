"""Who holds an address that cannot be bound."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import psutil

WILDCARDS = frozenset({"0.0.0.0", "::", "*", ""})  # noqa: S104 - compared with, never bound


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
    except (psutil.Error, OSError, ValueError, NotImplementedError):  # macOS tells root only; no such kind on Windows
        return None
    return None


def listens(pid: int, port: int) -> bool:
    """Return whether process ``pid`` of ours, or one that it started, listens on a TCP port. Connects to nobody."""
    try:
        process = psutil.Process(pid)
        family = (process, *process.children(recursive=True))  # a virtual environment's python.exe starts another one
        held = (each for member in family for each in member.net_connections("tcp"))
        return any(each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port for each in held)
    except (psutil.Error, OSError):
        return False


def _tcp_listeners(host: str, port: int) -> Iterator[Any]:
    """Yield the sockets that listen where binding ``host:port`` would collide."""
    wanted = _addresses(host)
    for each in psutil.net_connections("tcp"):
        if each.status != psutil.CONN_LISTEN or not each.laddr or each.laddr.port != port:
            continue
        if wanted & WILDCARDS or each.laddr.ip in WILDCARDS or each.laddr.ip in wanted:
            yield each


def _addresses(host: str) -> set[str]:
    """Return the numeric addresses of ``host``; of an interface, those that it has."""
    if host in WILDCARDS:
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
