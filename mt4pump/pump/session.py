"""The Manager session, which the supervisor opens and the pump thread reads from; and commands to the pump thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from threading import Event, Thread

from mt4pump.errors import ConnectionLost, LayoutError, ManagerError
from mt4pump.log import FaultCounters
from mt4pump.mt4.codes import ReturnCode
from mt4pump.mt4.manager import Array, Manager
from mt4pump.pump.table_diff import RunSteps

CONNECTING, LOGGED_IN, PUMPING, LOST, STOPPING = "connecting", "logged_in", "pumping", "lost", "stopping"

FAULTS = (ManagerError, LayoutError)
"""Errors that cost one record or table: it is counted and skipped."""


class Command(IntEnum):
    """Commands to the pump thread, executed in order with the records. Beyond a C int: no pump code equals one."""

    ATTACH = 2**31
    """Read from this `ManagerSession` from now on."""
    DETACH = 2**31 + 1
    """Stop reading from the session of ``(session, reason)``."""
    STATE_CHANGED = 2**31 + 2
    """Publish a heartbeat now, because the supervisor's state changed."""
    FINISH = 2**31 + 3
    """End the thread."""
    SNAPSHOT = 2**31 + 4
    """Answer a `SnapshotRequest`."""
    SELECT = 2**31 + 5
    """Publish the quotes of these symbol patterns."""
    REREAD = 2**31 + 6
    """Read all tables again, because this many records were refused."""


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """The supervisor's state; replaced as a whole, so that any thread may read it. ``since`` is ms since 1970."""

    state: str
    since: int
    server: str = ""
    reason: str = ""
    reconnects: int = 0


class ManagerSession:
    """One session: the supervisor opens and closes it, the pump thread reads from its ``manager``."""

    def __init__(self, manager: Manager, server: str, login: int) -> None:
        self.manager = manager
        self.server = server
        self.login = login
        self.started, self.stopped, self.changed = Event(), Event(), Event()

    def mark_started(self) -> None:
        """Wake the supervisor: START_PUMPING came."""
        self.started.set()
        self.changed.set()

    def mark_stopped(self) -> None:
        """Wake the supervisor: STOP_PUMPING came."""
        self.stopped.set()
        self.changed.set()


def with_library_faults(reason: str, manager: Manager) -> str:
    """Return ``reason`` with the errors that the API logged in this session: often the only statement of the cause."""
    faults = manager.last_faults()
    return f"{reason}; the library's log: {faults}" if faults else reason


def count_fault(fault_counters: FaultCounters, source: str, fault: Exception) -> None:
    """Count one of `FAULTS`; ``source`` is the record or table that it cost."""
    if isinstance(fault, LayoutError):
        fault_counters.record("bad_record", f"{source}: {fault}")
    else:
        fault_counters.record("session_gone" if isinstance(fault, ConnectionLost) else "read_error", fault)


CONFIRM_AFTER_S = 0.5
"""Time from a read that found a table suddenly empty to the second read, if callbacks came since."""
CONFIRM_IN_SILENCE_S = 3.0
"""The same if no callback came since: a session that ends sends STOP_PUMPING before that."""


@dataclass(slots=True)
class EmptyRead:
    """A read that found a table empty though rows of it are known.

    ``again`` reads it a second time, ``received`` counts the callbacks until then.
    """

    read_at_s: float
    again: Callable[[int], None]
    received: int | None = None
    may_agree: bool = False


class CurrentSession:
    """The session that handlers read from, None between two sessions.

    ``live`` is true between its START_PUMPING and its STOP_PUMPING. ``empty_tables`` counts reads that found a table
    suddenly empty and changed nothing. ``run_steps`` runs work with a large table to its end, with quotes meanwhile.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self.session: ManagerSession | None = None
        self.live = False
        self.empty_tables = 0
        self.run_steps: RunSteps = lambda steps: [None for _ in steps]
        self._now_s = now_s
        self._empty: dict[str, EmptyRead] = {}

    def attach(self, session: ManagerSession) -> None:
        """Read from this session from now on; it has not started yet."""
        self.session, self.live = session, False
        self._empty.clear()

    @property
    def manager(self) -> Manager:
        """Return the session's Manager; raises ConnectionLost when there is no session."""
        if self.session is None:
            text = "there is no session to read from"
            raise ConnectionLost("read", ReturnCode.RET_NO_CONNECT, "RET_NO_CONNECT", text)
        return self.session.manager

    def table(self, name: str, *, has_rows: bool, again: Callable[[int], None]) -> Array | None:
        """Return the whole table ``name``; raises ConnectionLost when the session was gone by the time it was read.

        Returns None when the table is empty although rows of it are known (``has_rows``): the DLL empties its tables
        before it reports the end of a session. Then a second read must agree: ``again(ts)``, which
        `reread_empty_tables` calls when it is due.
        """
        manager, run_steps = self.manager, self.run_beside(name)
        array = ReadThread(manager, name).array(run_steps) if run_steps else manager.table(name)
        first = self._empty.get(name)
        agrees = first is not None and first.may_agree
        if array or agrees or not (has_rows and manager.may_empty_tables):
            self._empty.pop(name, None)
            return array
        self._empty.setdefault(name, EmptyRead(self._now_s(), again))
        self.empty_tables += 1
        return None

    def run_beside(self, name: str) -> RunSteps | None:
        """Return what runs work with table ``name`` to its end, with quotes between its steps; None: nothing does."""
        return self.run_steps if name in LARGE_TABLES and self.manager.reads_beside_quotes else None

    def reread_empty_tables(self, received: int, ts: int) -> None:
        """Read suddenly empty tables a second time, when due; ``received`` is the number of callbacks so far."""
        now_s = self._now_s()
        for first in list(self._empty.values()) if self.live else ():
            if first.received is None:
                first.received = received
            wait_s = CONFIRM_IN_SILENCE_S if first.received == received else CONFIRM_AFTER_S
            if now_s - first.read_at_s >= wait_s:
                first.may_agree = True
                first.again(ts)


READ_WAIT_S = 0.001
LARGE_TABLES = frozenset({"users", "trades"})
"""Tables that grow with the number of accounts: 112 and 45 MB for 100,000 accounts with two orders each."""


class ReadThread(Thread):
    """One read of table ``name`` on a thread of its own, so that the pump thread can publish quotes meanwhile.

    With 100,000 accounts UsersGet takes a tenth of a second. Only quotes go on: records wait for the read, as they
    would if the pump thread read the table itself. The read begins at once, and on the calling thread where no thread
    can be started.
    """

    def __init__(self, manager: Manager, name: str) -> None:
        super().__init__(name=f"read of table {name}", daemon=True)
        self._manager = manager
        self._table = name
        self._array: Array | None = None
        self._error: BaseException | None = None
        try:
            self.start()
        except RuntimeError:
            self.run()

    def run(self) -> None:
        """Read the table."""
        try:
            self._array = self._manager.table(self._table)
        except BaseException as error:  # noqa: BLE001 - `array` raises it on the thread that asked
            self._error = error

    def _wait(self) -> Iterator[None]:
        """Wait for the end of the read, a millisecond at each step."""
        while self.is_alive():
            self.join(READ_WAIT_S)
            yield

    def array(self, run_steps: RunSteps) -> Array:
        """Return what was read, after the steps of the wait; raises what the read raised."""
        run_steps(self._wait())
        error, self._error = self._error, None
        if error is None:
            assert self._array is not None  # noqa: S101 - it has ended
            return self._array
        try:
            raise error
        finally:
            del error  # its traceback leads here: the array in it would stay until the garbage collector runs
