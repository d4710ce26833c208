"""A thread that moves the write-ahead log into the file and onto the disk, so that the pump thread need not."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from threading import Event, Lock, Thread

from mt4pump.journal.schema import FAULTS, connect, pragma
from mt4pump.journal.store import Store

CHECK_INTERVAL_S = 1.0
CHECKPOINT_BYTES = 8 * 2**20
"""The commit after a complete checkpoint restarts the log and syncs it: so checkpoints are not too frequent."""
CHECKPOINT_INTERVAL_MAX_S = 10.0
CHECKPOINT_SHARE = 8
"""Which part of the log's limit may wait to be moved, where that is less than `CHECKPOINT_BYTES`."""
CATCH_UP_ROUNDS = 10
QUICK_PAGES = 500
"""What the pump thread may move itself: some milliseconds."""


class Checkpointer(Thread):
    """Moves the log of one `Store`, over a connection of its own. ``error`` is what ended it.

    ``moved_bytes`` is how much of `Store.bytes_written` is in the file; ``checkpointing`` is held while it moves.
    ``restart_wanted`` asks the pump thread to restart the log while that is quick. ``held_since_s`` (monotonic) is
    since when a transaction of another program has kept the log from being moved, None while none does.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(name="journal-checkpointer", daemon=True)
        self.error: BaseException | None = None
        self.moved_bytes = 0
        self.checkpointing = Lock()
        self.restart_wanted = False
        self.held_since_s: float | None = None
        self._moved_pages = 0
        self._store = store
        self._moved_at_s = time.monotonic()
        self._stopping = Event()

    def run(self) -> None:
        """Check about once a second until stopped."""
        try:
            with closing(connect(self._store.path)) as connection:
                pragma(connection, "wal_autocheckpoint", 0)
                # Also when commits are not synced: a checkpoint in the wrong order may damage the file.
                pragma(connection, "synchronous", "NORMAL")
                while not self._stopping.wait(CHECK_INTERVAL_S):
                    if self._store.reserved_synced < self._store.reserved:
                        self._store.sync_reserved()
                    if self._is_due() or self.held_since_s is not None:
                        self._checkpoint(connection)
                        self._bound_wal(connection)
        except FAULTS as error:
            self.error = error

    def stop(self) -> None:
        """Make the thread end soon; does not wait for it."""
        self._stopping.set()

    def _is_due(self) -> bool:
        waiting = self._store.bytes_written - self.moved_bytes
        if waiting >= min(CHECKPOINT_BYTES, self._store.options.wal_limit_bytes // CHECKPOINT_SHARE):
            return True
        return waiting > 0 and time.monotonic() - self._moved_at_s >= CHECKPOINT_INTERVAL_MAX_S

    def _checkpoint(self, connection: sqlite3.Connection) -> int:
        """Move what is in the log; return how many pages are left or new."""
        written = self._store.bytes_written
        with self.checkpointing:
            _, pages, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self.moved_bytes = written
        self._moved_at_s = now_s = time.monotonic()
        # Unless a reader holds the log each round moves more: its beginning, at least, or what is new.
        if pages - moved <= QUICK_PAGES or moved != self._moved_pages:
            self.held_since_s = None
        elif self.held_since_s is None:
            self.held_since_s = now_s
        self._moved_pages = moved
        return int(pages) - int(moved)

    def _bound_wal(self, connection: sqlite3.Connection) -> None:
        """Catch up with a log that grew too large because commits never paused; the rest is quick for the pump."""
        if self._store.wal_bytes() < self._store.options.wal_limit_bytes:
            return
        for _ in range(CATCH_UP_ROUNDS):
            if self.held_since_s is not None:
                return
            if self._checkpoint(connection) <= QUICK_PAGES:
                self.restart_wanted = True
                return
