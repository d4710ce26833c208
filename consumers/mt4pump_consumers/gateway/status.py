"""The daemon's state as clients receive it; pure."""

from __future__ import annotations

from collections.abc import Mapping

from mt4pump.client import Notice
from mt4pump.client import Status as DaemonStatus
from mt4pump_consumers.gateway.protocol import Json
from mt4pump_consumers.gateway.tokens import Grant

LIVE, NO_FEED, SILENT = "live", "no_feed", "silent"
"""``feed``: quotes flow; the daemon runs without a session; no heartbeat of the daemon."""
PUMPING = "pumping"
HEARTBEAT_TOPIC = "heartbeat"
"""The topic that a token must allow for server, version and reasons, which the heartbeat has as well."""
PUBLIC_TEXTS: Mapping[str, str] = {
    "connected": "the gateway is connected to the daemon",
    "disconnected": "the gateway's connection to the daemon broke; it is made again",
    "restarted": "the daemon was restarted",
    "gap": "events are missing; they are asked for",
    "healed": "missing events were delivered later",
    "lost": "events are lost",
    "not_whole": "events of the past are lost",
    "silent": "the daemon is not heard",
    "alive": "the daemon is heard again",
    "feed_lost": "the daemon is there, its session is not",
    "feed_back": "the daemon's session runs",
    "lagging": "the gateway is behind",
    "caught_up": "the gateway is up to date again",
    "query_failed": "a query to the daemon failed",
    "malformed": "messages that no daemon sends were dropped",
    "refreshed": "last values were read anew, as events were lost; subscribe again for them",
}
"""Texts for all other clients: those of the client library may name addresses, servers and logins."""


def feed_state(status: DaemonStatus | None) -> str:
    """Return the state of the whole feed in one word."""
    if status is None or not status.alive:
        return SILENT
    return LIVE if status.state == PUMPING else NO_FEED


def status_message(status: DaemonStatus | None, log: str | None, confirmed: int | None) -> Json:
    """Return what clients receive; ages in seconds, None for what never arrived.

    ``log`` and ``confirmed`` are of the events that were sent so far: ``status`` may be ahead of them.
    """
    message: Json = {"type": "status", "feed": feed_state(status), "log": log, "confirmed": confirmed}
    if status is None:
        return {**message, "state": "", "server": "", "offset": 0, "epoch": 0}
    known: Json = {"state": status.state, "server": status.server, "version": status.version}
    ages: Json = {"heartbeat_age_s": _rounded(status.age_s), "quote_age_s": _rounded(status.feed_age_s)}
    return {**message, **known, "offset": status.offset, "epoch": status.epoch, **ages}


def public(message: Json) -> Json:
    """Return a status or a notice as clients without the right get it: no server, version or reason."""
    if message["type"] == "notice":
        return {**message, "message": PUBLIC_TEXTS.get(message["kind"], "something happened to the stream")}
    return {**{key: value for key, value in message.items() if key != "version"}, "server": ""}


def status_for(grant: Grant, message: Json) -> Json:
    """Return the status as the owner of ``grant`` may know it."""
    return message if grant.allowed.covers(HEARTBEAT_TOPIC) else public(message)


def changed(before: Json, now: Json) -> bool:
    """Return whether clients must be informed."""
    return any(before.get(key) != now.get(key) for key in ("feed", "state", "log", "epoch"))


def notice_message(notice: Notice) -> Json:
    """Return what is wrong, or right again, with the stream."""
    message: Json = {"type": "notice", "kind": notice.kind, "message": notice.text}
    if notice.topic:
        message["topic"] = notice.topic
    return {**message, "count": notice.count} if notice.count else message


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
