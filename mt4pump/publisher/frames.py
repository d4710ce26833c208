"""What a frame from a subscriber is, and whose, and what the publisher asks the gate about its connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import zmq

from mt4pump.publisher.subscriptions import NOBODY, SUBSCRIBE, UNSUBSCRIBE
from mt4pump.security.permissions import Permissions


class ConnectionGate(Protocol):
    """What the publisher needs of `mt4pump.security.Gatekeeper` and `mt4pump.security.PlainGate`."""

    @property
    def narrows(self) -> bool:
        """Return whether clients have permissions."""

    def secure(self, socket: zmq.Socket[bytes], mark: Callable[[], int | None], /) -> None:
        """Have the gate let connections in, each of which has a ``mark``."""

    def allowed(self, user: str, /) -> Permissions:
        """Return what a connection may hear."""

    def expel(self, user: str, why: str, /) -> None:
        """Keep a client out for a while."""

    def is_expelled(self, user: str, /) -> bool:
        """Return whether a client is kept out now."""


def is_subscription(message: bytes) -> bool:
    """Return whether libzmq took a message for a subscription, or for the end of one."""
    return bool(message) and message[0] in {SUBSCRIBE, UNSUBSCRIBE}


def number_of(frame: zmq.Frame) -> int:
    """Return the number of the connection that a message came over; NOBODY for what libzmq says itself."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return NOBODY


def user_of(frame: zmq.Frame) -> str:
    """Return what ZAP called the client; empty for what has no name."""
    try:
        return str(frame.get("User-Id"))
    except (zmq.ZMQError, UnicodeDecodeError):
        return ""
