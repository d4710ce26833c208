"""Reads the stream, and makes rows, alerts and the current state of its events."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from mt4pump.client import ClientError, ClientKeys, Event, Margin, Notice, Subscriber, Trade
from mt4pump.client.liveness import PUMPING
from mt4pump.private_files import is_exposed, private_opener
from mt4pump.process.program import Shutdown, StartError
from mt4pump_consumers.feed_thread import keep_reading
from mt4pump_consumers.health import CountsCollector, health_endpoint
from mt4pump_consumers.monitor.execution import execution_of
from mt4pump_consumers.monitor.recorder import CsvFile, EventRecorder
from mt4pump_consumers.monitor.rules import RuleEngine, load_rules
from mt4pump_consumers.monitor.settings import MonitorSettings
from mt4pump_consumers.monitor.state import FeedSilence, MonitorState, signs
from mt4pump_consumers.monitor.store import MonitorStore
from mt4pump_consumers.monitor.views import MonitorView, view_for
from mt4pump_consumers.monitor.webhook import Webhook, WebhookOptions

SLICE_S = 0.1
CHECK_S = 0.5
"""Time between two checks of the feed."""
STALLED_S = 10.0
"""Time without a check of the feed after which the monitor is not healthy: it waits for its store or its output."""
SETTLED_MS = 2_000
"""A session that runs for so long has read its tables, so that a snapshot is whole."""
REFRESH_WAIT_S = 10.0
STALE_NOTICES = frozenset({"restarted", "not_whole", "lost"})
"""Notices after which the exposure or the margin calls may be wrong: what is open is asked for again."""

log = logging.getLogger(__name__)


def main(settings: MonitorSettings, shutdown: Shutdown) -> int:
    """Run the monitor until asked to end; return the exit code."""
    keys = _keys(settings)
    rules = load_rules(settings.rules) if settings.rules else ()
    webhook = _webhook(settings)
    store = MonitorStore(
        settings.store,
        webhook=settings.webhook is not None,
        backlog=settings.alert_backlog,
        keep_days=settings.keep_days,
    )
    with ExitStack() as at_end:
        at_end.callback(store.close)
        state, memory = MonitorState(), store.memory()
        csv = _csv(settings, store)
        state.executions.extend(store.latest(state.executions.maxlen or 0))
        engine = RuleEngine(rules, memory)
        _serve_health(settings, state, store, shutdown, at_end)
        view = view_for(settings.view, state, settings.refresh_s, shutdown)
        at_end.callback(view.close)
        recorder = EventRecorder(store, memory, engine=engine, state=state, view=view, csv=csv, shutdown=shutdown)
        _log_start(settings, len(rules))
        recorder.log_unlogged()
        recorder.webhook = webhook
        if webhook is not None:
            webhook.start()
            at_end.callback(webhook.stop, settings.webhook_timeout_s)
        Monitor(
            settings,
            keys,
            store=store,
            engine=engine,
            state=state,
            recorder=recorder,
            view=view,
            shutdown=shutdown,
        ).run()
    kept = store.counts
    log.info("ended: executions kept %d, alerts %d", kept["executions"] if settings.store else 0, kept["alerts"])
    return 0


def _serve_health(
    settings: MonitorSettings, state: MonitorState, store: MonitorStore, shutdown: Shutdown, at_end: ExitStack
) -> None:
    """Serve the counters of store and state: what is stored, lost, recovered, and what the webhook did not accept."""

    def counts() -> dict[str, int]:
        names = ("healed", "lost", "failed", "unsent", "lines_dropped", "alerts_suppressed")
        return {
            **{name: state.counts[name] for name in names},
            **store.counts,
            "old_logs_deleted": shutdown.old_logs_deleted,
        }

    collector = CountsCollector("mt4pump_monitor", counts, lambda: fault_of(state), {"unsent"})
    at_end.enter_context(health_endpoint(settings.health_port, collector))


def fault_of(state: MonitorState) -> str:
    """Return what ``/healthz`` reports, empty for none; for any thread."""
    age_s = time.monotonic() - state.checked_s
    if age_s > STALLED_S:
        why = f": {state.problem}" if state.problem else ""
        return f"no event was handled for {age_s:.0f} s{why}"
    return "" if state.status is not None and state.status.alive else "no heartbeat of the daemon"


class Monitor:
    """For one thread. A subscriber that fails, or whose state may be wrong, is replaced at its position."""

    def __init__(
        self,
        settings: MonitorSettings,
        keys: ClientKeys | None,
        *,
        store: MonitorStore,
        engine: RuleEngine,
        state: MonitorState,
        recorder: EventRecorder,
        view: MonitorView,
        shutdown: Shutdown,
    ) -> None:
        self._settings, self._keys, self._store = settings, keys, store
        self._engine, self._state, self._recorder, self._view, self._shutdown = engine, state, recorder, view, shutdown
        self._kept = frozenset(settings.changes)
        self._began_s = time.monotonic()
        self._silence = FeedSilence(settings.silence_s)
        self._resume: Mapping[str, Any] | int | None = store.position()
        if self._resume is None and settings.start == "journal":
            self._resume = 0
        self._is_joined = self._has_snapshot = self._in_snapshot = False
        self._is_stale = False
        self._refresh_at_s = 0.0
        self._check_at_s = 0.0

    def run(self) -> None:
        """Read until asked to end."""
        shutdown, view = self._shutdown, self._view
        keep_reading(self._read_stream, shutdown.asked, lambda delay_s: view.wait(shutdown, delay_s))

    def _read_stream(self) -> None:
        """Read with one subscriber, and with the next one at once when what is open is to be asked for again."""
        self._is_stale = True
        while self._is_stale and not self._shutdown.asked():
            with self._subscriber() as subscriber:
                self._begin()
                self._follow(subscriber)

    def _subscriber(self) -> Subscriber:
        settings = self._settings
        given: dict[str, Any] = {}
        if settings.query_endpoint is not None:
            given["query_endpoint"] = settings.query_endpoint
        return Subscriber(
            settings.endpoint,
            topics=settings.topics,
            resume_from=self._resume,
            keys=self._keys,
            notices=True,
            silence_s=settings.silence_s,
            **given,
        )

    def _begin(self) -> None:
        """Reset the state: a snapshot follows the events that were missed."""
        self._is_joined = self._has_snapshot = self._in_snapshot = self._is_stale = False
        self._refresh_at_s = time.monotonic() + REFRESH_WAIT_S

    def _follow(self, subscriber: Subscriber) -> None:
        """Read until shutdown or until the state must be rebuilt, and commit all that was read."""
        try:
            self._read(subscriber)
        except ClientError:
            self._commit(subscriber)
            raise
        self._commit(subscriber)

    def _read(self, subscriber: Subscriber) -> None:
        while not self._shutdown.asked():
            item = subscriber.receive(SLICE_S)
            if isinstance(item, Event):
                self._event(item, subscriber)
            elif item is not None:
                self._notice(item)
            elif self._in_snapshot and subscriber.is_joined and _is_settled(subscriber):
                self._end_snapshot(time.time_ns(), subscriber)  # at a weekend no event follows
            now_s = time.monotonic()
            if now_s >= self._check_at_s:
                self._check_feed(subscriber, now_s)
            if self._recorder.is_due(now_s) and not self._commit(subscriber):
                return
            self._view.refresh(now_s)
            if self._is_stale and now_s >= self._refresh_at_s and _is_settled(subscriber):
                log.info("the daemon is asked anew for what is open")
                return

    def _commit(self, subscriber: Subscriber) -> bool:
        position = subscriber.position
        place = None if position is None else position.as_dict()
        if not self._recorder.commit(place):
            return False
        self._resume = place or self._resume
        return True

    # ---- items ----

    def _event(self, event: Event, subscriber: Subscriber) -> None:
        if event.snapshot:
            self._row(event)
            return
        if self._in_snapshot:
            self._end_snapshot(event.ts, subscriber)
        if not self._is_joined and not event.healed:
            self._is_joined = True
            if not self._has_snapshot:
                self._state.begin(is_whole=False)
        if isinstance(event, Trade):
            self._trade(event)
        elif isinstance(event, Margin):
            self._engine.margin(event)
            if self._is_joined:
                self._state.margin(event)

    def _trade(self, event: Trade) -> None:
        done = execution_of(event)
        self._engine.trade(done)
        if done.change in self._kept:
            self._recorder.take(done)
            self._state.executed(done)
        if self._is_joined:  # the snapshot that follows has the result of earlier events
            self._state.exposure.take(done, ended=bool(event.ended))

    def _row(self, event: Event) -> None:
        """Handle a row of the snapshot: it is no event."""
        if not self._has_snapshot:
            self._has_snapshot = self._is_joined = self._in_snapshot = True
            self._state.begin(is_whole=True)
        if isinstance(event, Trade):
            self._state.exposure.row(event)
        elif isinstance(event, Margin):
            self._engine.margin(event)
            self._state.margin(event)

    def _end_snapshot(self, ts: int, subscriber: Subscriber) -> None:
        self._in_snapshot = False
        if _is_settled(subscriber) and any(topic.startswith(("*", "margin")) for topic in self._settings.topics):
            called = frozenset(str(call.login) for call in self._state.calls.values())
            self._engine.margins_are(called, ts)

    def _notice(self, notice: Notice) -> None:
        self._view.notice(notice)
        if notice.kind in {"healed", "lost"}:
            self._state.counts[notice.kind] += notice.count
        if notice.kind in STALE_NOTICES and (not notice.topic or notice.topic.startswith(("trade.", "margin."))):
            self._is_stale = True

    def _check_feed(self, subscriber: Subscriber, now_s: float) -> None:
        """Check the feed and the webhook."""
        self._check_at_s = now_s + CHECK_S
        self._state.checked_s = now_s
        self._state.status = subscriber.status
        if self._engine.of_feed:
            now_ts = time.time_ns()
            status = self._silence.status(subscriber.status, now_s)
            found = signs(status, now_s - self._began_s, now_ts, self._silence.spans(now_s))
            self._engine.feed(found, now_ts)
        self._state.counts["alerts_suppressed"] = self._engine.suppressed
        webhook = self._recorder.webhook
        if webhook is not None:
            self._state.counts["failed"] = webhook.counts["failed"]
            self._state.counts["unsent"] = self._store.waiting()


def _is_settled(subscriber: Subscriber) -> bool:
    """Return whether the daemon's session runs for a while, so that its tables are read."""
    status = subscriber.status
    if not status.alive or status.state != PUMPING:
        return False
    settled: bool = status.body["ts"] // 1_000_000 - status.body.get("since", 0) >= SETTLED_MS
    return settled


def _keys(settings: MonitorSettings) -> ClientKeys | None:
    try:
        return ClientKeys.load(settings.keys) if settings.keys else None
    except ClientError as error:
        raise StartError(f"keys: {error}") from error


def _csv(settings: MonitorSettings, store: MonitorStore) -> CsvFile | None:
    if settings.csv is None:
        return None
    try:
        with open(settings.csv, "ab", opener=private_opener):
            pass
        if is_exposed(settings.csv):
            log.warning("csv: %s can be read by other users of this machine: chmod 600 %s", settings.csv, settings.csv)
        return CsvFile(settings.csv, store)
    except OSError as error:
        raise StartError(f"csv: {settings.csv} cannot be written: {error.strerror or error}") from error


def _webhook(settings: MonitorSettings) -> Webhook | None:
    if settings.webhook is None or settings.store is None:
        return None
    token = settings.webhook_token.get_secret_value() if settings.webhook_token else None
    options = WebhookOptions(
        settings.webhook.get_secret_value(), token, settings.webhook_timeout_s, settings.webhook_give_up_s
    )
    return Webhook(settings.store, options)


def _log_start(settings: MonitorSettings, rules: int) -> None:
    where = f"store {settings.store}" if settings.store else "no store: nothing is remembered after the end"
    log.info("watching %s at %s; rules: %d; %s", " ".join(settings.topics), settings.endpoint, rules, where)
