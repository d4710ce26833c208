"""What a reader of the stream is told besides the events: silence, loss, restarts; pure."""

from __future__ import annotations

from typing import NamedTuple

from mt4pump.cli.stats import StreamStats

SILENCE_S = 3.0
"""How long nothing may come before the reader is told."""
HEARTBEATS_LATE = 3
"""How many intervals a heartbeat that was heard before may take."""


class StreamAlert(NamedTuple):
    """Something the reader should know; ``kind`` tells one from another, ``text`` is for people."""

    kind: str
    text: str


def silence(heard: StreamStats, endpoint: str, now_s: float) -> StreamAlert | None:
    """Return what to say about something that should have come and did not."""
    quiet_s = now_s - heard.last_s
    if not heard.anything:
        start = "start it with: mt4pump run --source simulator"
        text = f"nothing heard from {endpoint} for {quiet_s:.0f} s: is the daemon running there? {start}"
        return StreamAlert("nothing", text) if quiet_s >= SILENCE_S else None
    if heard.heartbeat_s is None:
        text = f"no heartbeat heard yet from {endpoint}: is it mt4pump's? Its address is pub_endpoint"
        return StreamAlert("no heartbeat", text) if heard.without_heartbeat_s(now_s) >= SILENCE_S else None
    late_s = heard.without_heartbeat_s(now_s)
    if late_s >= max(SILENCE_S, HEARTBEATS_LATE * heard.heartbeat_interval_s):
        return StreamAlert("late", f"no heartbeat for {late_s:.0f} s: {_why_late(heard)}")
    if not heard.events and now_s - heard.started_s >= SILENCE_S:
        return StreamAlert("no event", "the daemon is heard, but no event of the topics asked for yet")
    return None


def _why_late(heard: StreamStats) -> str:
    if heard.daemon.get("state") == "stopping":
        return "the daemon stopped; start it with: mt4pump run"
    return "the daemon hangs, or it or the way to it is down"


def totals(heard: StreamStats, now_s: float) -> str:
    """Return all totals in one line."""
    elapsed_s = max(now_s - heard.started_s, 0.001)
    found = heard.sequence
    return (
        f"heard {heard.events} events on {len(heard.rows) + heard.forgotten} topics in {elapsed_s:.1f} s, "
        f"{heard.events / elapsed_s:.0f}/s; missed {found.missed} in {found.gaps} gaps, repeats {found.repeats}, "
        f"garbage {heard.garbage}, daemon restarts {heard.restarts}"
    )


class AlertTracker:
    """Turns growing counters into notes, at most one per kind and look, so that a storm stays readable."""

    def __init__(self) -> None:
        self._missed = self._repeats = self._garbage = self._restarts = 0
        self._state = ""
        self._silence = ""

    def look(self, heard: StreamStats, endpoint: str, now_s: float) -> list[StreamAlert]:
        """Return what changed since the last look."""
        notes = []
        found = heard.sequence
        if found.missed > self._missed:
            text = f"missed {found.missed - self._missed} messages (total {found.missed}), the last: {heard.last_gap}"
            notes.append(StreamAlert("gap", text))
        if found.repeats > self._repeats:
            notes.append(
                StreamAlert("repeat", f"{found.repeats - self._repeats} messages came again (total {found.repeats})")
            )
        if heard.garbage > self._garbage:
            count = heard.garbage - self._garbage
            notes.append(StreamAlert("garbage", f"{count} messages are not mt4pump's, the last: {heard.last_garbage}"))
        if heard.restarts > self._restarts:
            notes.append(StreamAlert("restart", f"the daemon was restarted (epoch {heard.epoch})"))
        self._missed, self._repeats = found.missed, found.repeats
        self._garbage, self._restarts = heard.garbage, heard.restarts
        return notes + self._state_change(heard) + self._silence_change(heard, endpoint, now_s)

    def _state_change(self, heard: StreamStats) -> list[StreamAlert]:
        state = str(heard.daemon.get("state", ""))
        if state == self._state:
            return []
        self._state = state
        server = heard.daemon.get("server") or "no server"
        return [StreamAlert("state", f"daemon is {state} ({server}, epoch {heard.epoch})")]

    def _silence_change(self, heard: StreamStats, endpoint: str, now_s: float) -> list[StreamAlert]:
        note = silence(heard, endpoint, now_s)
        kind = note.kind if note else ""
        if kind == self._silence:
            return []
        self._silence = kind
        return [note] if note else []
