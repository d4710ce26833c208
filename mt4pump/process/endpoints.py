"""Addresses of sockets: their ports, hosts, and where queries go; without pydantic, because the client imports it."""

from __future__ import annotations

PORT_MAX = 65_535
PORT_DIGITS = len(str(PORT_MAX))
ANY_HOST = frozenset({"0.0.0.0", "::", "*", ""})  # noqa: S104 - compared with, never bound
"""Hosts that stand for every address of the machine."""


def port_of(endpoint: str) -> int | None:
    """Return the port of ``tcp://host:port``; None for an address that has none from 1 to `PORT_MAX`."""
    port = endpoint.rpartition(":")[2]
    if not (endpoint.startswith("tcp://") and port.isdecimal() and len(port) <= PORT_DIGITS):
        return None
    return int(port) if 1 <= int(port) <= PORT_MAX else None


def next_port(endpoint: str) -> str | None:
    """Return the endpoint one port above, where queries go if nothing else is said; None where there is no port.

    Above the last port it is none that can be connected to.
    """
    port = port_of(endpoint)
    return None if port is None else f"{endpoint.rpartition(':')[0]}:{port + 1}"


def endpoint_host(endpoint: str) -> str | None:
    """Return the host of a checked ``tcp://`` endpoint, without brackets, or None for ``ipc://``."""
    if not endpoint.startswith("tcp://"):
        return None
    return endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")
