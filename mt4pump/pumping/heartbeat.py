"""What the heartbeat says once a second: the daemon's state and every counter a reader may need; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mt4pump import __version__
from mt4pump.pumping.inbox import Inbox
from mt4pump.session import SessionStatus
from mt4pump.wire import PROTOCOL, Body


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the pump thread knows at the moment of a heartbeat.

    ``errors`` are faults by name; ``skipped`` is what was taken in and not told, by reason. ``offset`` and ``offsets``
    are the last durable event over all and per kind, ``log_id`` and ``journal`` None without a journal.
    """

    status: SessionStatus
    interval_s: float
    uptime_s: float
    log_id: str | None
    offset: int
    offsets: Mapping[str, int]
    durable: bool
    journal: Mapping[str, object] | None
    counts: Mapping[str, int]
    errors: Mapping[str, int]
    skipped: Mapping[str, int]
    subscriptions: int
    subscription_bytes: int
    sent: int
    slow_readers: Mapping[str, int]
    connections: Mapping[str, int]
    query: Mapping[str, int]
    last_quote_ts: int
    server_utc_offset_s: int | None
    rss_bytes: int
    threads: int
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
        "interval_s": vitals.interval_s,
        "uptime_s": round(vitals.uptime_s, 3),
        "log": vitals.log_id,
        "offset": vitals.offset,
        "offsets": dict(vitals.offsets),
        "durable": vitals.durable,
        "journal": dict(vitals.journal) if vitals.journal is not None else None,
        "counts": dict(vitals.counts),
        "sent": vitals.sent,
        "dropped": inbox.refused + inbox.abandoned,
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
        "subscription_bytes": vitals.subscription_bytes,
        "slow_readers": dict(vitals.slow_readers),
        "connections": dict(vitals.connections),
        "query": dict(vitals.query),
        "server_utc_offset_s": vitals.server_utc_offset_s,
        "rss_bytes": vitals.rss_bytes,
        "threads": vitals.threads,
        "source": dict(vitals.source),
    }
