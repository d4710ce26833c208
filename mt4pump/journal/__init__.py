"""The journal: durable events and open orders in one SQLite file; the only package with `sqlite3`.

::

    pump thread          Journal ── Store ──┬─ events, kinds, gaps, meta   one transaction per group of events
                                            ├─ OpenOrders
                                            └─ Retention (age, size)
    checkpointer thread  Checkpointer       moves the write-ahead log into the file, syncs it
    query thread         JournalReader      pages of events, own connection

An event is committed before it is published. ``offset`` grows by one within one file (``log_id``) and is never given to
two events. Where events may be missing a gap is recorded, so that a page over it is not ``whole``. A fault of the disk
never stops the stream: `Journal.durable` is False then.
"""

from mt4pump.journal.journal import Journal
from mt4pump.journal.reader import JournalReader
from mt4pump.journal.schema import JournalOptions, JournalPage, Replayed, Stored

__all__ = ["Journal", "JournalOptions", "JournalPage", "JournalReader", "Replayed", "Stored"]
