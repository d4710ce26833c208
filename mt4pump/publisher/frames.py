"""The parts of a subscriber's frame, and the interface of the authenticator that the publisher uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import zmq

from mt4pump.publisher.subscriptions import NO_CONNECTION, SUBSCRIBE, UNSUBSCRIBE
from mt4pump.security.permissions import Permissions


class ConnectionGate(Protocol):
    """The part of `ZapAuthenticator` and `PlainAuthenticator` that the publisher uses."""

    @property
    def narrows(self) -> bool:
        """Return whether clients have permissions."""

    def secure(self, socket: zmq.Socket[bytes], generation: Callable[[], int | None], /) -> None:
        """Make the ZAP thread authenticate connections to ``socket``; each gets a ``generation``."""

    def allowed(self, user: str, /) -> Permissions:
        """Return the permissions of a connection."""

    def ban(self, user: str, why: str, /) -> None:
        """Refuse a client for a while."""

    def is_banned(self, user: str, /) -> bool:
        """Return whether a client is banned now."""


def is_subscription(message: bytes) -> bool:
    """Return whether libzmq treated a message as a subscription or an unsubscription."""
    return bool(message) and message[0] in {SUBSCRIBE, UNSUBSCRIBE}


def number_of(frame: zmq.Frame) -> int:
    """Return the number of the connection that a message came over; NOBODY for what libzmq says itself."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return NO_CONNECTION


def user_of(frame: zmq.Frame) -> str:
    """Return the user id that ZAP gave the client; empty if there is none."""
    try:
        return str(frame.get("User-Id"))
    except (zmq.ZMQError, UnicodeDecodeError):
        return ""
