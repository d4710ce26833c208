"""The daemon's state as clients are told it; pure."""

from __future__ import annotations

from mt4pump.client import Notice
from mt4pump.client import Status as DaemonStatus
from mt4pump_consumers.gateway.protocol import Json

LIVE, NO_FEED, SILENT = "live", "no_feed", "silent"
"""``feed``: quotes flow; the daemon is there and its session is not; the daemon is not heard."""
PUMPING = "pumping"


def feed_word(status: DaemonStatus | None) -> str:
    """Return the state of the whole way in one word."""
    if status is None or not status.alive:
        return SILENT
    return LIVE if status.state == PUMPING else NO_FEED


def status_message(status: DaemonStatus | None, log: str | None, confirmed: int | None) -> Json:
    """Return what clients are told; ages in seconds, None for what never came.

    ``log`` and ``confirmed`` are of the events that were sent so far: ``status`` may be ahead of them.
    """
    message: Json = {"type": "status", "feed": feed_word(status), "log": log, "confirmed": confirmed}
    if status is None:
        return {**message, "state": "", "server": "", "offset": 0, "epoch": 0}
    known: Json = {"state": status.state, "server": status.server, "version": status.version}
    ages: Json = {"heartbeat_age_s": _rounded(status.age_s), "quote_age_s": _rounded(status.feed_age_s)}
    return {**message, **known, "offset": status.offset, "epoch": status.epoch, **ages}


def changed(before: Json, now: Json) -> bool:
    """Return whether clients must be told."""
    return any(before.get(key) != now.get(key) for key in ("feed", "state", "log", "epoch"))


def notice_message(notice: Notice) -> Json:
    """Return what is wrong, or right again, with the stream."""
    message: Json = {"type": "notice", "kind": notice.kind, "message": notice.text}
    if notice.topic:
        message["topic"] = notice.topic
    return {**message, "count": notice.count} if notice.count else message


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
