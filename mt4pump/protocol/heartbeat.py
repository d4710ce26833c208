"""The body of a heartbeat, nested maps included; pure."""

from __future__ import annotations

from mt4pump.protocol.fields import BOOL, FLOAT, INT, STR, UINT, Spec, Specs, each, fixed

SESSION_STATES = ("connecting", "logged_in", "pumping", "lost", "stopping")


SINCE_LIMITS = "the daemon counts it, which earlier ones did not"


def _count(meaning: str) -> Spec:
    return Spec(UINT, meaning)


INBOX: Specs = {
    "waiting": _count("records that wait to be published"),
    "limit": _count("how many may"),
    "received": _count("calls of the pump callback"),
    "coalesced": _count("bells that rang while one of the same code was waiting: nothing is lost by them"),
    "refused": _count("records that did not fit: tables are re-read afterwards, see `dropped`"),
}

JOURNAL: Specs = {
    "stored": _count("durable events committed"),
    "unstored": _count("durable events published without an offset, because a commit failed"),
    "commits": _count("transactions"),
    "errors": _count("transactions and openings that failed"),
    "set_aside": _count("damaged files put aside"),
    "deleted": _count("events deleted by retention"),
    "first_offset": Spec(UINT, "oldest event that is still stored; 0: none"),
    "size_bytes": Spec(UINT, "size of the file", "bytes"),
    "wal_bytes": Spec(UINT, "size of its write-ahead log", "bytes"),
    "wal_limit_bytes": Spec(UINT, "size from which that log is begun anew, unless another program holds it", "bytes"),
    "wal_held_s": Spec(
        FLOAT, "how long a transaction of another program has kept that log from being emptied; 0: none does", "s"
    ),
    "clock_ahead_s": Spec(
        FLOAT, "how far the machine's clock is ahead of the time that retention believes, as after a jump", "s"
    ),
    "error": Spec(STR, "why the last commit failed; empty: it worked"),
}

SLOW_READERS: Specs = {
    "messages": _count("messages that a full queue was the first time, or the first time again, not to take"),
    "moments": _count("times that this began after a second without"),
    "last_ts": Spec(UINT, "when that last happened; 0: never", "ns since 1970"),
    "large_bytes": Spec(UINT, "bodies above 8 KiB that wait for subscribers", "bytes", when=SINCE_LIMITS),
    "large_dropped": _count("bodies above 8 KiB that were sent to nobody, as too many of these waited").only(
        SINCE_LIMITS
    ),
}

CONNECTIONS: Specs = {
    "now": _count("connections that are open"),
    "accepted": _count("handshakes that succeeded"),
    "refused": _count("connections of a key that may not enter"),
    "failed": _count("all other handshakes that failed"),
    "limit": _count("connections that may be open").only(SINCE_LIMITS),
    "over_limit": _count("connections closed because there were too many, in all or of one client").only(SINCE_LIMITS),
    "shut_out": _count(
        "connections closed for what they sent or did not read, or because their client lost permissions"
    ).only(SINCE_LIMITS),
}

QUERY: Specs = {
    "requests": _count("requests answered"),
    "errors": _count("requests answered with `ok: false`"),
    "dropped": _count("messages that were no request, and answers that their asker did not take"),
    "events": _count("events replayed"),
    "cuts": _count("snapshots cut"),
    "busy": _count("requests refused because too much waited"),
    "waiting": _count("requests that wait"),
    "unread_bytes": Spec(UINT, "replies that their askers did not read yet", "bytes"),
    "unread": _count("connections closed because they did not read a reply in time"),
    "snapshots": _count("snapshots held for their next pages"),
    "evicted": _count("snapshots given up before they were read to their end, for another one"),
    "connections": _count("connections that are open"),
    "over_limit": _count("connections closed because there were too many"),
    "shut_out": _count("connections closed for what they sent"),
    "silent": _count("connections closed because they asked nothing: idle, or a ROUTING_ID that another one has"),
}

HEARTBEAT_FIELDS: Specs = {
    "state": Spec(
        STR, "what the session is doing; `stopping` is in the last heartbeat of a clean stop", words=SESSION_STATES
    ),
    "since": Spec(UINT, "since when", "ms since 1970"),
    "reason": Spec(STR, "why the session was lost; empty: it was not"),
    "server": Spec(STR, "MT4 server"),
    "version": Spec(STR, "version of the daemon"),
    "protocol": Spec(UINT, "version of this protocol"),
    "interval_s": Spec(FLOAT, "how long until the next heartbeat at the latest, plus its delays", "s"),
    "uptime_s": Spec(FLOAT, "age of this life of the daemon", "s"),
    "log": Spec(
        STR,
        "identity of the log that offsets count in; nil: no journal; empty: its file was never opened yet",
        nullable=True,
    ),
    "offset": Spec(UINT, "offset of the last durable event, ever; 0: none"),
    "offsets": each("last offset by kind", Spec(UINT, "last offset of the kind")),
    "durable": Spec(BOOL, "whether the journal is on and its last commit worked"),
    "journal": fixed("counters of the journal; nil: there is none", JOURNAL, nullable=True),
    "counts": each("events numbered by kind, with or without a subscriber", _count("events of the kind")),
    "sent": _count("messages handed to ZeroMQ"),
    "dropped": _count(
        "records refused by the inbox, see `inbox`; in the last heartbeat also those that a stop left untold"
    ),
    "inbox": fixed("the queue between the API and the publisher", INBOX),
    "errors": each("faults by name: each cost one record or one read, and is logged", _count("faults of the name")),
    "skipped": each("what was taken in and told on purpose to nobody, by reason", _count("records of the reason")),
    "slow_readers": fixed("messages lost on the way to subscribers that read too slowly", SLOW_READERS),
    "connections": fixed("subscribers' connections", CONNECTIONS),
    "subscriptions": _count("different prefixes that somebody is subscribed to"),
    "subscription_bytes": Spec(
        UINT, "texts of all subscriptions, each as often as it is held", "bytes", when=SINCE_LIMITS
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
