"""The heartbeat monitor: no alarm where all is well, and none that stays."""

from __future__ import annotations

from typing import Any

import pytest

from mt4pump.client.liveness import NS, HeartbeatMonitor

WALL_S = 1_700_000_000


def new_monitor() -> HeartbeatMonitor:
    return HeartbeatMonitor(silence_s=5.0, lag_limit=100, lag_limit_s=10.0)


def handled(
    subject: HeartbeatMonitor,
    number: int,
    now_s: float,
    *,
    wall_s: float = 0.0,
    waiting: tuple[int, int] = (0, 0),
    **body: Any,
) -> list[str]:
    """Take heartbeat ``number``, sent ``number`` seconds after the daemon's start; return the kinds of the notices."""
    sent_ns = (WALL_S + number) * NS
    heartbeat = {"epoch": 1, "seq": number, "ts": sent_ns, "uptime_s": float(number), "state": "pumping", **body}
    now_ns = int((WALL_S + now_s + wall_s) * NS)
    subject.handle(heartbeat, now_s, now_ns)
    subject.drained()
    return [notice.kind for notice in subject.changes(now_ns, *waiting)]


@pytest.mark.parametrize(("interval_s", "silent_after_s"), [(1.0, 5.0), (10.0, 30.0), (None, 5.0)])
def test_a_daemon_is_given_three_of_its_own_intervals(interval_s: Any, silent_after_s: float) -> None:
    subject = new_monitor()
    handled(subject, 1, 1.0, interval_s=interval_s)
    assert subject.check_silence(1.0) == []
    assert subject.check_silence(1.0 + silent_after_s - 0.1) == []
    assert subject.status(1.0 + silent_after_s - 0.1).alive
    assert not subject.status(1.0 + silent_after_s).alive
    assert [notice.kind for notice in subject.check_silence(1.0 + silent_after_s)] == ["silent"]


def test_a_reader_whose_clock_is_set_is_not_late() -> None:
    subject = new_monitor()
    notices = [handled(subject, second, float(second), wall_s=12.0 if second > 5 else 0.0) for second in range(1, 60)]
    assert not any(notices)


@pytest.mark.parametrize("step_s", [12, -12])
def test_a_daemon_whose_clock_is_set_makes_no_reader_late(step_s: int) -> None:
    subject = new_monitor()
    notices = []
    for second in range(1, 60):
        ts = (WALL_S + second + (step_s if second > 5 else 0)) * NS
        notices += handled(subject, second, float(second), ts=ts)
    assert notices == []


def test_what_waits_is_as_old_as_the_clocks_of_both_sides_say() -> None:
    subject = new_monitor()
    assert handled(subject, 1, 1.0, wall_s=30.0) == []
    first = (WALL_S + 2) * NS
    assert handled(subject, 5, 5.0, wall_s=30.0, waiting=(1, first)) == []
    assert handled(subject, 13, 13.0, wall_s=30.0, waiting=(1, first)) == ["lagging"]
    assert handled(subject, 14, 14.0, wall_s=30.0) == ["caught_up"]


def test_a_delay_that_stays_is_reported_for_hours() -> None:
    subject = new_monitor()
    assert handled(subject, 1, 1.0) == []
    assert handled(subject, 2, 14.0) == ["lagging"]
    assert [handled(subject, second, second + 12.0) for second in range(3, 7_200)] == [[]] * 7_197
    assert handled(subject, 7_200, 7_200.5) == ["caught_up"]


def test_clocks_that_go_apart_slowly_make_no_reader_late() -> None:
    subject = new_monitor()
    notices = [handled(subject, second, second * 1.0001) for second in range(1, 200_000, 10)]
    assert not any(notices)


def test_another_run_of_the_daemon_has_another_start() -> None:
    subject = new_monitor()
    assert handled(subject, 1_000, 1_000.0) == []
    assert handled(subject, 1, 1_001.0, epoch=2) == []
