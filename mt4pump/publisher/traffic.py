"""Which connections are checked for floods: on Linux those over which something came, so idle ones cost nothing."""

from __future__ import annotations

import errno
import select
import sys
from collections.abc import Collection
from contextlib import suppress

CONNECTIONS_PER_CHECK = 64
"""Connections returned by one call of `Traffic.take`, unless all are wanted."""
GONE = frozenset({errno.EBADF, errno.ENOENT, errno.EPERM})
"""Errors of a connection that ended, whose number may be an ordinary file's by now."""


class Traffic:
    """Returns the connections to check; a connection's number is its file descriptor.

    ``number`` is a descriptor that is readable while `take` would return a connection or ``always`` is readable. It is
    None where the system has no epoll, or none could be made: then `take` returns all connections, some at each call.
    """

    def __init__(self, always: int) -> None:
        self.number: int | None = None
        self._again: set[int] = set()
        self._next = 0
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

    def take(self, numbers: Collection[int], *, wants_all: bool) -> Collection[int]:
        """Return which of the open connections ``numbers`` are to be checked now."""
        again, self._again = self._again, set()
        if sys.platform == "linux" and self.number is not None:
            again.update(number for number, _ in self._epoll.poll(0, CONNECTIONS_PER_CHECK))
        if wants_all or (self.number is None and len(numbers) <= CONNECTIONS_PER_CHECK):
            return tuple(numbers)
        if self.number is not None:
            return again.intersection(numbers)
        first = self._next if self._next < len(numbers) else 0
        self._next = first + CONNECTIONS_PER_CHECK
        return tuple(numbers)[first : self._next]

    def close(self) -> None:
        """Report nothing any more."""
        if sys.platform == "linux" and self.number is not None:
            self.number = None
            self._epoll.close()
