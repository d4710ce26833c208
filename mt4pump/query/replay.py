"""Pages of stored events, read from the journal slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mt4pump.errors import PumpError
from mt4pump.query.limits import QueryOptions, WorkBudget
from mt4pump.query.replies import OutgoingReply
from mt4pump.query.requests import JOURNAL_ERROR, ReplayRequest, RequestError


class StoredEvent(Protocol):
    """One event as it was published."""

    @property
    def topic(self) -> bytes:
        """Return its first frame."""

    @property
    def body(self) -> bytes:
        """Return its second frame."""


class StoredPage(Protocol):
    """What a reader found in one step."""

    @property
    def events(self) -> Sequence[StoredEvent]:
        """Return the events, by offset."""

    @property
    def next(self) -> int | None:
        """Return the ``after`` of the next step, None at the end."""

    @property
    def last(self) -> int:
        """Return the last offset there is."""

    @property
    def first_available(self) -> int:
        """Return the first offset that was not deleted."""

    @property
    def whole(self) -> bool:
        """Return whether nothing between ``after`` and the end of the step is missing."""


class PageReader(Protocol):
    """The journal, as the query thread reads it."""

    def page(
        self,
        *,
        after: int,
        to: int | None,
        prefixes: Sequence[bytes],
        limit: int,
        since: int | None = None,
        until: int | None = None,
    ) -> StoredPage:
        """Return at most ``limit`` events after a bounded search; raises PumpError."""

    def close(self) -> None:
        """Let go of the file."""


def replay_page(
    reader: PageReader, request: ReplayRequest, prefixes: tuple[bytes, ...], options: QueryOptions, pace: WorkBudget
) -> OutgoingReply:
    """Return one page of the events that ``request`` asks for, of topics within ``prefixes``; raises Refusal."""
    frames: list[bytes] = []
    after, size, whole = request.after, 0, True
    while True:
        wanted = min(options.slice_rows, request.limit - len(frames) // 2)
        found = _step(reader, request, after, prefixes, wanted)
        for event in found.events:
            frames += (event.topic, event.body)
            size += len(event.body)
        whole = whole and found.whole
        if found.next is None or found.next <= after:  # the second never happens, and must not turn in a circle
            break
        after = found.next
        if len(frames) // 2 >= request.limit or size >= options.page_bytes or pace.spent_s() >= options.page_s:
            break
        if pace.tick():  # beside a rapid live stream: a large page would keep its reader's core from others for long
            break
    head = {
        "ok": True,
        "whole": whole,
        "first_available": found.first_available,
        "next": found.next,
        "last": found.last,
        "count": len(frames) // 2,
    }
    if log := getattr(found, "log", None):  # which file this page was read from, where the reader tells
        head["log"] = log
    return OutgoingReply(head, frames)


def _step(
    reader: PageReader, request: ReplayRequest, after: int, prefixes: tuple[bytes, ...], limit: int
) -> StoredPage:
    try:
        return reader.page(
            after=after, to=request.to, prefixes=prefixes, limit=limit, since=request.since, until=request.until
        )
    except PumpError as error:
        raise RequestError(JOURNAL_ERROR, f"{error}") from error
