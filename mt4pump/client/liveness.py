"""Checks heartbeats: whether they prove that nothing was lost, whether daemon and feed live, whether we lag; pure.

A heartbeat is *clean* when everything that was published since the one before must have reached us: its number is the
next one of the same epoch, the connection did not break in between, and no subscriber's queue was full meanwhile
(``slow_readers`` did not change). Any other heartbeat is only a reason to ask the journal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mt4pump.client.event import ALIVE, CAUGHT_UP, FEED_BACK, FEED_LOST, LAGGING, SILENT, Notice
from mt4pump.wire import Body

HEARTBEATS_UNTIL_CLEAN = 2
"""Heartbeats after a (new) subscription or connection that prove nothing: subscriptions reach the daemon in any order,
so the first heartbeat may come before the last of them works; a whole interval later all do."""
PUMPING = "pumping"
SILENT_INTERVALS = 3
"""Intervals without a heartbeat before a daemon counts as silent."""
INTERVAL_MAX_S = 60.0
"""The longest interval between heartbeats that a daemon can be set to; a longer one is ignored."""
DRIFT = 2e-4
"""How fast two clocks may go apart: twice what quartz does. A constant delay is forgotten no faster than this."""
NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Status:
    """The daemon as the last heartbeat showed it.

    ``alive``: a heartbeat came lately; ``age_s`` since the last one (None: there was none). ``state`` is the session's
    (``connecting logged_in pumping lost stopping``, empty before the first heartbeat). ``feed_age_s``: how old the
    last quote was when that heartbeat was made, plus its age; None before the first quote. ``body`` is the heartbeat.
    """

    alive: bool
    state: str
    age_s: float | None
    feed_age_s: float | None
    epoch: int
    server: str
    version: str
    log: str | None
    offset: int
    durable: bool
    body: Body


class HeartbeatMonitor:
    """Handles every heartbeat, checked and in order. Times: ``now_s`` monotonic seconds, ``now_ns`` since 1970."""

    def __init__(self, *, silence_s: float, lag_limit: int, lag_limit_s: float) -> None:
        self._silence_s = silence_s
        self._lag_limit = lag_limit
        self._lag_limit_s = lag_limit_s
        self._unproven = HEARTBEATS_UNTIL_CLEAN
        self._may_be_old = True
        self._last: Body = {}
        self._heartbeat_at_s: float | None = None
        self._waiting_since_s: float | None = None
        self._silent = False
        self._feed_lost = False
        self._lagging = False
        self._least_gap_s: float | None = None
        self._clock_skew_ns = 0

    def mark_unproven(self) -> None:
        """Record that a connection or a subscription is new."""
        self._unproven = HEARTBEATS_UNTIL_CLEAN
        self._may_be_old = True
        self._least_gap_s = None

    def drained(self) -> None:
        """Record that nothing waits to be read: later heartbeats were sent after all that was recorded before."""
        self._may_be_old = False

    def handle(self, body: Body, now_s: float, now_ns: int) -> bool:
        """Handle a heartbeat; return whether it is clean."""
        last, last_at_s = self._last, self._heartbeat_at_s
        self._last, self._heartbeat_at_s = body, now_s
        same_epoch = body["epoch"] == last.get("epoch")
        follows = same_epoch and body["seq"] == last["seq"] + 1
        unproven = self._may_be_old or self._unproven > 0
        if not self._may_be_old:
            self._unproven = max(0, self._unproven - 1)
        uptime_s = body.get("uptime_s")  # by the daemon's monotonic clock, which nobody sets
        gap_s = now_s - (body["ts"] / NS if uptime_s is None else uptime_s)
        # The quickest one is what the two clocks differ by; anything above it is time spent in queues.
        if self._least_gap_s is None or last_at_s is None or not same_epoch:
            self._least_gap_s = gap_s
        self._least_gap_s = min(gap_s, self._least_gap_s + DRIFT * (now_s - (last_at_s or now_s)))
        self._clock_skew_ns = now_ns - body["ts"] - int((gap_s - self._least_gap_s) * NS)
        return follows and not unproven and _dropped_messages(body) == _dropped_messages(last)

    def changes(self, now_ns: int, waiting: int, oldest_ts: int) -> list[Notice]:
        """Return the notices that a heartbeat leads to.

        ``waiting`` items are queued before the user, the first of them with this ``ts`` (0: none is).
        """
        notices = []
        if self._silent:
            self._silent = False
            notices.append(Notice(ALIVE, "heartbeats come again"))
        notices += self._feed_notices()
        oldest_ts = min(self._last["ts"], oldest_ts or self._last["ts"])
        late_s = (now_ns - oldest_ts - self._clock_skew_ns) / NS
        notices += self._lag_notices(waiting, late_s)
        return notices

    def check_silence(self, now_s: float, connection_fault: Callable[[], str] = str) -> list[Notice]:
        """Return a notice when no heartbeat came for too long; only to be called when nothing waits to be read."""
        if self._waiting_since_s is None:
            self._waiting_since_s = now_s
        since_s = max(self._heartbeat_at_s or 0.0, self._waiting_since_s)
        if self._silent or now_s - since_s < self._silence_limit_s():
            return []
        self._silent = True
        what = "no heartbeat" if self._heartbeat_at_s is None else "no heartbeat any more"
        text = f"{what} for {now_s - since_s:.1f} s: {connection_fault() or 'the daemon or the network is down'}"
        return [Notice(SILENT, text, value=now_s - since_s)]

    def status(self, now_s: float) -> Status:
        """Return a summary of the last heartbeat."""
        body = self._last
        age_s = None if self._heartbeat_at_s is None else now_s - self._heartbeat_at_s
        quote_ts = body.get("last_quote_ts") or 0
        feed_age_s = None if age_s is None or not quote_ts else max(0.0, (body["ts"] - quote_ts) / NS) + age_s
        return Status(
            alive=age_s is not None and age_s < self._silence_limit_s() and not self._silent,
            state=body.get("state") or "",
            age_s=age_s,
            feed_age_s=feed_age_s,
            epoch=body.get("epoch", 0),
            server=body.get("server") or "",
            version=body.get("version") or "",
            log=body.get("log"),
            offset=body.get("offset") or 0,
            durable=bool(body.get("durable")),
            body=body,
        )

    def _silence_limit_s(self) -> float:
        interval_s: float = self._last.get("interval_s") or 0.0
        return max(self._silence_s, SILENT_INTERVALS * interval_s if interval_s <= INTERVAL_MAX_S else 0.0)

    def _feed_notices(self) -> list[Notice]:
        state = self._last.get("state") or ""
        lost = state != PUMPING
        if lost == self._feed_lost:
            return []
        self._feed_lost = lost
        if lost:
            reason = self._last.get("reason") or "no reason given"
            return [Notice(FEED_LOST, f"the daemon is there, its session is not: {state} ({reason})", code=state)]
        return [Notice(FEED_BACK, "the daemon's session runs", code=state)]

    def _lag_notices(self, waiting: int, late_s: float) -> list[Notice]:
        if not self._lagging and (waiting >= self._lag_limit or late_s >= self._lag_limit_s):
            self._lagging = True
            text = f"this reader is behind: {waiting} events wait, the last one read is {late_s:.1f} s old"
            return [Notice(LAGGING, text, count=waiting, value=late_s)]
        if self._lagging and waiting * 2 < self._lag_limit and late_s * 2 < self._lag_limit_s:
            self._lagging = False
            return [Notice(CAUGHT_UP, "this reader is up to date again", value=late_s)]
        return []


def _dropped_messages(body: Body) -> Any:
    """Return how many messages did not fit into some subscriber's queue; None where it is not published."""
    return (body.get("slow_readers") or {}).get("messages")
