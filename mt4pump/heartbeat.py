"""What the heartbeat says once a second: the daemon's state and every counter a reader may need; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mt4pump import __version__
from mt4pump.inbox import Inbox
from mt4pump.session import SessionStatus
from mt4pump.wire import PROTOCOL, Body


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the pump thread knows at the moment of a heartbeat.

    ``errors`` are faults by name; ``skipped`` is what was taken in and not told, by reason.
    """

    status: SessionStatus
    uptime_s: float
    counts: Mapping[str, int]
    errors: Mapping[str, int]
    skipped: Mapping[str, int]
    subscriptions: int
    sent: int
    last_quote_ts: int
    server_utc_offset_s: int | None
    rss_bytes: int
    source: Mapping[str, int]


def heartbeat_fields(vitals: Vitals, inbox: Inbox, *, state: str = "") -> Body:
    """Return the body of a heartbeat; ``state`` overrides the supervisor's, for the last one."""
    status = vitals.status
    return {
        "state": state or status.state,
        "since": status.since,
        "reason": status.reason,
        "server": status.server,
        "version": __version__,
        "protocol": PROTOCOL,
        "uptime_s": round(vitals.uptime_s, 3),
        "counts": dict(vitals.counts),
        "sent": vitals.sent,
        "dropped": inbox.refused,
        "inbox": {
            "waiting": len(inbox),
            "limit": inbox.limit,
            "received": inbox.received,
            "coalesced": inbox.coalesced,
            "refused": inbox.refused,
        },
        "errors": dict(vitals.errors),
        "skipped": dict(vitals.skipped),
        "reconnects": status.reconnects,
        "last_callback_ts": inbox.last_callback_ts,
        "last_quote_ts": vitals.last_quote_ts,
        "subscriptions": vitals.subscriptions,
        "server_utc_offset_s": vitals.server_utc_offset_s,
        "rss_bytes": vitals.rss_bytes,
        "source": dict(vitals.source),
    }
