"""The pump thread: the only owner of the publishing socket, from the inbox to the wire.

Each wake-up takes a bounded number of records, then looks after subscriptions and the heartbeat, so that neither a
flood of events nor silence can hold up the other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Thread
from typing import Any

import psutil

from mt4pump.clock import NowNs
from mt4pump.codes import PumpCode
from mt4pump.complaints import Complaints
from mt4pump.emitter import Emitter
from mt4pump.heartbeat import Vitals, heartbeat_fields
from mt4pump.inbox import Inbox
from mt4pump.intake import Intake
from mt4pump.server_clock import ServerClock
from mt4pump.session import ATTACH, DETACH, FINISH, STATE_CHANGED, STOPPING, SessionStatus
from mt4pump.wire import HEARTBEAT

RECORDS_PER_WAKE_UP = 256
IDLE_WAIT_S = 0.05
"""How late, at most, a new subscription is noticed when nothing happens."""
LOOK_EVERY_S = 0.001
"""How often subscriptions are looked at while events flow."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PumpOptions:
    """Intervals in seconds; the settings of the same names."""

    heartbeat_interval_s: float = 1.0
    log_summary_interval_s: float = 60.0


class Pump(Thread):
    """Runs `Intake` on what the inbox holds until FINISH. ``crash`` is what ended it when it should not have."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        emitter: Emitter,
        intake: Intake,
        complaints: Complaints,
        server_clock: ServerClock,
        status: Callable[[], SessionStatus],
        source_counters: Callable[[], Mapping[str, int]],
        options: PumpOptions,
        anchor_clock: Callable[[], None],
        now_ns: NowNs,
    ) -> None:
        super().__init__(name="pump", daemon=True)
        self.crash: BaseException | None = None
        self._inbox = inbox
        self._emitter = emitter
        self._intake = intake
        self._complaints = complaints
        self._server_clock = server_clock
        self._status = status
        self._source_counters = source_counters
        self._options = options
        self._anchor_clock = anchor_clock
        self._now_ns = now_ns
        self._process = psutil.Process()
        self._began_s = time.monotonic()
        self._look_at_s = self._beat_at_s = 0.0
        self._summary_at_s = self._began_s + options.log_summary_interval_s
        self._summarised: dict[str, int] = {}
        self._refused_seen = 0
        self._last_quote_ts = 0
        self._finished = False

    def run(self) -> None:
        """Turn records into messages until told to finish; then say goodbye and close the socket."""
        try:
            while not self._finished:
                self._wake_up()
            self._beat(STOPPING)
        except BaseException as error:
            self.crash = error
            log.exception("the pump thread crashed")
        finally:
            self._emitter.publisher.close()

    def _wake_up(self) -> None:
        """Take what waits, a bounded lot, then do the housekeeping that is due."""
        inbox = self._inbox
        record = inbox.take_now() if self._intake.more_quotes else inbox.take(IDLE_WAIT_S)
        for _ in range(RECORDS_PER_WAKE_UP):
            if record is None:
                break
            self._take(*record)
            record = inbox.take_now()
        else:
            if record is not None:
                self._take(*record)
        if self._intake.more_quotes:
            self._take(PumpCode.UPDATE_BIDASK, 0, b"", self._now_ns())
        now_s = time.monotonic()
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + LOOK_EVERY_S
            if self._emitter.publisher.look_for_subscriptions():
                self._intake.quotes.refresh_interest()
        if now_s >= self._beat_at_s:
            self._beat_at_s = max(self._beat_at_s + self._options.heartbeat_interval_s, now_s)
            self._house_keep(now_s)

    def _take(self, code: int, action: int, data: Any, ts: int) -> None:
        """Take one record, or one word of the daemon. An error of our own costs this record only, and is counted."""
        try:
            if code == PumpCode.UPDATE_BIDASK:
                self._take_quotes(ts)
            elif code < ATTACH:
                self._intake.take(code, action, data, ts)
            else:
                self._obey(code, data, ts)
        except Exception as error:
            self._complaints.add("internal_error", f"pump code {code}: {error!r}")
            log.debug("pump code %s", code, exc_info=True)

    def _take_quotes(self, ts: int) -> None:
        quotes = self._intake.quotes
        before = quotes.published
        self._intake.take(PumpCode.UPDATE_BIDASK, 0, b"", ts)
        if quotes.published != before:
            self._last_quote_ts = ts
            self._server_clock.observe(quotes.last_time_s, ts)

    def _obey(self, word: int, payload: Any, ts: int) -> None:
        if word == ATTACH:
            self._intake.attach(payload)
        elif word == DETACH:
            link, reason = payload
            self._intake.detach(link, reason, ts)
        elif word == STATE_CHANGED:
            self._beat()
        elif word == FINISH:
            self._finished = True

    def _house_keep(self, now_s: float) -> None:
        """Once a heartbeat: heal after refused records, follow the wall clock, beat, and now and then sum up."""
        self._anchor_clock()
        refused = self._inbox.refused
        if refused != self._refused_seen and len(self._inbox) < self._inbox.limit // 2:
            lost = refused - self._refused_seen
            self._refused_seen = refused
            self._complaints.add(
                "inbox_full", f"{lost} records did not fit into the inbox ({self._inbox.limit}): tables re-read"
            )
            self._intake.reread_all(self._now_ns())
        self._beat()
        if now_s >= self._summary_at_s:
            self._summary_at_s = now_s + self._options.log_summary_interval_s
            self._sum_up()

    def _beat(self, state: str = "") -> None:
        self._emitter.count_quotes(self._intake.quotes.published)
        vitals = Vitals(
            status=self._status(),
            uptime_s=time.monotonic() - self._began_s,
            counts=self._emitter.counts,
            errors=self._complaints.counts,
            skipped=self._intake.skipped(),
            subscriptions=len(self._emitter.publisher.interest),
            sent=self._emitter.publisher.sent,
            last_quote_ts=self._last_quote_ts,
            server_utc_offset_s=self._server_clock.offset_s,
            rss_bytes=self._process.memory_info().rss,
            source=self._source_counters(),
        )
        self._emitter.emit(HEARTBEAT, "", heartbeat_fields(vitals, self._inbox, state=state), self._now_ns())

    def _sum_up(self) -> None:
        """Log what was published since the last summary, in one line."""
        counts = dict(self._emitter.counts)
        new = {kind: count - self._summarised.get(kind, 0) for kind, count in counts.items() if kind != HEARTBEAT.name}
        self._summarised = counts
        told = " ".join(f"{kind}={count}" for kind, count in sorted(new.items()) if count) or "nothing"
        seconds = self._options.log_summary_interval_s
        waiting, refused = len(self._inbox), self._inbox.refused
        log.info("published in %g s: %s; inbox waiting=%d refused=%d", seconds, told, waiting, refused)
