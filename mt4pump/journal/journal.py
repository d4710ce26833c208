"""The journal as the pump thread uses it: it never raises for a fault of the disk, but reports it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mt4pump.journal.checkpointer import Checkpointer
from mt4pump.journal.opening import UNSTORED_SUFFIX, PreviousRun, open_store, quarantine, recover_last_offset
from mt4pump.journal.schema import (
    FAULTS,
    JournalFileError,
    JournalOptions,
    Stored,
    companion,
    explain,
    is_damage,
)
from mt4pump.journal.store import Store
from mt4pump.log import FaultCounters
from mt4pump.private_files import PRIVATE
from mt4pump.process.backoff import Backoff
from mt4pump.process.clock import NowNs

RETRY_S, RETRY_LIMIT_S = 1.0, 30.0
CHECKPOINTER_STOP_S = 2.0
STOPPING_WAIT_S = 0.5
"""For a checkpointer that was stopped after a fault, a second ago at least."""
WAL_FORCE = 2
"""How many times its limit the log may have before the pump thread empties it, however long that takes."""
HELD_CURE = "end that program's transaction (a backup, an sqlite3 shell, a scanner), or copy the file and read the copy"

log = logging.getLogger(__name__)


class Journal:
    """Durable events and open orders; for the pump thread only.

    Opens the file at ``path``, or creates it; ``now_ns`` is what events are stamped with. A fault of the file makes
    ``durable`` False and ``error`` its text; `maintain` tries again. Meanwhile events are published unstored, and a
    gap is recorded in their place.

    ``log_id`` names the file that offsets count in (empty until one could be opened), ``last_offset`` is that of the
    last event committed, or the last one skipped. ``unstored_after`` is the offset after which events are being
    published unstored now, None if they are stored. ``fault_counters`` counts faults by name.
    """

    def __init__(
        self,
        path: Path,
        options: JournalOptions,
        now_ns: NowNs,
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.log_id = ""
        self.last_offset = 0
        self.error = ""
        self.unstored_after: int | None = None
        self.fault_counters = FaultCounters(log)
        self._path = path.absolute()
        self._options = options
        self._now_ns = now_ns
        self._now_s = now_s
        self._store: Store | None = None
        self._checkpointer: Checkpointer | None = None
        self._stopping: Checkpointer | None = None
        self._kinds: dict[str, int] = {}
        self._counts = dict.fromkeys(("stored", "unstored", "commits", "errors", "set_aside", "deleted"), 0)
        self._unrecorded = 0  # events published unstored for which the file has no gap yet
        self._orders_known = False  # whether the caller knows all open orders better than the file
        self._orders_read = False  # whether the caller has read those of the last run, if the file has any
        self._is_damaged = False
        self._is_suspended = False  # the log is held, and as long as it may get
        self._is_held_logged = False
        self._base = 0
        self._backoff = Backoff(RETRY_S, RETRY_LIMIT_S)
        self._retry_at_s = 0.0
        self._open(dict)

    @property
    def durable(self) -> bool:
        """Whether the last commit, or opening, succeeded."""
        return self._store is not None and not self._is_suspended

    def proven_ns(self) -> int:
        """Return the time that retention counts by, ns since 1970, 0 while the file is not open; for any thread."""
        store = self._store
        return store.clock.proven_ns if store is not None else 0

    @property
    def last_offsets(self) -> dict[str, int]:
        """The last offset per kind; for any thread."""
        return self._kinds.copy()

    @property
    def has_orders(self) -> bool:
        """Whether open orders of this identity are stored, maybe none."""
        return self._store is not None and self._store.orders.present

    @property
    def has_unread_orders(self) -> bool:
        """Whether open orders of the last run are stored that were not read yet: `maintain` does not replace them."""
        return self.has_orders and not self._orders_read

    def open_orders(self) -> dict[int, bytes]:
        """Return ticket → row of the open orders stored for this identity; none, and not ``durable``, after a fault.

        From here on the caller knows them better: after a fault `maintain` stores its ``all_orders`` anew.
        """
        if self._store is None or not self._store.orders.present:
            return {}
        try:
            rows = self._store.orders.rows()
        except FAULTS as error:
            self._fail(error, "reading the open orders")
            return {}
        self._orders_known = self._orders_read = True
        return rows

    def replace_orders(self, orders: Mapping[int, bytes]) -> None:
        """Store all open orders anew, whatever the file has."""
        if self._store is None:
            return
        try:
            self._store.replace_orders(orders)
        except FAULTS as error:
            self._fail(error, "storing the open orders")

    def append(self, events: Sequence[Stored], orders: Mapping[int, bytes | None]) -> bool:
        """Commit events, whose offsets follow ``last_offset`` one by one, and changed orders (None: ended), together.

        The first orders of an identity that has none stored must be all of them; without events they may be none.
        Returns False if nothing was stored: ``durable`` is False, the events count as unstored.
        """
        changed = orders if orders or not (events or self.has_orders) else None
        self._orders_known |= changed is not None
        store = self._store
        if store is None or self._is_suspended:
            self._count_unstored(len(events))
            return False
        if not events and changed is None:
            return True
        try:
            self._check_offsets(events)
            if self._checkpointer is not None and self._checkpointer.restart_wanted:
                self._restart_wal(store)
            store.commit(events, changed)
        except FAULTS as error:
            self._fail(error, "storing events")
            self._count_unstored(len(events))
            return False
        self._counts["commits"] += 1
        self._counts["stored"] += len(events)
        self.last_offset = store.last
        return True

    def maintain(self, all_orders: Callable[[], Mapping[int, bytes]]) -> None:
        """Do what commits postpone, once a second: retry after a fault, retention, the log's limit.

        ``all_orders`` returns all open orders, for the case that they must be stored anew. No event with an offset
        may wait for its commit: offsets may continue elsewhere after this. A file that could be opened only now may
        hold orders that were not read: see `has_unread_orders`.
        """
        store = self._store
        if store is None:
            if self._now_s() >= self._retry_at_s:
                self._open(all_orders)
            return
        try:
            if self._is_suspended:
                self._check_checkpointer(store)
                if not self._held_s() and self._restart_wal(store, shrink=True):
                    self._is_suspended = self._is_held_logged = False
                    self._release()
                    self._open(all_orders)
                return
            store.maintain()
            self._check_checkpointer(store)
            self._bound_wal(store)
            self._backoff.reset()
        except FAULTS as error:
            self._fail(error, "maintaining the journal")

    def counters(self) -> dict[str, object]:
        """Return the heartbeat's ``journal``; sizes in bytes, counters since the start of the daemon."""
        store = self._store
        try:
            wal_bytes = store.wal_bytes() if store else 0
        except OSError:
            wal_bytes = 0
        return {
            **self._counts,
            "deleted": self._counts["deleted"] + (store.retention.deleted if store else 0),
            "first_offset": store.retention.first if store else 0,
            "size_bytes": store.retention.size_bytes if store else 0,
            "wal_bytes": wal_bytes,
            "wal_limit_bytes": self._options.wal_limit_bytes,
            "wal_held_s": round(self._held_s(), 1),
            "clock_ahead_s": round(store.clock.ahead_s, 1) if store else 0.0,
            "error": self.error,
        }

    def close(self) -> None:
        """Record a clean end, empty the write-ahead log, close the file."""
        store = self._store
        if store is None:
            return
        try:
            if self._checkpointer is not None:
                self._checkpointer.stop()
                self._checkpointer.join(CHECKPOINTER_STOP_S)
            store.finish()
        except FAULTS as error:
            self._fail(error, "closing the journal")
        else:
            self._release()

    def _open(self, all_orders: Callable[[], Mapping[int, bytes]]) -> None:
        """Open the file, quarantine a damaged one first; store ``all_orders`` if the caller knows them better.

        Stored orders that were not read yet are kept: they show what ended while no daemon ran.
        """
        try:
            store = self._open_or_create()
            try:
                unread = store.orders.present and not self._orders_read
                if self._orders_known and not unread:
                    store.replace_orders(all_orders())
            except BaseException:
                store.close()
                raise
        except FAULTS as error:
            self._fail(error, "opening the journal")
            return
        if self.error:
            log.info("%s: the journal works again; %d events were published unstored", self._path, self._unrecorded)
        self._store, self._kinds, self._orders_read = store, store.kinds, not unread
        self.log_id, self.last_offset = store.log_id, store.last
        self.error, self.unstored_after, self._unrecorded = "", None, 0
        self._start_checkpointer(store)

    def _open_or_create(self) -> Store:
        if self._stopping is not None:
            # While it closes its connection it may lock the file, and Windows renames no file that is open.
            self._stopping.join(STOPPING_WAIT_S)
        if self._is_damaged:
            self._quarantine()
        try:
            return self._open_store()
        except FAULTS as error:
            if not is_damage(error):
                raise
            self._record(error, "opening the journal")
            self._quarantine()
        return self._open_store()

    def _open_store(self) -> Store:
        previous = PreviousRun(self.log_id, self.last_offset, self._kinds, self._unrecorded, self._base)
        return open_store(self._path, self._options, self._now_ns, self._now_s, previous)

    def _quarantine(self) -> None:
        """Rename a damaged file, and find out where offsets must continue."""
        self._is_damaged = True
        target = quarantine(self._path, self._now_ns())
        self._is_damaged = False
        self._counts["set_aside"] += 1
        if not self.last_offset:
            # Microseconds since 1970 are beyond any offset that was counted up from 1.
            recovered = recover_last_offset(target)
            self._base = self._now_ns() // 1000 if recovered is None else recovered
        consequence = "offsets continue in a new file, readers cannot resume: they start again from a snapshot"
        log.warning("%s: quarantined as %s; %s", self._path, target.name, consequence)

    def _check_offsets(self, events: Sequence[Stored]) -> None:
        if events and (events[0].offset, events[-1].offset) != (self.last_offset + 1, self.last_offset + len(events)):
            raise JournalFileError(
                "offsets", f"events {events[0].offset} to {events[-1].offset} do not follow {self.last_offset}"
            )

    def _start_checkpointer(self, store: Store) -> None:
        self._checkpointer = Checkpointer(store)
        self._checkpointer.start()

    def _check_checkpointer(self, store: Store) -> None:
        """Replace a checkpointer that failed; damage of the file is raised."""
        error = self._checkpointer.error if self._checkpointer is not None else None
        if error is None:
            return
        if is_damage(error):
            raise error
        self._record(error, "moving the write-ahead log into the file")
        self._start_checkpointer(store)

    def _bound_wal(self, store: Store) -> None:
        """Restart a log that the checkpointer could not bound; one that is held may grow up to a limit."""
        size = store.wal_bytes()
        if self._held_s():
            self._report_held(store, size)
            return
        self._is_held_logged = False
        if size >= WAL_FORCE * self._options.wal_limit_bytes:
            self._restart_wal(store, shrink=True)
        elif self._checkpointer is not None and self._checkpointer.restart_wanted:
            self._restart_wal(store)

    def _held_s(self) -> float:
        """Return how long a transaction of another program has kept the log from being emptied; 0: none does."""
        since_s = self._checkpointer.held_since_s if self._checkpointer is not None else None
        return 0.0 if since_s is None else max(time.monotonic() - since_s, 0.1)

    def _report_held(self, store: Store, size: int) -> None:
        """Count and log once that the log is held, and store nothing more when it is as long as it may get."""
        if size >= self._options.wal_limit_bytes and not self._is_held_logged:
            self._is_held_logged = True
            text = "another program's open transaction keeps it from being emptied"
            self.fault_counters.record("wal_held", f"{store.wal}: {size} bytes: {text}: {HELD_CURE}")
        if self._options.wal_max_bytes and size >= self._options.wal_max_bytes:
            self._is_suspended = True
            self._counts["errors"] += 1
            self.error = f"{store.wal}: {size} bytes, held by another program's open transaction: {HELD_CURE}"
            self.fault_counters.record("wal_full", f"events are published unstored from here on: {self.error}")

    def _restart_wal(self, store: Store, *, shrink: bool = False) -> bool:
        """Restart the log, unless the checkpointer is moving it: then return True, too, as it will be tried again."""
        checkpointer = self._checkpointer
        if checkpointer is None or not checkpointer.checkpointing.acquire(blocking=False):
            return True
        try:
            checkpointer.restart_wanted = False
            return store.restart_wal(shrink=shrink)
        finally:
            checkpointer.checkpointing.release()

    def _record(self, error: BaseException, doing: str) -> None:
        self._counts["errors"] += 1
        self.fault_counters.record(*explain(error, self._path, doing))

    def _fail(self, error: BaseException, doing: str) -> None:
        """Report a fault, close the file, and have `maintain` try again later."""
        self._is_suspended = False
        self.error = explain(error, self._path, doing).text
        self._is_damaged |= is_damage(error)
        self._record(error, doing)
        self._release()
        self._retry_at_s = self._now_s() + self._backoff.next_s()

    def _release(self) -> None:
        """Stop the checkpointer and close the file."""
        store, self._store = self._store, None
        checkpointer, self._checkpointer = self._checkpointer, None
        if checkpointer is not None:
            checkpointer.stop()
            self._stopping = checkpointer
        if store is None:
            return
        self._counts["deleted"] += store.retention.deleted
        try:
            store.close()
        except FAULTS as error:
            self.fault_counters.record(*explain(error, self._path, "closing the journal"))

    def _count_unstored(self, events: int) -> None:
        """Count, and make a file beside the journal in case this process dies before it can record a gap."""
        if not events:
            return
        self._counts["unstored"] += events
        if not self._unrecorded:
            self.unstored_after = self.last_offset
            try:
                companion(self._path, UNSTORED_SUFFIX).touch(PRIVATE)
            except OSError as error:
                log.debug("no file beside the journal: %s", error)
        self._unrecorded += events
