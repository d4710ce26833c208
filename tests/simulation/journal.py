"""A journal in memory with the promises of `mt4pump.journal`: it outlives the daemon, fails, and deletes old events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from mt4pump.errors import JournalError
from mt4pump.journal.schema import JournalPage, Replayed, Stored
from mt4pump.wire import kind_of


@dataclass
class JournalFile:
    """What is on the disk. ``breaks`` are its gaps: the offset before each, and the next one after it."""

    log_id: str
    last: int = 0
    first: int = 1
    events: dict[int, Stored] = field(default_factory=dict)
    breaks: list[tuple[int, int]] = field(default_factory=list)
    orders: dict[int, bytes] | None = None
    unmarked: bool = False

    def delete_up_to(self, offset: int) -> None:
        """Delete old events, as retention does."""
        for old in [old for old in self.events if old <= offset]:
            del self.events[old]
        self.first = max(self.first, offset + 1)

    def lose_end(self, offset: int, skipped_to: int) -> None:
        """Become an older copy that ends at ``offset``; a daemon that detects it continues after ``skipped_to``."""
        for new in [new for new in self.events if new > offset]:
            del self.events[new]
        self.last = max(offset, skipped_to)
        self.breaks = [each for each in self.breaks if each[0] < offset]
        if skipped_to > offset:
            self.breaks.append((offset, skipped_to + 1))
        self.unmarked = False


class MemoryJournal:
    """The journal of one run of the daemon on ``file``. ``works`` is False while the disk fails.

    ``stored`` is called with each committed event before anybody else can see it.
    """

    def __init__(
        self, file: JournalFile, random: Random, stored: Callable[[Stored], None], *, opened: bool = True
    ) -> None:
        self.works = True
        self.durable = False
        self.log_id = ""
        self.last_offset = 0
        self.unstored = self.stored_count = 0
        self._file = file
        self._random = random
        self._stored = stored
        self._opened = False
        self._orders_read = False
        self._orders_known = False
        if opened:
            self._open(None)

    @property
    def last_offsets(self) -> dict[str, int]:
        """Return the last offset per kind."""
        if not self._opened:
            return {}
        return {kind_of(event.topic): offset for offset, event in self._file.events.items()}

    @property
    def has_orders(self) -> bool:
        """Return whether open orders are stored."""
        return self._opened and self._file.orders is not None

    @property
    def has_unread_orders(self) -> bool:
        """Return whether open orders are stored that this run has not read."""
        return self.has_orders and not self._orders_read

    def open_orders(self) -> dict[int, bytes]:
        """Return the stored open orders."""
        self._orders_known = self._orders_read = True
        return dict(self._file.orders or {})

    def replace_orders(self, orders: Mapping[int, bytes]) -> None:
        """Store all open orders anew."""
        if self.durable:
            self._file.orders = dict(orders)

    def append(self, events: Sequence[Stored], orders: Mapping[int, bytes | None]) -> bool:
        """Commit events and changed orders; False when the disk fails."""
        changed = orders if orders or not (events or self.has_orders) else None
        self._orders_known |= changed is not None
        if not self.durable or not self.works:
            if events and self.durable:
                self.durable = False
            self.unstored += len(events)
            self._file.unmarked |= bool(events)
            return False
        file = self._file
        for place, event in enumerate(events, file.last + 1):
            assert event.offset == place, f"offset {event.offset} follows {place - 1}"
            file.events[place] = event
            file.last = self.last_offset = place
            self.stored_count += 1
            if event.ticket and file.orders is not None:
                self._note_order(abs(event.ticket), event.body if event.ticket > 0 else None)
            self._stored(event)
        if changed is not None:
            file.orders = file.orders or {}
            for ticket, row in changed.items():
                self._note_order(ticket, row)
        return True

    def maintain(self, all_orders: Callable[[], Mapping[int, bytes]]) -> None:
        """Open the file again after trouble."""
        if not self.durable and self.works:
            self._open(all_orders() if self._orders_known else None)

    def page(
        self,
        *,
        after: int,
        to: int | None,
        prefixes: Sequence[bytes],
        limit: int,
        since: int | None = None,
        until: int | None = None,
    ) -> JournalPage:
        """Return some events behind ``after``, after a search that is bounded at a random place."""
        assert since is None
        assert until is None
        file = self._file
        if not self._opened:
            raise JournalError("the journal could not be opened")
        end = file.last if to is None else min(to, file.last)
        reached = min(end, after + self._random.randrange(1, 40))
        events: list[Replayed] = []
        for offset in range(max(after + 1, file.first), reached + 1):
            event = file.events.get(offset)
            if event is not None and event.topic.startswith(tuple(prefixes)):
                events.append(Replayed(offset, event.topic, event.body))
                if len(events) == limit:
                    reached = offset
                    break
        broken = [*file.breaks, (file.last, file.last + 1)] if file.unmarked else file.breaks
        upper = file.last + 1 if to is None else to
        whole = after + 1 >= file.first and not any(
            at < upper and after <= max(at, following - 2) for at, following in broken
        )
        first = min(file.events, default=0)
        return JournalPage(events, reached if reached < end else None, file.last, first, whole, file.log_id)

    def close(self) -> None:
        """Do nothing: the file stays."""

    def _note_order(self, ticket: int, row: bytes | None) -> None:
        orders = self._file.orders
        assert orders is not None
        if row is None:
            orders.pop(ticket, None)
        else:
            orders[ticket] = row

    def _open(self, orders: Mapping[int, bytes] | None) -> None:
        file = self._file
        if file.unmarked:
            file.breaks.append((file.last, file.last + 1))
            file.unmarked = False
        self._opened = self.durable = True
        unread = file.orders is not None and not self._orders_read
        if orders is not None and not unread:
            file.orders = dict(orders)
        self._orders_read = not unread
        self.log_id, self.last_offset = file.log_id, file.last
