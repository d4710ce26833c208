"""Events, journals and waiting, for the tests of the journal.

Private access: the store and the checkpointer of a journal, because a kill, a full disk and damage happen beneath it:
its public calls show what it does about them.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event

from mt4pump.journal import Journal, JournalOptions, JournalPage, JournalReader, Stored
from mt4pump.journal.checkpointer import Checkpointer
from mt4pump.journal.store import Store

OPTIONS = JournalOptions(max_age_s=7 * 86_400.0, identity="simulator/1")
NOW_NS = 1_800_000_000 * 10**9
LIMIT_S = 20.0
PAUSE = Event()


class Clock:
    """Time that tests set: ``ns`` since 1970, ``s`` of the monotonic clock."""

    def __init__(self) -> None:
        self.ns = NOW_NS
        self.s = 0.0

    def now_ns(self) -> int:
        return self.ns

    def now_s(self) -> float:
        return self.s

    def advance(self, seconds: float) -> None:
        self.s += seconds
        self.ns += int(seconds * 1e9)


def open_journal(path: Path, options: JournalOptions = OPTIONS, clock: Clock | None = None) -> Journal:
    clock = clock or Clock()
    return Journal(path, options, clock.now_ns, now_s=clock.now_s)


@contextmanager
def opened(path: Path, options: JournalOptions = OPTIONS, clock: Clock | None = None) -> Iterator[Journal]:
    journal = open_journal(path, options, clock)
    try:
        yield journal
    finally:
        journal.close()


def events(journal: Journal, *topics: bytes, ts: int = NOW_NS, body: bytes = b"body") -> list[Stored]:
    """Return events that follow the journal's last one; each body ends with its offset."""
    first = journal.last_offset + 1
    return [Stored(first + at, ts, topic, b"%s-%d" % (body, first + at)) for at, topic in enumerate(topics)]


def add(journal: Journal, count: int, topic: bytes = b"trade.1", ts: int = NOW_NS, size: int = 4) -> None:
    """Store ``count`` events; the test fails when they are not stored."""
    assert journal.append(events(journal, *[topic] * count, ts=ts, body=b"x" * size), {}), journal.error


def number(journal: Journal, name: str) -> float:
    """Return one of the journal's counters."""
    found = journal.counters()[name]
    assert isinstance(found, int | float)
    return found


def store_of(journal: Journal) -> Store:
    """Return the open store."""
    store = journal._store  # noqa: SLF001
    assert store is not None
    return store


def checkpointer_of(journal: Journal) -> Checkpointer:
    """Return the thread that moves the write-ahead log."""
    checkpointer = journal._checkpointer  # noqa: SLF001
    assert checkpointer is not None
    return checkpointer


def kill(journal: Journal) -> None:
    """Let go of the file as a process that is killed does: nothing is written any more.

    A connection that stays open keeps the write-ahead log where it is.
    """
    checkpointer, journal._checkpointer = journal._checkpointer, None  # noqa: SLF001
    if checkpointer is not None:
        checkpointer.stop()
        checkpointer.join(LIMIT_S)
    store, journal._store = store_of(journal), None  # noqa: SLF001
    for suffix in ("", "-wal"):
        part = store.path.with_name(store.path.name + suffix)
        part.with_name(part.name + ".kept").write_bytes(part.read_bytes())
    store.close()
    for suffix in ("", "-wal"):
        part = store.path.with_name(store.path.name + suffix)
        kept = part.with_name(part.name + ".kept")
        part.write_bytes(kept.read_bytes())  # the same file: a copy would be detected
        kept.unlink()


def read_all(path: Path, after: int = 0, prefixes: tuple[bytes, ...] = (), limit: int = 1000) -> list[int]:
    """Return the offsets of all events behind ``after``, page by page."""
    offsets: list[int] = []
    with closing(JournalReader(path)) as reader:
        position: int | None = after
        while position is not None:
            page = reader.page(after=position, to=None, prefixes=prefixes, limit=limit)
            offsets += [event.offset for event in page.events]
            assert page.next is None or page.next > position
            position = page.next
    return offsets


def first_page(path: Path, after: int = 0, to: int | None = None, since: int | None = None) -> JournalPage:
    """Return one page of all topics from a reader of its own."""
    with closing(JournalReader(path)) as reader:
        return reader.page(after=after, to=to, since=since)


def change_meta(path: Path, **marks: object) -> None:
    """Change the file's metadata, as another machine or program would have written it."""
    with closing(sqlite3.connect(path)) as connection:
        for name, value in marks.items():
            connection.execute("UPDATE meta SET value = ? WHERE name = ?", (value, name))
        connection.commit()


def wait_for(what: Callable[[], bool]) -> None:
    """Return once something holds; the test fails when it never does."""
    deadline = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < deadline, "it never happened"
        PAUSE.wait(0.005)


def no_orders() -> dict[int, bytes]:
    """Return no open orders."""
    return {}


def append_until_refused(journal: Journal) -> int:
    """Append until it is refused; return the last offset that was stored."""
    for _ in range(10_000):
        if not journal.append(events(journal, *[b"trade.1"] * 5, body=b"x" * 500), {}):
            return journal.last_offset
    raise AssertionError("it was never refused")
