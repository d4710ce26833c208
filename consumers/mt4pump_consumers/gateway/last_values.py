"""What those who subscribe later get: the last value of everything, and the last ticks and bars of each symbol.

Kinds that have several rows on one topic (the open orders of an account) are kept row by row, and removed when they
end. When events are lost an end may be among them, so all rows are replaced by a snapshot. News and mail are no values
and are not kept. Ticks and one-minute bars, for charts, are of the quotes that the gateway has received since it
started, also of those that conflation then replaced.
"""

from __future__ import annotations

import asyncio
import logging
import math
from array import array
from collections.abc import Callable, Iterator

from mt4pump.client import ClientError, Event, Notice, Snapshot
from mt4pump_consumers.gateway.protocol import Json

ROWS_LIMIT = 1_000_000
"""Rows kept at most; those beyond are counted and sent live only."""
ROW_FIELD = {"trade": "order", "activation": "order", "request": "id"}
"""The field that identifies a row of a topic."""
UNKEPT = frozenset({"news", "mail", "unknown", "heartbeat"})
PING, SESSION_TOPICS = "session.ping", ("session.start", "session.stop")
"""Of the session the last start or stop is the value; a ping changes nothing."""
ENDED = frozenset({"closed", "cancelled", "deleted"})
MONEY = frozenset({"balance", "credit"})
"""Changes of trades that open nothing and close nothing."""
SINCE_LIMIT = 100_000
"""Events that may arrive between the request of a snapshot and its reply."""

log = logging.getLogger(__name__)


class LastValues:
    """``unkept`` counts rows for which there was no room."""

    def __init__(self, rows_limit: int = ROWS_LIMIT, since_limit: int = SINCE_LIMIT) -> None:
        self.unkept = 0
        self._rows_limit, self._since_limit = rows_limit, since_limit
        self._count = 0
        self._topics: dict[str, dict[object, Event]] = {}
        self._since: list[Event] | None = None
        self._epoch = 0
        self._seqs: dict[str, int] = {}

    def keep(self, event: Event) -> None:
        """Take over what ``event`` says, unless the last snapshot is newer."""
        kind, body = event.kind, event.body
        change = body.get("change")
        if kind in UNKEPT or event.topic == PING or (kind == "trade" and change in MONEY):
            return
        if kind != "quote" and (self._since is not None or self._epoch):
            if self._since is not None and len(self._since) <= self._since_limit:
                self._since.append(event)
            if self._is_in_snapshot(event):
                return
        self._take(event)

    def _is_in_snapshot(self, event: Event) -> bool:
        epoch = event.epoch
        return epoch < self._epoch or (epoch == self._epoch and event.seq <= self._seqs.get(event.topic, 0))

    def _take(self, event: Event) -> None:
        kind, body = event.kind, event.body
        change = body.get("change")
        row = body.get(ROW_FIELD.get(kind, ""))
        if change in ENDED or body.get("ended") or body.get("action") == "delete":
            self._drop(event.topic, row)
            if kind == "trade":
                self._drop(f"activation.{event.key}", row)
            return
        if kind == "session":
            for topic in SESSION_TOPICS:
                self._drop(topic, row)
        rows = self._topics.get(event.topic)
        if rows is None or row not in rows:
            if self._count >= self._rows_limit:
                self.unkept += 1
                return
            self._count += 1
            rows = self._topics.setdefault(event.topic, {})
        rows[row] = event

    def _drop(self, topic: str, row: object) -> None:
        rows = self._topics.get(topic)
        if rows is not None and rows.pop(row, None) is not None:
            self._count -= 1
            if not rows:
                del self._topics[topic]

    def await_snapshot(self) -> None:
        """Remember events from now on: a snapshot was requested."""
        self._since = []

    def renew(self, snapshot: Snapshot | None) -> bool:
        """Replace all rows but quotes by ``snapshot``; None: it could not be read.

        Return whether that was done; not if more came meanwhile than can be remembered.
        """
        since, self._since = self._since, None
        if snapshot is None or since is None or len(since) > self._since_limit:
            return False
        self._topics = {topic: rows for topic, rows in self._topics.items() if topic.startswith("quote.")}
        self._count = sum(len(rows) for rows in self._topics.values())
        self._epoch, self._seqs = snapshot.epoch, snapshot.seqs
        for event in snapshot.events:
            if event.kind not in UNKEPT and (event.kind != "quote" or self._is_newer_quote(event)):
                self._take(event)
        for event in since:
            self.keep(event)
        return True

    def _is_newer_quote(self, event: Event) -> bool:
        have = self._topics.get(event.topic, {}).get(None)
        # One of another run is older, also where its epoch is larger: the snapshot is of the run that is live.
        return have is None or have.epoch != event.epoch or have.seq < event.seq

    def topics(self) -> list[str]:
        """Return every topic that has a value."""
        return list(self._topics)

    def rows(self, topic: str) -> Iterator[Event]:
        """Yield the values of one topic."""
        yield from list(self._topics.get(topic, {}).values())

    def __contains__(self, topic: str) -> bool:
        return topic in self._topics

    def __len__(self) -> int:
        return self._count


CAUSES = frozenset({"restarted", "not_whole", "lost"})
"""Notices after which an end may be missing: of an order, an account, a margin call."""
REFRESHED = "refreshed"
RETRY_FIRST_S, RETRY_LAST_S = 0.5, 30.0
"""Pause between two snapshots, which doubles while they fail."""


class Refresher:
    """``read`` reads a snapshot and blocks; ``epoch`` returns the daemon's epoch while its feed is live, else 0."""

    def __init__(
        self,
        last: LastValues,
        read: Callable[[], Snapshot],
        epoch: Callable[[], int],
        publish: Callable[[Notice], None],
    ) -> None:
        self._last, self._read, self._epoch, self._publish = last, read, epoch, publish
        self._task: asyncio.Task[None] | None = None
        self._is_due = False
        self._not_before_s, self._pause_s = 0.0, RETRY_FIRST_S

    def note(self, notice: Notice) -> None:
        """Note that a notice makes a refresh due; a lost quote does not, as the next one replaces it."""
        if notice.kind in CAUSES and not notice.topic.startswith("quote."):
            self._is_due = True

    def check(self, now_s: float) -> None:
        """Read a snapshot if one is due; not before the daemon's tables are complete again."""
        epoch = self._epoch()
        if self._is_due and epoch and self._task is None and now_s >= self._not_before_s:
            self._is_due = False
            self._last.await_snapshot()
            self._task = asyncio.get_running_loop().create_task(self._refresh(epoch))

    async def _refresh(self, epoch: int) -> None:
        snapshot: Snapshot | None = None
        try:
            snapshot = await asyncio.to_thread(self._read)
            if snapshot.epoch != epoch:
                snapshot = None  # of another run, whose tables may not be complete yet
        except ClientError as error:
            log.warning("last values could not be read anew (%s); trying again", error)
        except Exception:
            log.exception("last values could not be read anew by an error that should not happen; trying again")
        finally:
            done = self._last.renew(snapshot)
            self._pause_s = RETRY_FIRST_S if done else min(self._pause_s * 2, RETRY_LAST_S)
            self._not_before_s = asyncio.get_running_loop().time() + self._pause_s
            self._is_due = self._is_due or not done
            self._task = None
        if done:
            log.info("last values were read anew: %d rows", len(self._last))
            self._publish(
                Notice(REFRESHED, "last values were read anew, as events were lost; subscribe again for them")
            )

    async def close(self) -> None:
        """Wait for the query that is running."""
        if self._task is not None:
            await asyncio.wait([self._task])


SYMBOLS_LIMIT = 2_000
"""Symbols kept; quotes of others are counted and have no history."""
TICKS, BARS = 300, 240
"""Ticks and bars kept of each symbol; up to a quarter more until the oldest are removed in one go."""
MINUTE_S = 60
TICK, BAR = 3, 5
"""Numbers of a tick (time, bid, ask) and of a bar (time, open, high, low, close)."""
SPARE = 1.25
SET_BACK_S = 5.0
"""A quote that is so much older than the last one: the daemon's clock was ahead, and would end the history."""


class SymbolHistory:
    """Ticks and bars of one symbol, one after the other in arrays: 17 KB for all."""

    __slots__ = ("bars", "ticks")

    def __init__(self) -> None:
        self.ticks, self.bars = array("d"), array("d")

    def add(self, time_s: float, bid: float, ask: float) -> None:
        """Add a quote, unless it is not newer than the last one; after a clock was set back all begins anew."""
        ticks, bars = self.ticks, self.bars
        if ticks and time_s <= ticks[-TICK]:
            if time_s > ticks[-TICK] - SET_BACK_S:
                return
            del ticks[:], bars[:]
        ticks.extend((time_s, bid, ask))
        if len(ticks) > SPARE * TICKS * TICK:
            del ticks[: -TICKS * TICK]
        minute_s = time_s - time_s % MINUTE_S
        if not bars or bars[-BAR] != minute_s:
            bars.extend((minute_s, bid, bid, bid, bid))
            if len(bars) > SPARE * BARS * BAR:
                del bars[: -BARS * BAR]
            return
        bars[-3], bars[-2], bars[-1] = max(bars[-3], bid), min(bars[-2], bid), bid


class PriceHistory:
    """``unkept`` counts quotes of symbols beyond the limit."""

    def __init__(self, symbols_limit: int = SYMBOLS_LIMIT) -> None:
        self.unkept = 0
        self._symbols_limit = symbols_limit
        self._symbols: dict[str, SymbolHistory] = {}

    def keep(self, quote: Event) -> None:
        """Add a quote to its symbol's history."""
        bid, ask = quote.body.get("bid", math.nan), quote.body.get("ask", math.nan)
        history = self._symbols.get(quote.key)
        if history is None:
            if len(self._symbols) >= self._symbols_limit:
                self.unkept += 1
                return
            history = self._symbols[quote.key] = SymbolHistory()
        if isinstance(bid, float | int) and isinstance(ask, float | int) and math.isfinite(bid) and math.isfinite(ask):
            history.add(quote.ts / 1e9, bid, ask)

    def of(self, symbol: str) -> Json:
        """Return the message that a client gets; without ticks and bars if none are known."""
        history = self._symbols.get(symbol) or SymbolHistory()
        ticks = [[round(time_s, 3), bid, ask] for time_s, bid, ask in _rows(history.ticks, TICK, TICKS)]
        return {"type": "history", "symbol": symbol, "ticks": ticks, "bars": _rows(history.bars, BAR, BARS)}


def _rows(numbers: array[float], width: int, limit: int) -> list[list[float]]:
    kept = numbers[-limit * width :]
    return [list(kept[start : start + width]) for start in range(0, len(kept), width)]
