"""The current state: exposure, margin calls, last executions, and how long the feed was silent."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from mt4pump.client import Margin, Status, Trade
from mt4pump_consumers.monitor.execution import (
    NS,
    POSITIONS,
    SIDES,
    Alert,
    Execution,
    execution_of,
)

MONEY = frozenset({SIDES.index("balance"), SIDES.index("credit")})
BUY = 0

Key = TypeVar("Key", str, int)


class Held(NamedTuple):
    """One open order; ``volume`` in hundredths of a lot, ``open_time`` in seconds on the server's clock."""

    login: int
    symbol: str
    cmd: int
    volume: int
    open_price: float
    digits: int
    open_time: int


@dataclass(slots=True)
class Sums:
    """Sums over the orders of a symbol or an account; volumes in hundredths of a lot. ``pending`` counts orders."""

    positions: int = 0
    pending: int = 0
    buy: int = 0
    sell: int = 0

    @property
    def net(self) -> int:
        """Return bought minus sold."""
        return self.buy - self.sell

    @property
    def gross(self) -> int:
        """Return bought and sold together."""
        return self.buy + self.sell

    def add(self, held: Held, sign: int) -> None:
        """Count an order in (``sign`` 1) or out (-1)."""
        if held.cmd not in POSITIONS:
            self.pending += sign
            return
        self.positions += sign
        if held.cmd == BUY:
            self.buy += sign * held.volume
        else:
            self.sell += sign * held.volume

    @property
    def is_empty(self) -> bool:
        """Return whether nothing is left to count."""
        return not (self.positions or self.pending)


class AccountExposure:
    """``orders`` by ticket, sums by ``symbols`` and by ``accounts``."""

    def __init__(self) -> None:
        self.orders: dict[int, Held] = {}
        self.symbols: dict[str, Sums] = {}
        self.accounts: dict[int, Sums] = {}

    def clear(self) -> None:
        """Remove all orders: a snapshot follows."""
        self.orders.clear()
        self.symbols.clear()
        self.accounts.clear()

    def row(self, event: Trade) -> None:
        """Take one open order of a snapshot."""
        self._put(execution_of(event))

    def take(self, done: Execution, *, ended: bool = False) -> None:
        """Take a change of an order; ``ended``: the event says that the order is not open."""
        if done.cmd in MONEY:
            return
        if ended or done.change in {"closed", "cancelled", "deleted"}:
            self._drop(done.order)
        else:
            self._put(done)

    def _put(self, done: Execution) -> None:
        self._drop(done.order)
        held = Held(done.login, done.symbol, done.cmd, done.volume, done.open_price, done.digits, done.open_time)
        self.orders[done.order] = held
        self.symbols.setdefault(held.symbol, Sums()).add(held, 1)
        self.accounts.setdefault(held.login, Sums()).add(held, 1)

    def _drop(self, order: int) -> None:
        held = self.orders.pop(order, None)
        if held is None:
            return
        _take_out(self.symbols, held.symbol, held)
        _take_out(self.accounts, held.login, held)


def _take_out(sums: dict[Key, Sums], key: Key, held: Held) -> None:
    sums[key].add(held, -1)
    if sums[key].is_empty:
        del sums[key]


NS_PER_MS = 1_000_000
NO_HEARTBEAT = "not heard"  # stands in the facts of alerts, which other programs read


class FeedSign(NamedTuple):
    """Silent for ``silent_s``, since ``last_ts`` (ns since 1970, the daemon's clock).

    ``has_arrived``: something arrived in this run of the daemon; else the silence counts from its start (or from
    ours) and proves nothing about the time before. ``state`` is the session's, in the last heartbeat.
    """

    silent_s: float
    last_ts: int
    has_arrived: bool
    state: str


class SilenceSpan(NamedTuple):
    """How long a moment that a heartbeat names can be past, at least and at most, by our own monotonic clock."""

    least_s: float = 0.0
    most_s: float = math.inf


class TimestampAge:
    """Watches one moment of the heartbeats, as ``last_quote_ts``: a clock that is set moves it, and it alone.

    While it stays the same, at least the time since we first saw it has passed, and at most the time since the
    heartbeat before that one. Of the first one that we observe only the former is known.
    """

    def __init__(self) -> None:
        self._moment: object = None
        self._seen_s = self._heartbeat_s = 0.0
        self._before_s = -math.inf

    def observe(self, moment: object, heartbeat_s: float) -> None:
        """Take a heartbeat's moment; ``heartbeat_s`` is when it came (monotonic)."""
        if moment != self._moment:
            self._before_s = -math.inf if self._moment is None else self._heartbeat_s
            self._moment, self._seen_s = moment, heartbeat_s
        self._heartbeat_s = heartbeat_s

    def span(self, now_s: float) -> SilenceSpan:
        """Return how long ago it was, as of ``now_s``."""
        return SilenceSpan() if self._moment is None else SilenceSpan(now_s - self._seen_s, now_s - self._before_s)


MOMENTS = {"quotes": "last_quote_ts", "session": "last_callback_ts"}


class FeedSilence:
    """The last heartbeat of any subscriber: a new one has none at first.

    Without it, each time the stream is begun anew would look like silence since our start.
    """

    def __init__(self, silence_s: float) -> None:
        self._silence_s = silence_s
        self._last_status: Status | None = None
        self._last_status_s = 0.0
        self._ages = {of: TimestampAge() for of in MOMENTS}

    def status(self, status: Status, now_s: float) -> Status:
        """Return ``status`` if there was a heartbeat in it, else the last one in which there was, aged until now."""
        if status.age_s is not None:
            self._last_status, self._last_status_s = status, now_s - status.age_s
            for of, name in MOMENTS.items():
                self._ages[of].observe((status.epoch, status.body.get(name) or 0), self._last_status_s)
        if status.age_s is not None or self._last_status is None:
            return status
        age_s = now_s - self._last_status_s
        return replace(self._last_status, age_s=age_s, alive=self._last_status.alive and age_s < self._silence_s)

    def spans(self, now_s: float) -> dict[str, SilenceSpan]:
        """Return how long ago the last quote and the last callback can have been, by our own clock."""
        return {of: watch.span(now_s) for of, watch in self._ages.items()}


def signs(
    status: Status, listening_s: float, now_ts: int, spans: Mapping[str, SilenceSpan] = MappingProxyType({})
) -> dict[str, FeedSign]:
    """Return the signs of ``quotes``, ``session`` and ``daemon``; ``listening_s`` is how long we have been listening.

    ``spans`` hold them against our own clock, so that no clock that is set makes or hides a silence.
    """
    if status.age_s is None:
        nothing = FeedSign(listening_s, now_ts - int(listening_s * NS), has_arrived=False, state=NO_HEARTBEAT)
        return dict.fromkeys(("quotes", "session", "daemon"), nothing)
    state = status.state if status.alive else f"{status.state}, no heartbeat for {status.age_s:.0f} s"
    beat_ts = status.body["ts"]
    return {
        **{
            of: _sign(status.body.get(name) or 0, status, state, spans.get(of, SilenceSpan()))
            for of, name in MOMENTS.items()
        },
        "daemon": FeedSign(status.age_s, beat_ts, has_arrived=True, state=state),
    }


def _sign(last_ts: int, status: Status, state: str, span: SilenceSpan) -> FeedSign:
    since_ts = last_ts or _start_ts(status)
    silent_s = max(0.0, (status.body["ts"] - since_ts) / NS) + (status.age_s or 0.0)
    if last_ts:
        silent_s = min(max(silent_s, span.least_s), span.most_s)
    return FeedSign(silent_s, since_ts, has_arrived=last_ts > 0, state=state)


def _start_ts(status: Status) -> int:
    """Return when the daemon began: by its age, as the epoch is ahead of a clock that was set back before."""
    uptime_s = status.body.get("uptime_s")
    if isinstance(uptime_s, int | float) and 0 <= uptime_s < math.inf:
        return int(status.body["ts"] - uptime_s * NS)
    return status.epoch * NS_PER_MS


EXECUTIONS_SHOWN = 200
LINES_SHOWN = 50


class MarginCallRow(NamedTuple):
    """An account in margin call (``level_type`` 1) or stop-out (2). ``ts``: time of its last event."""

    login: int
    level_type: int
    margin_level: float
    equity: float
    margin: float
    ts: int


class ExecutionLine(NamedTuple):
    """A line of the log, or an alert. ``level`` is logging's number."""

    ts: int
    level: int
    text: str


@dataclass(slots=True)
class MonitorState:
    """All of it. ``is_whole``: the exposure began with a snapshot, so it has what was open before, too.

    ``checked_s`` (monotonic): when the feed was checked last, which the thread that handles events does.
    ``held_wal_bytes``: size of the store's write-ahead log while another program keeps it from being emptied.
    """

    exposure: AccountExposure = field(default_factory=AccountExposure)
    calls: dict[int, MarginCallRow] = field(default_factory=dict)
    executions: deque[Execution] = field(default_factory=lambda: deque(maxlen=EXECUTIONS_SHOWN))
    lines: deque[ExecutionLine] = field(default_factory=lambda: deque(maxlen=LINES_SHOWN))
    results: dict[int, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    status: Status | None = None
    is_whole: bool = False
    problem: str = ""
    held_wal_bytes: int = 0
    checked_s: float = field(default_factory=time.monotonic)

    def executed(self, done: Execution) -> None:
        """Show an execution, and count what the account won or lost by it since the monitor runs."""
        self.executions.append(done)
        self.counts["executions"] += 1
        if done.change == "closed":
            self.results[done.login] = self.results.get(done.login, 0.0) + done.result

    def alerted(self, alert: Alert, level: int) -> None:
        """Show an alert."""
        self.counts["alerts"] += 1
        self.lines.append(ExecutionLine(alert.ts, level, f"[{alert.rule}] {alert.text}"))

    def margin(self, event: Margin) -> None:
        """Take an account's margin."""
        level = 0 if event.action == "delete" else event.level_type or 0
        login = int(event.key) if event.key.isdecimal() else event.login
        if level:
            numbers = (event.margin_level or 0.0, event.equity or 0.0, event.margin or 0.0)
            self.calls[login] = MarginCallRow(login, level, *numbers, event.ts)
        else:
            self.calls.pop(login, None)

    def begin(self, *, is_whole: bool) -> None:
        """Remove what the next snapshot brings."""
        self.exposure.clear()
        self.calls.clear()
        self.is_whole = is_whole
