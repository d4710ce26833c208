"""The journal as the pump thread sees it: never raises for trouble with the disk, and says so instead."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mt4pump.clock import NowNs
from mt4pump.journal.checkpointer import Checkpointer
from mt4pump.journal.errors import FAULTS, JournalFileError, explain, is_damage
from mt4pump.journal.opening import UNSTORED_MARK, PreviousRun, open_store
from mt4pump.journal.recovery import companion, salvage, set_aside
from mt4pump.journal.schema import JournalOptions, Stored, kind_name
from mt4pump.journal.store import Store
from mt4pump.log import FaultCounters
from mt4pump.private_files import PRIVATE

RETRY_S = 1.0
RETRY_LIMIT_S = 30.0
KEEPER_END_S = 2.0
LEAVING_WAIT_S = 0.5
"""For a keeper that was told to end when trouble was met, a second ago at least."""
WAL_FORCE = 2
"""How many times its bound the log may have before the pump thread empties it, however long that takes."""

log = logging.getLogger(__name__)


class Journal:
    """Durable events and the mirror of open orders; for the pump thread only.

    Opens the file at ``path``, or creates it; ``now_ns`` is what events are stamped with. Trouble with the file makes
    ``durable`` False and ``error`` say why; `tend` tries again. Meanwhile events are published unstored, and a break
    is marked where they would be.

    ``log_id`` names the file that offsets count in (empty until one could be opened), ``last_offset`` is that of the
    last event committed, or a mark behind it where offsets were skipped. ``unstored_after`` is the offset behind which
    events are being published unstored just now, None while all is well. ``fault_counters`` counts faults by name,
    ``wal_restarts`` the times that the pump thread itself had to begin a grown log anew (some milliseconds each).
    """

    def __init__(
        self,
        path: Path,
        options: JournalOptions,
        now_ns: NowNs,
        *,
        fault_counters: FaultCounters | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.log_id = ""
        self.last_offset = 0
        self.error = ""
        self.wal_restarts = 0
        self.unstored_after: int | None = None
        self.fault_counters = fault_counters or FaultCounters(log)
        self._path = path.absolute()
        self._options = options
        self._now_ns = now_ns
        self._now_s = now_s
        self._store: Store | None = None
        self._keeper: Checkpointer | None = None
        self._leaving: Checkpointer | None = None  # told to end
        self._kinds: dict[bytes, int] = {}
        self._counts = dict.fromkeys(("stored", "unstored", "commits", "errors", "set_aside", "deleted"), 0)
        self._unmarked = 0  # events published unstored that no break in the file tells of
        self._mirror_in_hand = False  # whether the caller knows all open orders better than the file
        self._mirror_read = False  # whether the caller knows those of the last life, if the file has any
        self._damaged = False
        self._suspended = False  # the log is held, and as long as it may get
        self._held_logged = False
        self._base = 0
        self._retry_s = RETRY_S
        self._retry_at_s = 0.0
        self._open(None)

    @property
    def durable(self) -> bool:
        """Whether the last commit, or opening, worked."""
        return self._store is not None and not self._suspended

    @property
    def last_offsets(self) -> dict[str, int]:
        """The last offset per kind; any thread may ask."""
        return {kind_name(kind): last for kind, last in self._kinds.copy().items()}

    @property
    def has_mirror(self) -> bool:
        """Whether open orders of this identity are stored, maybe none."""
        return self._store is not None and self._store.mirror.present

    @property
    def has_unread_mirror(self) -> bool:
        """Whether open orders of the last life are stored that nobody has asked for yet: `tend` leaves them alone."""
        return self.has_mirror and not self._mirror_read

    def open_orders(self) -> dict[int, bytes]:
        """Return ticket → row of the open orders stored for this identity; none, and not ``durable``, after trouble.

        From here on the caller is taken to know them better: after trouble the mirror is written anew from `tend`'s
        ``all_orders``.
        """
        if self._store is None or not self._store.mirror.present:
            return {}
        try:
            rows = self._store.mirror.rows()
        except FAULTS as error:
            self._fail(error, "reading the open orders")
            return {}
        self._mirror_in_hand = self._mirror_read = True
        return rows

    def replace_orders(self, orders: Mapping[int, bytes]) -> None:
        """Store all open orders anew, whatever the file has."""
        if self._store is None:
            return
        try:
            self._store.replace_mirror(orders)
        except FAULTS as error:
            self._fail(error, "storing the open orders")

    def append(self, events: Sequence[Stored], orders: Mapping[int, bytes | None]) -> bool:
        """Commit events, whose offsets follow ``last_offset`` one by one, and changed orders (None: ended), together.

        The first orders of an identity that has no mirror begin it, and must be all of them; without events they may
        be none. False: nothing was stored, ``durable`` is False, the events count as unstored.
        """
        changed = orders if orders or not (events or self.has_mirror) else None
        self._mirror_in_hand |= changed is not None
        store = self._store
        if store is None or self._suspended:
            self._count_unstored(len(events))
            return False
        if not events and changed is None:
            return True
        try:
            self._check_offsets(events)
            if self._keeper is not None and self._keeper.restart_wanted:
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

    def tend(self, all_orders: Callable[[], Mapping[int, bytes]]) -> None:
        """Do once a second what must not cost a commit: try again after trouble, retention, the log's bound.

        ``all_orders`` is asked for all open orders when the mirror must be written anew. No event may be waiting
        with an offset already given: offsets may go on elsewhere after this. A file that opened only now may have a
        mirror that nobody has read: see `has_unread_mirror`.
        """
        store = self._store
        if store is None:
            if self._now_s() >= self._retry_at_s:
                self._open(all_orders() if self._mirror_in_hand else None)
            return
        try:
            if self._suspended:
                self._resume_if_free(store, all_orders)
                return
            store.tend()
            self._look_after_keeper(store)
            self._bound_wal(store)
            self._retry_s = RETRY_S
        except FAULTS as error:
            self._fail(error, "tending the journal")

    def vitals(self) -> dict[str, object]:
        """Return what the heartbeat says of the journal; sizes in bytes, counters since the start of the daemon."""
        store = self._store
        deleted = self._counts["deleted"] + (store.retention.deleted if store else 0)
        try:
            wal_bytes = store.wal_bytes() if store else 0
        except OSError:
            wal_bytes = 0
        return {
            **self._counts,
            "deleted": deleted,
            "first_offset": store.retention.first if store else 0,
            "size_bytes": store.retention.size_bytes if store else 0,
            "wal_bytes": wal_bytes,
            "wal_limit_bytes": self._options.wal_limit_bytes,
            "wal_held_s": round(self._held_s(), 1),
            "clock_ahead_s": round(store.clock.ahead_s, 1) if store else 0.0,
            "error": self.error,
        }

    def close(self) -> None:
        """Mark a clean end, empty the write-ahead log, let go of the file."""
        store = self._store
        if store is None:
            return
        try:
            if self._keeper is not None:
                self._keeper.end()
                self._keeper.join(KEEPER_END_S)
            store.end_life()
        except FAULTS as error:
            self._fail(error, "closing the journal")
        else:
            self._let_go()

    def _open(self, orders: Mapping[int, bytes] | None) -> None:
        """Open the file, set a damaged one aside first; ``orders`` are all open orders, None leaves the mirror.

        A mirror that nobody has read yet is left, too: it tells what ended while no daemon ran.
        """
        try:
            store = self._open_or_begin_anew()
            try:
                unread = store.mirror.present and not self._mirror_read
                if orders is not None and not unread:
                    store.replace_mirror(orders)
            except BaseException:
                store.close()
                raise
        except FAULTS as error:
            self._fail(error, "opening the journal")
            return
        if self.error:
            log.info("%s: the journal works again; %d events were published unstored", self._path, self._unmarked)
        self._store, self._kinds, self._mirror_read = store, store.kinds, not unread
        self.log_id, self.last_offset = store.log_id, store.last
        self.error, self.unstored_after, self._unmarked = "", None, 0
        self._start_keeper(store)

    def _open_or_begin_anew(self) -> Store:
        if self._leaving is not None:
            # Closing its connection it may hold the file locked, and Windows renames no file that is open.
            self._leaving.join(LEAVING_WAIT_S)
        if self._damaged:
            self._set_aside()
        try:
            return open_store(self._path, self._options, self._now_ns, self._now_s, self._before())
        except FAULTS as error:
            if not is_damage(error):
                raise
            self._counts["errors"] += 1
            self.fault_counters.record(*explain(error, self._path, "opening the journal"))
            self._set_aside()
        return open_store(self._path, self._options, self._now_ns, self._now_s, self._before())

    def _before(self) -> PreviousRun:
        return PreviousRun(
            log_id=self.log_id, last=self.last_offset, kinds=self._kinds, unstored=self._unmarked, base=self._base
        )

    def _set_aside(self) -> None:
        """Move a damaged file out of the way, and find out where offsets must go on."""
        self._damaged = True
        aside = set_aside(self._path, self._now_ns())
        self._damaged = False
        self._counts["set_aside"] += 1
        if not self.last_offset:
            # Microseconds since 1970 are beyond any offset that was counted up from 1.
            salvaged = salvage(aside)
            self._base = self._now_ns() // 1000 if salvaged is None else salvaged
        log.warning("%s: set aside as %s; offsets go on in a new file", self._path, aside.name)

    def _check_offsets(self, events: Sequence[Stored]) -> None:
        if events and (events[0].offset, events[-1].offset) != (self.last_offset + 1, self.last_offset + len(events)):
            raise JournalFileError(
                "offsets", f"events {events[0].offset} to {events[-1].offset} do not follow {self.last_offset}"
            )

    def _look_after_keeper(self, store: Store) -> None:
        """Begin a keeper anew that met trouble; a damaged file is trouble of ours, too."""
        keeper = self._keeper
        if keeper is None or keeper.trouble is None:
            return
        if is_damage(keeper.trouble):
            raise keeper.trouble
        self._counts["errors"] += 1
        self.fault_counters.record(*explain(keeper.trouble, self._path, "moving the write-ahead log into the file"))
        self._start_keeper(store)

    def _start_keeper(self, store: Store) -> None:
        self._keeper = Checkpointer(store)
        self._keeper.start()

    def _bound_wal(self, store: Store) -> None:
        """Begin a log anew by force that the keeper did not get hold of; one that is held may grow up to a bound."""
        size = store.wal_bytes()
        if self._held_s():
            self._report_held(store, size)
            return
        self._held_logged = False
        if size >= WAL_FORCE * store.wal_limit_bytes:
            self._restart_wal(store, shrink=True)
        elif self._keeper is not None and self._keeper.restart_wanted:
            self._restart_wal(store)

    def _held_s(self) -> float:
        """Return how long a transaction of another program has been in the way of emptying the log; 0: none is."""
        since_s = self._keeper.held_since_s if self._keeper is not None else None
        return 0.0 if since_s is None else max(time.monotonic() - since_s, 0.1)

    def _report_held(self, store: Store, size: int) -> None:
        """Count and log once that the log is held, and store nothing more when it is as long as it may get."""
        cure = (
            "end that program's transaction (a backup, an sqlite3 shell, a scanner), or copy the file and read the copy"
        )
        if size >= store.wal_limit_bytes and not self._held_logged:
            self._held_logged = True
            text = f"{store.wal}: {size} bytes: another program's open transaction keeps it from being emptied: {cure}"
            self.fault_counters.record("wal_held", text)
        if store.wal_max_bytes and size >= store.wal_max_bytes:
            self._suspended = True
            self._counts["errors"] += 1
            self.error = f"{store.wal}: {size} bytes, held by another program's open transaction: {cure}"
            self.fault_counters.record("wal_full", f"events are published unstored from here on: {self.error}")

    def _resume_if_free(self, store: Store, all_orders: Callable[[], Mapping[int, bytes]]) -> None:
        """Store again once nobody holds the log any more."""
        self._look_after_keeper(store)
        if self._held_s() or not self._restart_wal(store, shrink=True):
            return
        self._suspended = self._held_logged = False
        self._let_go()
        self._open(all_orders() if self._mirror_in_hand else None)

    def _restart_wal(self, store: Store, *, shrink: bool = False) -> bool:
        """Begin the log anew, unless the keeper is at work on it: then True, too, as its turn comes again."""
        keeper = self._keeper
        if keeper is None or not keeper.checkpointing.acquire(blocking=False):
            return True
        try:
            keeper.restart_wanted = False
            restarted = store.restart_wal(shrink=shrink)
        finally:
            keeper.checkpointing.release()
        self.wal_restarts += restarted
        return restarted

    def _fail(self, error: BaseException, doing: str) -> None:
        """Tell, let go of the file, and have `tend` try again later."""
        fault = explain(error, self._path, doing)
        self._suspended = False
        self.error = fault.text
        self._damaged |= is_damage(error)
        self._counts["errors"] += 1
        self.fault_counters.record(fault.name, fault.text)
        self._let_go()
        self._retry_at_s = self._now_s() + self._retry_s
        self._retry_s = min(2 * self._retry_s, RETRY_LIMIT_S)

    def _let_go(self) -> None:
        store, self._store = self._store, None
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.end()
            self._leaving = keeper
        if store is None:
            return
        self._counts["deleted"] += store.retention.deleted
        try:
            store.close()
        except FAULTS as error:
            self.fault_counters.record(*explain(error, self._path, "letting go of the journal"))

    def _count_unstored(self, events: int) -> None:
        """Count, and leave a mark beside the file for the case that this process dies before it can store a break."""
        if not events:
            return
        self._counts["unstored"] += events
        if not self._unmarked:
            self.unstored_after = self.last_offset
            try:
                companion(self._path, UNSTORED_MARK).touch(PRIVATE)
            except OSError as error:
                log.debug("no mark beside the journal: %s", error)
        self._unmarked += events
