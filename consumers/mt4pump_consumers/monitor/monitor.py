"""Follows the stream: events in, rows, alerts and a picture of the moment out."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from mt4pump.client import ClientError, ClientKeys, Event, Margin, Notice, Subscriber, Trade
from mt4pump.process.files import is_exposed, private_opener
from mt4pump.process.program import Shutdown, StartError
from mt4pump_consumers.monitor.csv_file import CsvFile
from mt4pump_consumers.monitor.execution import execution_of
from mt4pump_consumers.monitor.recorder import EventRecorder
from mt4pump_consumers.monitor.rule_engine import RuleEngine
from mt4pump_consumers.monitor.rules import load_rules
from mt4pump_consumers.monitor.settings import MonitorSettings
from mt4pump_consumers.monitor.silence import FeedSilence, signs
from mt4pump_consumers.monitor.state import MonitorState
from mt4pump_consumers.monitor.store import MonitorStore
from mt4pump_consumers.monitor.views import MonitorView, view_for
from mt4pump_consumers.monitor.webhook import Webhook, WebhookOptions

SLICE_S = 0.1
LOOK_S = 0.5
"""Time between two looks at the feed."""
RETRY_FIRST_S, RETRY_LAST_S = 1.0, 30.0
SETTLED_MS = 2_000
"""A session that runs for so long has read its tables, so that a snapshot is whole."""
JOIN_AGAIN_S = 10.0
UNSURE = frozenset({"restarted", "not_whole", "lost"})
"""Notices after which the exposure or the margin calls may be wrong: what is open is asked for again."""
PUMPING = "pumping"

log = logging.getLogger(__name__)


def main(settings: MonitorSettings, ending: Shutdown) -> int:
    """Run the monitor until asked to end; return the exit code."""
    keys = _keys(settings)
    rules = load_rules(settings.rules) if settings.rules else ()
    webhook_set = settings.webhook is not None
    store = MonitorStore(
        settings.store, webhook=webhook_set, backlog=settings.alert_backlog, keep_days=settings.keep_days
    )
    try:
        desk, memory = MonitorState(), store.memory()
        csv = _csv(settings, store)
        for done in store.latest(desk.executions.maxlen or 0):
            desk.executions.append(done)
        judge = RuleEngine(rules, memory)
        view = view_for(settings.view, desk, settings.refresh_s, ending)
        try:
            keeper = EventRecorder(store, memory, judge=judge, desk=desk, view=view, csv=csv, ending=ending)
            _log_start(settings, len(rules))
            keeper.tell_unlogged()
            keeper.webhook = _webhook(settings)
            try:
                Monitor(
                    settings, keys, store=store, judge=judge, desk=desk, keeper=keeper, view=view, ending=ending
                ).run()
            finally:
                if keeper.webhook is not None:
                    keeper.webhook.stop(settings.webhook_timeout_s)
        finally:
            view.close()
        kept = store.counts
        log.info("ended: %d executions kept, %d alerts", kept["executions"] if settings.store else 0, kept["alerts"])
    finally:
        store.close()
    return 0


class Monitor:
    """For one thread. A subscriber that fails, or whose picture may be wrong, is replaced where it was."""

    def __init__(
        self,
        settings: MonitorSettings,
        keys: ClientKeys | None,
        *,
        store: MonitorStore,
        judge: RuleEngine,
        desk: MonitorState,
        keeper: EventRecorder,
        view: MonitorView,
        ending: Shutdown,
    ) -> None:
        self._settings, self._keys, self._store = settings, keys, store
        self._judge, self._desk, self._keeper, self._view, self._ending = judge, desk, keeper, view, ending
        self._kept = frozenset(settings.changes)
        self._began_s = time.monotonic()
        self._hearing = FeedSilence(settings.silence_s)
        self._resume: Mapping[str, Any] | int | None = store.position()
        if self._resume is None and settings.start == "journal":
            self._resume = 0
        self._is_joined = self._has_cut = self._in_cut = False
        self._is_unsure = False
        self._join_again_s = 0.0
        self._look_s = 0.0

    def run(self) -> None:
        """Read until asked to end."""
        delay_s = RETRY_FIRST_S
        while not self._ending.asked():
            began_s = time.monotonic()
            try:
                with self._subscriber() as subscriber:
                    self._begin()
                    self._follow(subscriber)
                if self._is_unsure:
                    continue
            except ClientError as error:
                log.warning("the stream ended (%s): begun again in %.0f s", error, delay_s)
            if time.monotonic() - began_s > RETRY_LAST_S:
                delay_s = RETRY_FIRST_S
            self._ending.wait(delay_s)
            delay_s = min(delay_s * 2, RETRY_LAST_S)

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
        """Begin a picture anew: a snapshot comes after the events that were missed."""
        self._is_joined = self._has_cut = self._in_cut = self._is_unsure = False
        self._join_again_s = time.monotonic() + JOIN_AGAIN_S

    def _follow(self, subscriber: Subscriber) -> None:
        """Read until the end is asked for or the picture has to be begun anew, and keep all that was read."""
        try:
            self._read(subscriber)
        except ClientError:
            self._commit(subscriber)
            raise
        self._commit(subscriber)

    def _read(self, subscriber: Subscriber) -> None:
        while not self._ending.asked():
            item = subscriber.receive(SLICE_S)
            if isinstance(item, Event):
                self._event(item)
            elif item is not None:
                self._notice(item)
            now_s = time.monotonic()
            if now_s >= self._look_s:
                self._look(subscriber, now_s)
            if self._keeper.is_due(now_s) and not self._commit(subscriber):
                return
            self._view.look(now_s)
            if self._is_unsure and now_s >= self._join_again_s and self._is_settled(subscriber):
                log.info("the daemon is asked anew for what is open")
                return

    def _commit(self, subscriber: Subscriber) -> bool:
        position = subscriber.position
        place = None if position is None else position.as_dict()
        if not self._keeper.commit(place):
            return False
        self._resume = place or self._resume
        return True

    # ---- items ----

    def _event(self, event: Event) -> None:
        if event.snapshot:
            self._row(event)
            return
        if self._in_cut:
            self._end_of_cut(event)
        if not self._is_joined and not event.healed:
            self._is_joined = True
            if not self._has_cut:
                self._desk.begin(is_whole=False)
        if isinstance(event, Trade):
            self._trade(event)
        elif isinstance(event, Margin):
            self._judge.margin(event)
            if self._is_joined:
                self._desk.margin(event)

    def _trade(self, event: Trade) -> None:
        done = execution_of(event)
        self._judge.trade(done)
        if done.change in self._kept:
            self._keeper.take(done)
            self._desk.executed(done)
        if self._is_joined:  # before, it is about a time that the snapshot to come knows the end of
            self._desk.exposure.take(done)

    def _row(self, event: Event) -> None:
        """Take a last value: what is so, not what happened."""
        if not self._has_cut:
            self._has_cut = self._is_joined = self._in_cut = True
            self._desk.begin(is_whole=True)
        if isinstance(event, Trade):
            self._desk.exposure.row(event)
        elif isinstance(event, Margin):
            self._judge.margin(event)
            self._desk.margin(event)

    def _end_of_cut(self, event: Event) -> None:
        self._in_cut = False
        if self._is_settled(None) and any(topic.startswith(("*", "margin")) for topic in self._settings.topics):
            called = frozenset(str(call.login) for call in self._desk.calls.values())
            self._judge.margins_are(called, event.ts)

    def _notice(self, notice: Notice) -> None:
        self._view.notice(notice)
        if notice.kind in {"healed", "lost"}:
            self._desk.counts[notice.kind] += notice.count
        if notice.kind in UNSURE and (not notice.topic or notice.topic.startswith(("trade.", "margin."))):
            self._is_unsure = True

    def _is_settled(self, subscriber: Subscriber | None) -> bool:
        """Return whether the daemon's session runs for a while, so that its tables are read."""
        status = self._desk.status if subscriber is None else subscriber.status
        if status is None or not status.alive or status.state != PUMPING:
            return False
        settled: bool = status.body["ts"] // 1_000_000 - status.body.get("since", 0) >= SETTLED_MS
        return settled

    def _look(self, subscriber: Subscriber, now_s: float) -> None:
        """Look at the feed and at the webhook."""
        self._look_s = now_s + LOOK_S
        self._desk.status = subscriber.status
        if self._judge.of_feed:
            now_ts = time.time_ns()
            status = self._hearing.status(subscriber.status, now_s)
            found = signs(status, now_s - self._began_s, now_ts, self._hearing.spans(now_s))
            self._judge.feed(found, now_ts)
        webhook = self._keeper.webhook
        if webhook is not None:
            self._desk.counts["failed"] = webhook.counts["failed"]
            self._desk.counts["unsent"] = self._store.waiting()


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
    webhook = Webhook(settings.store, options)
    webhook.start()
    return webhook


def _log_start(settings: MonitorSettings, rules: int) -> None:
    where = f"store {settings.store}" if settings.store else "no store: nothing is remembered after the end"
    log.info("watching %s at %s; %d rules; %s", " ".join(settings.topics), settings.endpoint, rules, where)
