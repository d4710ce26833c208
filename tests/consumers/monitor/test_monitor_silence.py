"""How long nothing came, from heartbeats alone.

Private access: the monitor's check of its feed, its beginning and its start, because hours must pass between two
checks, and its loop uses the real clock.
"""

from __future__ import annotations

from contextlib import closing
from types import SimpleNamespace
from typing import Any

from mt4pump_consumers.monitor.monitor import Monitor
from mt4pump_consumers.monitor.rules import FeedSilent, RuleEngine, RuleMemory
from mt4pump_consumers.monitor.settings import MonitorSettings
from mt4pump_consumers.monitor.state import FeedSilence, MonitorState, signs
from mt4pump_consumers.monitor.store import MonitorStore

from mt4pump.client import Status
from mt4pump.process.program import settings_of
from tests.consumers.monitor.monitor_run import NS


def status(*, age_s: float | None = 0.5, alive: bool = True, **body: Any) -> Status:
    """Return a daemon with a heartbeat at second 1000, its last quote at 990 and a callback at 998."""
    heartbeat = {"ts": 1000 * NS, "last_quote_ts": 990 * NS, "last_callback_ts": 998 * NS, "state": "pumping", **body}
    rest: dict[str, Any] = {"server": "s", "version": "1", "log": "l", "offset": 1, "durable": True}
    return Status(
        alive=alive, state=heartbeat["state"], age_s=age_s, feed_age_s=None, epoch=900_000, body=heartbeat, **rest
    )


def test_silence_is_what_the_heartbeat_shows_and_its_own_age() -> None:
    found = signs(status(), 50.0, 1001 * NS)
    assert {of: sign.silent_s for of, sign in found.items()} == {"quotes": 10.5, "session": 2.5, "daemon": 0.5}
    assert all(sign.has_arrived for sign in found.values())


def test_a_dead_daemon_is_silence_of_all_three_kinds() -> None:
    found = signs(status(age_s=60.0, alive=False), 100.0, 1060 * NS)
    assert all(sign.silent_s >= 60 for sign in found.values())
    assert "no heartbeat for 60 s" in found["quotes"].state


def test_a_daemon_that_received_nothing_yet_is_silent_since_its_start() -> None:
    found = signs(status(last_quote_ts=0, last_callback_ts=0), 100.0, 1001 * NS)
    assert (found["quotes"].silent_s, found["quotes"].has_arrived) == (100.5, False)


def test_without_any_heartbeat_silence_counts_from_our_own_start() -> None:
    found = signs(status(age_s=None), 7.0, 1000 * NS)
    assert found["daemon"].silent_s == 7.0
    assert not found["daemon"].has_arrived


def silence_at(silence: FeedSilence, now_s: float, ts_s: float, quote_s: float) -> float:
    """Return for how long the quotes are silent after a heartbeat that just came."""
    seen = status(age_s=0.0, ts=int(ts_s * NS), last_quote_ts=int(quote_s * NS))
    found = signs(silence.status(seen, now_s), now_s, int(ts_s * NS), silence.spans(now_s))
    return found["quotes"].silent_s


def test_a_clock_that_jumps_ahead_between_a_quote_and_a_heartbeat_is_no_silence() -> None:
    silence, day_s = FeedSilence(silence_s=5.0), 86_400.0
    assert silence_at(silence, 100.0, 1000.0, 999.5) == 0.5
    assert silence_at(silence, 101.0, 1001.0 + 30 * day_s, 1000.5) <= 1.0
    assert silence_at(silence, 102.0, 1002.0 + 30 * day_s, 1000.5) <= 2.0
    assert silence_at(silence, 103.0, 1003.0 + 30 * day_s, 1002.5 + 30 * day_s) == 0.5


def test_a_clock_that_is_set_back_hides_no_silence() -> None:
    silence = FeedSilence(silence_s=5.0)
    assert silence_at(silence, 100.0, 5000.0, 4999.5) == 0.5
    for second in range(1, 60):
        assert second <= silence_at(silence, 100.0 + second, 1400.0 + second, 4999.5) <= second + 1


def test_of_the_first_heartbeat_its_own_word_is_all_there_is() -> None:
    assert silence_at(FeedSilence(silence_s=5.0), 100.0, 5000.0, 4000.0) == 1000.0


def test_a_daemon_whose_epoch_is_ahead_of_its_clock_is_silent_since_its_start_all_the_same() -> None:
    found = signs(status(last_quote_ts=0, uptime_s=40.0, ts=100 * NS), 100.0, 101 * NS)
    assert (found["quotes"].silent_s, found["quotes"].last_ts) == (40.5, 60 * NS)


def test_until_a_new_subscriber_receives_something_the_last_heartbeat_grows_older() -> None:
    silence = FeedSilence(silence_s=5.0)
    nothing = status(age_s=None, alive=False)
    assert silence.status(nothing, 100.0) is nothing, "nothing was received yet"
    silence.status(status(age_s=0.5), 200.0)
    young, old = silence.status(nothing, 201.0), silence.status(nothing, 260.0)
    assert (young.age_s, young.alive) == (1.5, True)
    assert (old.age_s, old.alive) == (60.5, False)
    fresh = status(age_s=0.1)
    assert silence.status(fresh, 261.0) is fresh


def check(monitor: Monitor, seen: Status, now_s: float) -> None:
    """Have the monitor check what a subscriber shows."""
    subscriber: Any = SimpleNamespace(status=seen)
    monitor._check_feed(subscriber, now_s)  # noqa: SLF001


def test_a_monitor_that_joins_again_does_not_take_its_own_age_for_silence() -> None:
    engine = RuleEngine(
        [FeedSilent(name="silence", when="feed_silent", of="daemon", seconds=10, quiet_s=0)], RuleMemory()
    )
    none: Any = SimpleNamespace(webhook=None)
    settings, state = settings_of(MonitorSettings, []).settings, MonitorState()
    with closing(MonitorStore(None, webhook=False, backlog=1)) as store:
        monitor = Monitor(
            settings, None, store=store, engine=engine, state=state, recorder=none, view=none, shutdown=none
        )
        hour_s = monitor._began_s + 3600.0  # noqa: SLF001
        check(monitor, status(age_s=0.5), hour_s)
        monitor._begin()  # noqa: SLF001
        check(monitor, status(age_s=None, alive=False), hour_s + 1.0)
        assert engine.alerts == []
        check(monitor, status(age_s=None, alive=False), hour_s + 30.0)
        assert [alert.status for alert in engine.alerts] == ["firing"], "a daemon that died meanwhile is still reported"
        engine.suppressed = 3
        check(monitor, status(age_s=0.5), hour_s + 31.0)
        assert state.counts["alerts_suppressed"] == 3
