"""Alerts beside the events of a stream: silence, loss, restarts; pure."""

from __future__ import annotations

from typing import NamedTuple

from mt4pump.cli.stats import StreamStats

SILENCE_S = 3.0
"""Seconds without a message before an alert."""
HEARTBEATS_LATE = 3
"""How many intervals a heartbeat may be late, after the first."""


class StreamAlert(NamedTuple):
    """One alert: ``kind`` identifies it, ``text`` is for people."""

    kind: str
    text: str


def silence(stats: StreamStats, endpoint: str, now_s: float) -> StreamAlert | None:
    """Return the alert for something that should have come and did not; None when all is well."""
    quiet_s = now_s - stats.last_s
    if not stats.has_received:
        start = "start it with: mt4pump run --source simulator"
        text = f"nothing received from {endpoint} for {quiet_s:.0f} s: is the daemon running there? {start}"
        return StreamAlert("nothing", text) if quiet_s >= SILENCE_S else None
    if stats.heartbeat_s is None:
        text = f"no heartbeat received yet from {endpoint}: is it mt4pump's? Its address is pub_endpoint"
        return StreamAlert("no heartbeat", text) if stats.without_heartbeat_s(now_s) >= SILENCE_S else None
    late_s = stats.without_heartbeat_s(now_s)
    if late_s >= max(SILENCE_S, HEARTBEATS_LATE * stats.heartbeat_interval_s):
        return StreamAlert("late", f"no heartbeat for {late_s:.0f} s: {_why_late(stats)}")
    if not stats.events and now_s - stats.started_s >= SILENCE_S:
        return StreamAlert("no event", "the daemon sends heartbeats, but no event of the topics asked for yet")
    return None


def _why_late(stats: StreamStats) -> str:
    if stats.daemon.get("state") == "stopping":
        return "the daemon stopped; start it with: mt4pump run"
    return "the daemon hangs, or it or the way to it is down"


def totals(stats: StreamStats, now_s: float) -> str:
    """Return all totals in one line."""
    elapsed_s = max(now_s - stats.started_s, 0.001)
    found = stats.sequence
    return (
        f"received {stats.events} events on {len(stats.rows) + stats.forgotten} topics in {elapsed_s:.1f} s, "
        f"{stats.events / elapsed_s:.0f}/s; missed {found.missed} in {found.gaps} gaps, repeats {found.repeats}, "
        f"garbage {stats.garbage}, daemon restarts {stats.restarts}"
    )


class AlertTracker:
    """Turns growing counters into alerts, at most one per kind and check, so that a storm stays readable."""

    def __init__(self) -> None:
        self._missed = self._repeats = self._garbage = self._restarts = 0
        self._state = ""
        self._silence = ""

    def check(self, stats: StreamStats, endpoint: str, now_s: float) -> list[StreamAlert]:
        """Return the alerts for what changed since the last check."""
        alerts = []
        found = stats.sequence
        if found.missed > self._missed:
            text = f"missed {found.missed - self._missed} messages (total {found.missed}), the last: {stats.last_gap}"
            alerts.append(StreamAlert("gap", text))
        if found.repeats > self._repeats:
            alerts.append(
                StreamAlert("repeat", f"{found.repeats - self._repeats} messages came again (total {found.repeats})")
            )
        if stats.garbage > self._garbage:
            count = stats.garbage - self._garbage
            alerts.append(StreamAlert("garbage", f"{count} messages are not mt4pump's, the last: {stats.last_garbage}"))
        if stats.restarts > self._restarts:
            alerts.append(StreamAlert("restart", f"the daemon was restarted (epoch {stats.epoch})"))
        self._missed, self._repeats = found.missed, found.repeats
        self._garbage, self._restarts = stats.garbage, stats.restarts
        return alerts + self._state_change(stats) + self._silence_change(stats, endpoint, now_s)

    def _state_change(self, stats: StreamStats) -> list[StreamAlert]:
        state = str(stats.daemon.get("state", ""))
        if state == self._state:
            return []
        self._state = state
        server = stats.daemon.get("server") or "no server"
        return [StreamAlert("state", f"daemon is {state} ({server}, epoch {stats.epoch})")]

    def _silence_change(self, stats: StreamStats, endpoint: str, now_s: float) -> list[StreamAlert]:
        alert = silence(stats, endpoint, now_s)
        kind = alert.kind if alert else ""
        if kind == self._silence:
            return []
        self._silence = kind
        return [alert] if alert else []
