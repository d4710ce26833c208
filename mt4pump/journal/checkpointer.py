"""The keeper: a small thread that moves the write-ahead log into the file and onto the disk, off the pump thread."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from threading import Event, Lock, Thread

from mt4pump.journal.errors import FAULTS
from mt4pump.journal.schema import BUSY_WAIT_S, connect, pragma
from mt4pump.journal.store import Store, sync_file

LOOK_EVERY_S = 1.0
CHECKPOINT_BYTES = 8 * 2**20
"""A log that was moved whole is begun anew by the next commit, and that commit syncs it: not too often, then."""
CHECKPOINT_AT_LEAST_S = 10.0
HURRY_ROUNDS = 10
QUICK_PAGES = 500
"""What the pump thread may move itself: some milliseconds."""
CHECKPOINT_SHARE = 8
"""Which part of the log's limit may wait to be moved, where that is less than `CHECKPOINT_BYTES`."""


class Checkpointer(Thread):
    """Looks after one `Store` with a connection of its own. ``trouble`` is what ended it.

    ``kept_bytes`` is how much of `Store.bytes_written` is in the file; ``checkpointing`` is held while it moves.
    ``restart_wanted`` asks the pump thread to begin the log anew, just when that is quick. ``held_since_s`` (monotonic)
    is since when a transaction of another program has kept the log from being moved, None while none does.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(name="journal-keeper", daemon=True)
        self.trouble: BaseException | None = None
        self.kept_bytes = 0
        self.checkpointing = Lock()
        self.restart_wanted = False
        self.held_since_s: float | None = None
        self._moved = 0
        self._store = store
        self._kept_at_s = time.monotonic()
        self._ending = Event()

    def run(self) -> None:
        """Look about once a second until told to end."""
        try:
            with closing(connect(self._store.path, wait_s=BUSY_WAIT_S)) as connection:
                pragma(connection, "wal_autocheckpoint", 0)
                # Also when commits are not synced: what is moved without order may damage the file.
                pragma(connection, "synchronous", "NORMAL")
                while not self._ending.wait(LOOK_EVERY_S):
                    self._sync_reserve()
                    if self._is_due() or self.held_since_s is not None:
                        self._checkpoint(connection)
                        self._bound_wal(connection)
        except FAULTS as error:
            self.trouble = error

    def end(self) -> None:
        """Have the thread end soon; does not wait for it."""
        self._ending.set()

    def _is_due(self) -> bool:
        waiting = self._store.bytes_written - self.kept_bytes
        late = time.monotonic() - self._kept_at_s >= CHECKPOINT_AT_LEAST_S
        return waiting >= min(CHECKPOINT_BYTES, self._store.wal_limit_bytes // CHECKPOINT_SHARE) or (
            late and waiting > 0
        )

    def _checkpoint(self, connection: sqlite3.Connection) -> int:
        """Move what is in the log; return how many pages came or stayed meanwhile."""
        written = self._store.bytes_written
        with self.checkpointing:
            _, pages, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self.kept_bytes = written
        self._kept_at_s = now_s = time.monotonic()
        # Without a reader in the way each round gets further: the log's beginning, at least, or what came since.
        if pages - moved <= QUICK_PAGES or moved != self._moved:
            self.held_since_s = None
        elif self.held_since_s is None:
            self.held_since_s = now_s
        self._moved = moved
        return int(pages) - int(moved)

    def _bound_wal(self, connection: sqlite3.Connection) -> None:
        """Catch up with a log that grew too large as commits never paused; the rest is quick for the pump thread."""
        if self._store.wal_bytes() < self._store.wal_limit_bytes:
            return
        for _ in range(HURRY_ROUNDS):
            if self.held_since_s is not None:
                return
            if self._checkpoint(connection) <= QUICK_PAGES:
                self.restart_wanted = True
                return

    def _sync_reserve(self) -> None:
        """Put the mark of reserved offsets on the disk before it is reached."""
        store = self._store
        reserved = store.reserved
        if store.reserved_synced < reserved:
            sync_file(store.wal)
            store.reserved_synced = reserved
