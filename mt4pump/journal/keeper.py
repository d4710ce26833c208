"""The keeper: a small thread that moves the write-ahead log into the file and onto the disk, off the pump thread."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from threading import Event, Lock, Thread

from mt4pump.journal.faults import FAULTS
from mt4pump.journal.schema import BUSY_WAIT_S, connect, pragma
from mt4pump.journal.store import Store, sync_file

LOOK_EVERY_S = 1.0
CHECKPOINT_BYTES = 8 * 2**20
"""A log that was moved whole is begun anew by the next commit, and that commit syncs it: not too often, then."""
CHECKPOINT_AT_LEAST_S = 10.0


class Keeper(Thread):
    """Looks after one `Store` with a connection of its own. ``trouble`` is what ended it.

    ``kept_bytes`` is how much of `Store.bytes_written` is in the file; ``checkpointing`` is held while it moves.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(name="journal-keeper", daemon=True)
        self.trouble: BaseException | None = None
        self.kept_bytes = 0
        self.checkpointing = Lock()
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
                    if self._is_due():
                        self._checkpoint(connection)
        except FAULTS as error:
            self.trouble = error

    def end(self) -> None:
        """Have the thread end soon; does not wait for it."""
        self._ending.set()

    def _is_due(self) -> bool:
        waiting = self._store.bytes_written - self.kept_bytes
        late = time.monotonic() - self._kept_at_s >= CHECKPOINT_AT_LEAST_S
        return waiting >= CHECKPOINT_BYTES or (late and waiting > 0)

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        written = self._store.bytes_written
        with self.checkpointing:
            pragma(connection, "wal_checkpoint(PASSIVE)")
        self.kept_bytes = written
        self._kept_at_s = time.monotonic()

    def _sync_reserve(self) -> None:
        """Put the mark of reserved offsets on the disk before it is reached."""
        store = self._store
        reserved = store.reserved
        if store.reserved_synced < reserved:
            sync_file(store.wal)
            store.reserved_synced = reserved
