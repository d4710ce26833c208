"""What connections sent: which are checked for it, and which are closed for it; takes no messages.

On Linux those are checked over which something came (`Traffic`), so idle ones cost little.

libzmq keeps the frames of a message until its last one came, about 64 bytes for each however short. So the bytes of
such messages are limited for a connection, for a client, and in all (`IncompleteMessages`). Where connections together
exceed a limit, the one with most bytes of the client with most is closed, so no other client loses a connection.
"""

from __future__ import annotations

import errno
import select
import sys
import time
from collections import Counter
from collections.abc import Collection
from contextlib import suppress

from mt4pump.publisher.descriptors import NOTED_BYTES, Connection, EndpointLimits, bytes_received

CONNECTIONS_PER_CHECK = 64
"""Connections returned by one call of `Traffic.take` because something came, or where the system reports nothing."""
TURN_S, TURNS = 0.2, 5
"""How often `Traffic.take` returns one part of the connections whatever came over them, and in how many parts all."""
GONE = frozenset({errno.EBADF, errno.ENOENT, errno.EPERM})
"""Errors of a connection that ended, whose number may be an ordinary file's by now."""
RESTRICTED_S, RESTRICTED_LIMIT = 10.0, 10_000
LATE_S = 0.5
"""After so long without an empty queue of the events socket all bytes count, but in no connection's own limit."""


class Traffic:
    """Returns the connections to check for what they sent; a connection's number is its file descriptor.

    epoll reports what is unread, so not what libzmq reads before it is asked: each is returned every two seconds.

    ``number`` is a descriptor that is readable while `take` would return a connection or ``always`` is readable. It is
    None where the system has no epoll, or none could be made: then `take` returns all connections, some at each call.
    """

    def __init__(self, always: int) -> None:
        self.number: int | None = None
        self._again: set[int] = set()
        self._left: list[int] = []
        self._turn_at_s = 0.0
        if sys.platform == "linux":
            with suppress(OSError):  # no descriptor is left
                self._epoll = select.epoll()
                self._epoll.register(always, select.EPOLLIN)
                self.number = self._epoll.fileno()

    @property
    def wake_number(self) -> int | None:
        """Return ``number``; None while a connection must be checked again whatever comes."""
        return None if self._again else self.number

    def add(self, number: int) -> None:
        """Report what comes over a connection from now on, until its descriptor is closed."""
        if sys.platform == "linux" and self.number is not None:
            events = select.EPOLLIN | select.EPOLLET  # what is new only: libzmq reads it
            try:
                try:
                    self._epoll.register(number, events)
                except FileExistsError:
                    self._epoll.modify(number, events)
            except OSError as error:
                if error.errno not in GONE:
                    self.close()

    def check_again(self, number: int) -> None:
        """Return a connection from the next `take` again: its state may change though nothing comes over it."""
        self._again.add(number)

    def take(self, numbers: Collection[int], now_s: float) -> Collection[int]:
        """Return which of the open connections ``numbers`` are to be checked now."""
        again, self._again = self._again, set()
        if sys.platform == "linux" and self.number is not None:
            again.update(number for number, _ in self._epoll.poll(0, CONNECTIONS_PER_CHECK))
        if self.number is None:
            return self._in_turn(numbers, CONNECTIONS_PER_CHECK)
        if now_s >= self._turn_at_s:
            self._turn_at_s = now_s + TURN_S
            again.update(self._in_turn(numbers, len(numbers) // TURNS + 1))
        return again.intersection(numbers)

    def _in_turn(self, numbers: Collection[int], count: int) -> Collection[int]:
        left = [number for number in self._left if number in numbers] or list(numbers)
        self._left = left[count:]
        return left[:count]

    def close(self) -> None:
        """Report nothing any more."""
        if sys.platform == "linux" and self.number is not None:
            self.number = None
            self._epoll.close()


class IncompleteMessages:
    """The connections that sent part of a message; their ``client`` is whom they count for, empty if unknown."""

    def __init__(self) -> None:
        self._connections: dict[int, Connection] = {}
        self._emptied = 0
        self._emptied_s = 0.0

    def note_empty(self) -> None:
        """Note that no message waits for the owner of the events socket."""
        self._emptied += 1
        self._emptied_s = time.monotonic()

    def fault(
        self, number: int, connection: Connection, now_s: float, limits: EndpointLimits
    ) -> tuple[str, str] | None:
        """Return the counter and the text if a connection is to be closed for what came over it, else None.

        An XPUB socket keeps complete messages without a limit, too, until its owner takes them: up to ``burst_bytes``.
        """
        received = bytes_received(number)
        if limits.burst_bytes and connection.flow.is_flood(number, received, now_s):
            return "flood", "sends more than a subscriber may: its connection is closed"
        if received is None:
            return None
        part = connection.incomplete
        is_late = now_s - self._emptied_s > LATE_S
        emptied = None if is_late or not limits.burst_bytes else self._emptied
        part.check(number, received, now_s, limits.heartbeat_bytes_per_s, emptied)
        if part.size > NOTED_BYTES:
            self._connections[number] = connection
        else:
            self._connections.pop(number, None)
        is_too_large = part.size > limits.incomplete_bytes and not (is_late and limits.burst_bytes)
        return ("incomplete_message", part.text) if is_too_large else None

    def forget(self, number: int) -> None:
        """Forget a connection that is closed or ended."""
        self._connections.pop(number, None)

    def excess(self, limits: EndpointLimits) -> tuple[int, Connection] | None:
        """Return the connection to close because its client, or all together, exceed a limit; None if none does."""
        if not self._connections:
            return None
        by_client: Counter[str] = Counter()
        for each in self._connections.values():
            by_client[each.client] += each.incomplete.size
        is_over = by_client.total() > limits.incomplete_bytes_total
        allowed = 0 if is_over else limits.incomplete_bytes_per_client
        for client, size in by_client.most_common():
            if size > allowed and (client or is_over):
                of_client = (item for item in self._connections.items() if item[1].client == client)
                return max(of_client, key=lambda item: item[1].incomplete.size)
        return None


class RestrictedAddresses:
    """Addresses from which a limit was exceeded within `RESTRICTED_S`: new connections get a smaller burst."""

    def __init__(self) -> None:
        self._until_s: dict[str, float] = {}

    def add(self, peer: str, now_s: float) -> None:
        """Restrict the address of ``peer``."""
        if len(self._until_s) >= RESTRICTED_LIMIT:
            self._until_s.clear()
        self._until_s[peer.rpartition(":")[0]] = now_s + RESTRICTED_S

    def has(self, peer: str, now_s: float) -> bool:
        """Return whether the address of ``peer`` is restricted."""
        return now_s < self._until_s.get(peer.rpartition(":")[0], 0.0)
