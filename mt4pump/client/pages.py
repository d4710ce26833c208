"""The bounds of what is read page by page: each page must go on, and all together come to an end; pure.

A daemon names the page that comes next. One that names the same page again, or invents new ones for ever, would have
its reader ask for ever, or grow without end.
"""

from __future__ import annotations

from dataclasses import dataclass

from mt4pump.client.query_connection import QueryError, Reply

EMPTY_PAGES_MAX = 10_000
"""Pages of the journal in a row without an event: the daemon searches 50 ms for each."""


@dataclass(frozen=True, slots=True)
class SnapshotLimits:
    """How much of one snapshot is taken: pages, topics with their rows, and their bytes."""

    pages: int = 100_000
    rows: int = 4_000_000
    size_bytes: int = 2**30


class SnapshotPages:
    """Follows the pages of one snapshot."""

    def __init__(self, limits: SnapshotLimits | None = None) -> None:
        self._limits = limits or SnapshotLimits()
        self._epoch: int | None = None
        self._topics: set[str] = set()
        self._pages = self._rows = self._size_bytes = 0

    def next_of(self, page: Reply) -> str | None:
        """Return the cursor of the page after ``page``, None at the end.

        Raises QueryError (``bad_reply``) for a page that brings no topic that was not there before, or is of another
        epoch, and (``too_large``) beyond the limits.
        """
        head, limits = page.head, self._limits
        if self._epoch is None:
            self._epoch = head["epoch"]
        elif head["epoch"] != self._epoch:
            raise QueryError("bad_reply", "the pages of a snapshot are of two epochs")
        known = len(self._topics)
        self._topics.update(head["seqs"])
        self._pages += 1
        self._rows += max(len(page.frames) // 2, len(head["seqs"]))
        self._size_bytes += sum(map(len, page.frames)) + sum(map(len, head["seqs"]))
        if self._pages > limits.pages or self._rows > limits.rows or self._size_bytes > limits.size_bytes:
            text = f"the snapshot has more than {limits.rows} rows, {limits.size_bytes} bytes or {limits.pages} pages"
            raise QueryError("too_large", f"{text}: ask for fewer topics")
        cursor: str | None = head["cursor"]
        if cursor is not None and len(self._topics) == known:
            raise QueryError("bad_reply", "a snapshot does not come to an end: a page has no new topic")
        return cursor


class ReplayPages:
    """Follows the pages of one replay. ``limit`` is the most events that one page was asked for."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._empty = 0

    def next_of(self, page: Reply, after: int | None) -> int | None:
        """Return the offset after which the next page begins, None at the end; ``after`` is where this one began.

        Raises QueryError (``bad_reply``) for a page that does not go on.
        """
        head, events = page.head, len(page.frames) // 2
        if events > self._limit:
            raise QueryError("bad_reply", f"a page of {events} events, {self._limit} were asked for")
        self._empty = 0 if events else self._empty + 1
        if self._empty > EMPTY_PAGES_MAX:
            raise QueryError("bad_reply", f"a replay does not come to an end: {self._empty} pages without an event")
        reached: int | None = head["next"]
        if reached is not None and reached <= (after or 0):
            raise QueryError("bad_reply", f"a replay after {after or 0} goes on after {reached}")
        if reached is not None and reached > head["last"]:
            raise QueryError("bad_reply", f"a replay goes on after {reached}, but the journal ends at {head['last']}")
        return reached
