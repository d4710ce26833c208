"""The journal: durable events and the mirror of open orders in one SQLite file; the only room with `sqlite3`.

::

    pump thread   Journal ── Store ──┬─ events, kinds, breaks, meta     one transaction per wake-up
                                     ├─ Mirror (open orders)
                                     └─ Retention (age, size)
    keeper thread Keeper             moves the write-ahead log into the file, syncs it
    query thread  JournalReader      pages of events, own connection

What is promised: an event is committed before it is published; ``offset`` grows by one within one file (``log_id``),
is never given to two events, and a place where events may be missing is marked, so that a page over it is not
``whole``. Trouble with the disk never stops the stream: `Journal.durable` is False then, and says so.
"""

from mt4pump.journal.journal import Journal
from mt4pump.journal.reader import JournalReader
from mt4pump.journal.schema import JournalOptions, JournalPage, Replayed, Stored

__all__ = ["Journal", "JournalOptions", "JournalPage", "JournalReader", "Replayed", "Stored"]
