"""How long nothing came, told from the last heartbeat; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
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


class SilenceSpan(NamedTuple):
    """How long a moment that a heartbeat names can be past, at least and at most, by our own monotonic clock."""

    least_s: float = 0.0
    most_s: float = math.inf


class MomentWatch:
    """Watches one moment of the heartbeats, as ``last_quote_ts``: a clock that is set moves it, and it alone.

    While it stays the same, at least the time since we first saw it has passed, and at most the time since the
    heartbeat before that one. Of the first one that we see only the former is known.
    """

    def __init__(self) -> None:
        self._moment: object = None
        self._seen_s = self._beat_s = 0.0
        self._before_s = -math.inf

    def see(self, moment: object, beat_s: float) -> None:
        """Take a heartbeat's moment; ``beat_s`` is when it came (monotonic)."""
        if moment != self._moment:
            self._before_s = -math.inf if self._moment is None else self._beat_s
            self._moment, self._seen_s = moment, beat_s
        self._beat_s = beat_s

    def span(self, now_s: float) -> SilenceSpan:
        """Return how long ago it was, as of ``now_s``."""
        return SilenceSpan() if self._moment is None else SilenceSpan(now_s - self._seen_s, now_s - self._before_s)


MOMENTS = {"quotes": "last_quote_ts", "session": "last_callback_ts"}


class FeedSilence:
    """What was heard last, by whichever subscriber: a new one knows nothing until its first heartbeat.

    Without it, each time the stream is begun anew would look like silence since our start.
    """

    def __init__(self, silence_s: float) -> None:
        self._silence_s = silence_s
        self._heard: Status | None = None
        self._heard_s = 0.0
        self._watches = {of: MomentWatch() for of in MOMENTS}

    def status(self, status: Status, now_s: float) -> Status:
        """Return ``status`` if there was a heartbeat in it, else the last one in which there was, aged until now."""
        if status.age_s is not None:
            self._heard, self._heard_s = status, now_s - status.age_s
            for of, name in MOMENTS.items():
                self._watches[of].see((status.epoch, status.body.get(name) or 0), self._heard_s)
        if status.age_s is not None or self._heard is None:
            return status
        age_s = now_s - self._heard_s
        return replace(self._heard, age_s=age_s, alive=self._heard.alive and age_s < self._silence_s)

    def spans(self, now_s: float) -> dict[str, SilenceSpan]:
        """Return how long ago the last quote and the last callback can have been, by our own clock."""
        return {of: watch.span(now_s) for of, watch in self._watches.items()}


def signs(
    status: Status, watched_s: float, now_ts: int, spans: Mapping[str, SilenceSpan] = MappingProxyType({})
) -> dict[str, FeedSign]:
    """Return the signs of ``quotes``, ``session`` and ``daemon``; ``watched_s`` is how long we have been listening.

    ``spans`` hold them against our own clock, so that no clock that is set makes or hides a silence.
    """
    if status.age_s is None:
        nothing = FeedSign(watched_s, now_ts - int(watched_s * NS), is_heard=False, state=NOT_HEARD)
        return dict.fromkeys(("quotes", "session", "daemon"), nothing)
    state = status.state if status.alive else f"{status.state}, no heartbeat for {status.age_s:.0f} s"
    beat_ts = status.body["ts"]
    return {
        **{
            of: _sign(status.body.get(name) or 0, status, state, spans.get(of, SilenceSpan()))
            for of, name in MOMENTS.items()
        },
        "daemon": FeedSign(status.age_s, beat_ts, is_heard=True, state=state),
    }


def _sign(last_ts: int, status: Status, state: str, span: SilenceSpan) -> FeedSign:
    since_ts = last_ts or _start_ts(status)
    silent_s = max(0.0, (status.body["ts"] - since_ts) / NS) + (status.age_s or 0.0)
    if last_ts:
        silent_s = min(max(silent_s, span.least_s), span.most_s)
    return FeedSign(silent_s, since_ts, is_heard=last_ts > 0, state=state)


def _start_ts(status: Status) -> int:
    """Return when the daemon began: by its age, as the epoch is ahead of a clock that was set back before."""
    uptime_s = status.body.get("uptime_s")
    if isinstance(uptime_s, int | float) and 0 <= uptime_s < math.inf:
        return int(status.body["ts"] - uptime_s * NS)
    return status.epoch * NS_PER_MS
