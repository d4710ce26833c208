"""How long nothing came, told from the last heartbeat; pure."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from mt4pump.client import Status
from mt4pump_consumers.monitor.alert import NS

NS_PER_MS = 1_000_000
NOT_HEARD = "not heard"


class FeedSign(NamedTuple):
    """Silent for ``silent_s``, since ``last_ts`` (ns since 1970, the daemon's clock).

    ``is_heard``: there was a sign of life in this life of the daemon; else the silence counts from its start (or from
    ours) and proves nothing about the time before. ``state`` is the session's, in the last heartbeat.
    """

    silent_s: float
    last_ts: int
    is_heard: bool
    state: str


class Hearing:
    """What was heard last, by whichever subscriber: a new one knows nothing until its first heartbeat.

    Without it, each time the stream is begun anew would look like silence since our start.
    """

    def __init__(self, silence_s: float) -> None:
        self._silence_s = silence_s
        self._heard: Status | None = None
        self._heard_s = 0.0

    def status(self, status: Status, now_s: float) -> Status:
        """Return ``status`` if there was a heartbeat in it, else the last one in which there was, aged until now."""
        if status.age_s is not None:
            self._heard, self._heard_s = status, now_s - status.age_s
        if status.age_s is not None or self._heard is None:
            return status
        age_s = now_s - self._heard_s
        return replace(self._heard, age_s=age_s, alive=self._heard.alive and age_s < self._silence_s)


def signs(status: Status, watched_s: float, now_ts: int) -> dict[str, FeedSign]:
    """Return the signs of ``quotes``, ``session`` and ``daemon``; ``watched_s`` is how long we have been listening."""
    if status.age_s is None:
        nothing = FeedSign(watched_s, now_ts - int(watched_s * NS), is_heard=False, state=NOT_HEARD)
        return dict.fromkeys(("quotes", "session", "daemon"), nothing)
    state = status.state if status.alive else f"{status.state}, no heartbeat for {status.age_s:.0f} s"
    beat_ts = status.body["ts"]
    return {
        "quotes": _sign(status.body.get("last_quote_ts") or 0, status, state),
        "session": _sign(status.body.get("last_callback_ts") or 0, status, state),
        "daemon": FeedSign(status.age_s, beat_ts, is_heard=True, state=state),
    }


def _sign(last_ts: int, status: Status, state: str) -> FeedSign:
    since_ts = last_ts or status.epoch * NS_PER_MS
    silent_s = max(0.0, (status.body["ts"] - since_ts) / NS) + (status.age_s or 0.0)
    return FeedSign(silent_s, since_ts, is_heard=last_ts > 0, state=state)
