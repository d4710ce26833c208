"""The Manager session: the supervisor makes it, the pump thread reads from it; and the commands to the pump thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from threading import Event

from mt4pump.errors import ConnectionLost
from mt4pump.mt4.codes import ReturnCode
from mt4pump.mt4.manager import Manager

CONNECTING, LOGGED_IN, PUMPING, LOST, STOPPING = "connecting", "logged_in", "pumping", "lost", "stopping"


class Command(IntEnum):
    """What other threads have the pump thread do, in order with the events. Beyond a C int: no pump code can be one."""

    ATTACH = 2**31
    """Read from this `ManagerSession` from now on."""
    DETACH = 2**31 + 1
    """Read no more from the session of ``(session, reason)``."""
    STATE_CHANGED = 2**31 + 2
    """Publish a heartbeat now, because the supervisor's state changed."""
    FINISH = 2**31 + 3
    """End the thread."""
    CUT = 2**31 + 4
    """Answer a `SnapshotRequest`."""
    SELECT = 2**31 + 5
    """Publish the quotes of these symbol patterns."""
    REREAD = 2**31 + 6
    """Read all tables again, because this many records were refused."""


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """What the supervisor is doing: replaced as a whole, so any thread may read it. ``since`` is ms since 1970."""

    state: str
    since: int
    server: str = ""
    reason: str = ""
    reconnects: int = 0


class ManagerSession:
    """One session as both threads see it: the supervisor made it, the pump thread reads from it."""

    def __init__(self, manager: Manager, server: str, login: int) -> None:
        self.manager = manager
        self.server = server
        self.login = login
        self.started = Event()
        self.stopped = Event()
        self.changed = Event()

    def tell_started(self) -> None:
        """Tell the supervisor that START_PUMPING came."""
        self.started.set()
        self.changed.set()

    def tell_stopped(self) -> None:
        """Tell the supervisor that STOP_PUMPING came."""
        self.stopped.set()
        self.changed.set()


CONFIRM_AFTER_S = 0.5
"""Age of a first read that found a table suddenly empty before a second one may agree, if callbacks came since."""
CONFIRM_IN_SILENCE_S = 3.0
"""The same where no callback came since: a session that ends sends STOP_PUMPING before that."""


@dataclass(slots=True)
class EmptyRead:
    """A read of ``link`` that found a table empty though rows of it are known.

    ``again`` reads it a second time, ``received`` counts the callbacks until then.
    """

    link: ManagerSession | None
    read_at_s: float
    again: Callable[[int], None]
    received: int | None = None
    may_agree: bool = False


class CurrentSession:
    """``link`` is the current session; ``live`` tells that its START_PUMPING came and its STOP did not.

    ``empty_tables`` counts reads that found a table suddenly empty and were not believed.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self.link: ManagerSession | None = None
        self.live = False
        self.empty_tables = 0
        self._now_s = now_s
        self._empty: dict[str, EmptyRead] = {}

    @property
    def manager(self) -> Manager:
        """Return the session's Manager; raises ConnectionLost when there is no session."""
        if self.link is None:
            raise ConnectionLost(
                "read", ReturnCode.RET_NO_CONNECT, "RET_NO_CONNECT", "there is no session to read from"
            )
        return self.link.manager

    def table(self, name: str, *, has_rows: bool, again: Callable[[int], None]) -> bytes | None:
        """Return the whole table ``name``; raises ConnectionLost when the link was gone by the time it was read.

        Returns None when the table is empty although rows of it are known (``has_rows``), from a Manager that empties
        its tables before anybody learns that the session ends. Then a second read has to agree, and ``again(ts)``, out
        of `second_reads`, makes it.
        """
        manager = self.manager
        array = manager.table(name)
        first = self._empty.get(name)
        agrees = first is not None and first.link is self.link and first.may_agree
        if array or agrees or not (has_rows and manager.may_empty_tables):
            self._empty.pop(name, None)
            return array
        if first is None or first.link is not self.link:
            self._empty[name] = EmptyRead(self.link, self._now_s(), again)
        self.empty_tables += 1
        return None

    def second_reads(self, received: int) -> list[Callable[[int], None]]:
        """Return the second reads that are due now; to be called often, with the number of callbacks so far."""
        if not self._empty or not self.live:
            return []
        now_s, due = self._now_s(), []
        for first in self._empty.values():
            if first.received is None:
                first.received = received
            wait_s = CONFIRM_IN_SILENCE_S if first.received == received else CONFIRM_AFTER_S
            if first.link is self.link and now_s - first.read_at_s >= wait_s:
                first.may_agree = True
                due.append(first.again)
        return due


def rows(array: bytes, size: int) -> Iterator[bytes]:
    """Yield the records of an array; bytes left over at its end are no record."""
    return (array[start : start + size] for start in range(0, len(array) - size + 1, size))
