"""Authenticates connections where there are no keys: admits every ZMTP 3 client, and slows down those that misbehave.

Without keys a client is its address, which honest programs may share with one that is not. So an address from which
the rules were broken is not banned: for a while it gets a few connections per second, chosen at random from those that
wait. That costs an honest program a moment, and limits the harm of one that reconnects and goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from random import shuffle

import zmq

from mt4pump.log import FaultCounters
from mt4pump.security.permissions import EVERYTHING, Permissions
from mt4pump.security.subscription_filter import user_id
from mt4pump.security.zap import PUBLISHED, ZapServer

PROBATION_S = 10.0
"""How long an address gets few connections after the rules were broken from it."""
PROBATION_INTERVAL_S = 0.5
"""The time between two of them."""
WAITING_LIMIT = 256
"""Requests that wait; more are refused."""
ADDRESSES_LIMIT = 10_000


class PlainAuthenticator(ZapServer):
    """Answers ZAP requests of sockets without keys. A connection's user is its address."""

    narrows = False
    refusals = {  # noqa: RUF012 - never changed
        "refused_probation": "the rules were broken from this address, and too many connections of it wait",
        "refused_crowd": "is refused for a moment: too many other connections",
        "refused_form": "not a request for a handshake without keys",
    }
    temporary = frozenset({"refused_probation", "refused_crowd"})

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        fault_counters: FaultCounters | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(context, fault_counters, now_s)
        self._probation: dict[str, tuple[float, float]] = {}  # until when, and when the next connection may enter
        self._waiting: list[tuple[str, list[bytes]]] = []

    def reload(self) -> bool:
        """Return False: there is nothing to read."""
        return False

    has_new_revocations = reload

    def ban(self, user: str, why: str) -> None:
        """Give the address ``user`` few connections for a while: a client there did what no honest client does."""
        self._fault_counters.record("expelled", f"a connection from {user} is closed: {why}")
        if len(self._probation) >= ADDRESSES_LIMIT:
            self._probation.clear()
        now_s = self._now_s()
        self._probation[user] = (now_s + PROBATION_S, now_s + PROBATION_INTERVAL_S)

    def is_banned(self, _user: str) -> bool:
        """Return False: an address is never banned."""
        return False

    def allowed(self, _user: str) -> Permissions:
        """Return everybody's permissions."""
        return EVERYTHING

    allowed_query = allowed

    def _check_handshake(self, frames: list[bytes]) -> tuple[str, str]:
        if len(frames) < 8 or frames[2] != b"1.0" or frames[7] != b"NULL":
            return self._refuse("refused_form", "a connection with another mechanism: ")
        if frames[4] != PUBLISHED.encode():
            return "", ""
        address = frames[5].decode(errors="replace")
        if len(self._waiting) >= WAITING_LIMIT and address in self._probation:
            return self._refuse("refused_probation", f"a client from {address}: ")
        if (generation := self._generation()) is None:
            return self._refuse("refused_crowd", f"a client from {address} ")
        return "", user_id(address or "local", generation)

    def _is_deferred(self, frames: list[bytes]) -> bool:
        if len(frames) < 8 or frames[4] != PUBLISHED.encode() or len(self._waiting) >= WAITING_LIMIT:
            return False
        address = frames[5].decode(errors="replace")
        if not self._must_wait(address):
            return False
        self._waiting.append((address, frames))
        return True

    def _run_periodic(self) -> None:
        """Answer one waiting request of each address that may connect again."""
        shuffle(self._waiting)
        for each in tuple(self._waiting):
            address, frames = each
            if not self._must_wait(address):
                self._waiting.remove(each)
                self._reply(frames)

    def _must_wait(self, address: str) -> bool:
        """Return whether ``address`` is on probation and had a connection just now; if not, it has one now."""
        until_s, next_s = self._probation.get(address, (0.0, 0.0))
        now_s = self._now_s()
        if now_s >= until_s:
            self._probation.pop(address, None)
            return False
        if now_s < next_s:
            return True
        self._probation[address] = (until_s, now_s + PROBATION_INTERVAL_S)
        return False
