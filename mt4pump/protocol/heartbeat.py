"""The body of a heartbeat, nested maps included; pure."""

from __future__ import annotations

from mt4pump.protocol.fields import BOOL, FLOAT, INT, STR, UINT, Spec, Specs, each, fixed

SESSION_STATES = ("connecting", "logged_in", "pumping", "lost", "stopping")


SINCE_LIMITS = "the daemon is of a version that counts it"


def _count(meaning: str) -> Spec:
    return Spec(UINT, meaning)


INBOX: Specs = {
    "waiting": _count("records that wait to be published"),
    "limit": _count("largest number of records that may wait"),
    "received": _count("calls of the pump callback"),
    "coalesced": _count("calls merged with a waiting call of the same pump code: nothing is lost"),
    "refused": _count("records that did not fit: the tables are read again afterwards, see `dropped`"),
}

JOURNAL: Specs = {
    "stored": _count("durable events committed"),
    "unstored": _count("durable events published without an offset, because a commit failed"),
    "commits": _count("transactions"),
    "errors": _count("transactions and openings that failed"),
    "set_aside": _count("damaged files moved to quarantine"),
    "deleted": _count("events deleted by retention"),
    "first_offset": Spec(UINT, "oldest event that is still stored; 0: none"),
    "size_bytes": Spec(UINT, "size of the file", "bytes"),
    "wal_bytes": Spec(UINT, "size of the write-ahead log", "bytes"),
    "wal_limit_bytes": Spec(
        UINT, "size at which the write-ahead log is reset, unless another program holds it", "bytes"
    ),
    "wal_held_s": Spec(
        FLOAT,
        "how long a transaction of another program has blocked the reset of the write-ahead log; 0: not blocked",
        "s",
    ),
    "clock_ahead_s": Spec(
        FLOAT, "how far the machine's clock is ahead of the clock that retention uses, as after a jump", "s"
    ),
    "error": Spec(STR, "why the last commit failed; empty: it worked"),
}

SLOW_READERS: Specs = {
    "messages": _count("messages at which a queue became full and began to drop"),
    "moments": _count("periods of dropping: a new one begins after one second without"),
    "last_ts": Spec(UINT, "when a queue last became full; 0: never", "ns since 1970"),
    "large_bytes": Spec(UINT, "bodies above 8 KiB that wait for subscribers", "bytes", when=SINCE_LIMITS),
    "large_dropped": _count(
        "bodies above 8 KiB that were sent to no subscriber, because too many bytes of them waited"
    ).only(SINCE_LIMITS),
}

CONNECTIONS: Specs = {
    "now": _count("connections that are open"),
    "accepted": _count("handshakes that succeeded"),
    "refused": _count("connections refused because the key is not permitted"),
    "failed": _count("all other handshakes that failed"),
    "limit": _count("connections that may be open").only(SINCE_LIMITS),
    "over_limit": _count("connections closed at a connection limit, in all or of one client").only(SINCE_LIMITS),
    "shut_out": _count(
        "connections closed for what they sent or did not read, or because their client lost permissions"
    ).only(SINCE_LIMITS),
}

QUERY: Specs = {
    "requests": _count("requests answered"),
    "errors": _count("requests answered with `ok: false`"),
    "dropped": _count("messages that were not a request, and replies that the client did not receive"),
    "events": _count("events replayed"),
    "cuts": _count("snapshots taken"),
    "busy": _count("requests refused because too many waited"),
    "waiting": _count("requests that wait"),
    "unread_bytes": Spec(UINT, "replies that clients have not read yet", "bytes"),
    "unread": _count("connections closed because they did not read a reply in time"),
    "snapshots": _count("snapshots held for their next pages"),
    "evicted": _count("snapshots discarded for a newer one before their last page was read"),
    "connections": _count("connections that are open"),
    "over_limit": _count("connections closed at a connection limit"),
    "shut_out": _count("connections closed for what they sent"),
    "silent": _count("connections closed because they sent no request: idle, or a duplicate ROUTING_ID"),
}

HEARTBEAT_FIELDS: Specs = {
    "state": Spec(
        STR, "state of the Manager session; `stopping` is in the last heartbeat of a clean stop", words=SESSION_STATES
    ),
    "since": Spec(UINT, "when this state began", "ms since 1970"),
    "reason": Spec(STR, "why the session was lost; empty: it is not lost"),
    "server": Spec(STR, "MT4 server"),
    "version": Spec(STR, "version of the daemon"),
    "protocol": Spec(UINT, "version of this protocol"),
    "interval_s": Spec(FLOAT, "longest time between two heartbeats, delays not included", "s"),
    "uptime_s": Spec(FLOAT, "time since this run of the daemon began", "s"),
    "log": Spec(
        STR,
        "log that offsets refer to; nil: no journal; empty: its file has not been opened yet",
        nullable=True,
    ),
    "offset": Spec(UINT, "offset of the last durable event of the log; 0: none"),
    "offsets": each("last offset by kind", Spec(UINT, "last offset of the kind")),
    "durable": Spec(BOOL, "whether the journal is on and its last commit worked"),
    "journal": fixed("counters of the journal; nil: there is none", JOURNAL, nullable=True),
    "counts": each("events numbered by kind, with or without a subscriber", _count("events of the kind")),
    "sent": _count("messages handed to ZeroMQ"),
    "dropped": _count(
        "records refused by the inbox, see `inbox`; in the last heartbeat also records that a stop left unpublished"
    ),
    "inbox": fixed("the queue between the API and the publisher", INBOX),
    "errors": each("faults by name: each lost one record or one read, and was logged", _count("faults of the name")),
    "skipped": each(
        "records that were received and deliberately not published, by reason", _count("records of the reason")
    ),
    "slow_readers": fixed("messages dropped for subscribers that read too slowly", SLOW_READERS),
    "connections": fixed("subscribers' connections", CONNECTIONS),
    "subscriptions": _count("different prefixes with at least one subscriber"),
    "subscription_bytes": Spec(
        UINT, "text of all subscriptions, counted once per connection", "bytes", when=SINCE_LIMITS
    ),
    "query": fixed("counters of the query endpoint", QUERY),
    "reconnects": _count("sessions after the first"),
    "last_callback_ts": Spec(UINT, "when the API last called back; 0: never", "ns since 1970"),
    "last_quote_ts": Spec(UINT, "when a quote last came; 0: never", "ns since 1970"),
    "server_utc_offset_s": Spec(INT, "server clock minus UTC; nil: not known yet", "s", nullable=True),
    "rss_bytes": Spec(UINT, "memory of the daemon", "bytes"),
    "threads": _count("threads of the daemon"),
    "source": each("counters of the library or the simulator", _count("counter of the name")),
}
