"""Requests and heads of the query endpoint; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mt4pump.protocol.fields import ANY, BOOL, FLOAT, INT, STR, UINT, Spec, Specs, each, fixed, plain_fields, rows_of

ASKED = "the request has one"
BAD = {
    "bad_request": "not one msgpack map with text keys, or a value of the wrong type or out of its bounds",
    "unknown_op": "no such `op`",
    "too_large": "the request is larger than `limits.request_bytes`",
    "forbidden": "none of the topics is allowed to this key",
    "cursor_expired": "the cut of this cursor is gone, or is not this client's: begin again without a cursor",
    "busy": "too much waits, or the cut could not be made in time: ask again",
    "no_journal": "there is no journal to replay from",
    "journal_error": "the journal could not be read: `error` says why",
    "internal_error": "a fault of the daemon: it is logged there",
}
"""Codes of a refusal."""

ID = Spec(ANY, "any scalar of at most 64 bytes, echoed in the head", when="the asker wants it back")
TOPICS = rows_of(
    "prefixes, at most 256; none, or an empty one: all",
    Spec(STR, "a prefix, as text or bytes"),
    when="not everything is asked for",
)


def _op(word: str) -> Spec:
    return Spec(STR, word, words=(word,))


REQUESTS: Mapping[str, Specs] = {
    "describe": {"op": _op("describe"), "id": ID},
    "snapshot": {
        "op": _op("snapshot"),
        "id": ID,
        "topics": TOPICS,
        "cursor": Spec(STR, "`cursor` of the page before, as it came", when="it is not the first page"),
        "limit": Spec(UINT, "most rows of a page; more only where one topic has more", when="the usual is not wanted"),
        "values": Spec(BOOL, "false: only `seqs`, no rows", when="it is false"),
    },
    "replay": {
        "op": _op("replay"),
        "id": ID,
        "topics": TOPICS,
        "after": Spec(UINT, "only events with a larger offset", when="it does not begin with the first"),
        "since": Spec(UINT, "only events with this `ts` or a later one", "ns since 1970", when="a moment begins it"),
        "until": Spec(UINT, "only events with this `ts` or an earlier one", "ns since 1970", when="a moment ends it"),
        "to": Spec(UINT, "events up to this offset", when="an offset ends it"),
        "limit": Spec(UINT, "most events of a page", when="the usual is not wanted"),
    },
}
"""Keys of each request by its ``op``."""

_OK = Spec(BOOL, "true")
_ECHO = Spec(ANY, "`id` of the request", when=ASKED)
_EPOCH = Spec(UINT, "epoch of the daemon", "ms since 1970")
_LOG = Spec(
    STR,
    "identity of the log that offsets count in; nil: no journal; empty: its file was never opened yet",
    nullable=True,
)
_OFFSETS = each("last offset by kind", Spec(UINT, "last offset of the kind"))

_RETENTION: Specs = {
    "max_age_s": Spec(FLOAT, "age after which events may be deleted; 0: none", "s"),
    "max_bytes": Spec(UINT, "size above which the oldest are deleted", "bytes"),
}
_LIMITS: Specs = {
    "request_bytes": Spec(UINT, "size of a request", "bytes"),
    "prefixes": Spec(UINT, "prefixes in `topics`"),
    "page_rows": Spec(UINT, "greatest `limit`"),
    "page_bytes": Spec(UINT, "size after which a page ends", "bytes"),
}

HEADS: Mapping[str, Specs] = {
    "error": {
        "ok": Spec(BOOL, "false"),
        "code": Spec(STR, "what kind of refusal it is", words=tuple(BAD)),
        "error": Spec(STR, "what is wrong, and what would be right, in words"),
        "id": _ECHO,
    },
    "describe": {
        "ok": _OK,
        "id": _ECHO,
        "protocol": Spec(UINT, "version of this protocol"),
        "version": Spec(STR, "version of the daemon"),
        "epoch": _EPOCH,
        "log": _LOG,
        "offset": Spec(UINT, "offset of the last durable event; 0: none"),
        "offsets": _OFFSETS,
        "durable": Spec(BOOL, "whether the journal is on and its last commit worked"),
        "topic_suffix": Spec(STR, "what every topic on the wire ends in; mostly empty"),
        "encoding": Spec(STR, "code page that the server's text was decoded with"),
        "heartbeat_interval_s": Spec(FLOAT, "time between heartbeats", "s"),
        "server_utc_offset_s": Spec(INT, "server clock minus UTC; nil: not known yet", "s", nullable=True),
        "pub_endpoint": Spec(STR, "where events are published"),
        "retention": fixed("how long, and how much, the journal keeps", _RETENTION),
        "limits": fixed("what requests may ask for", _LIMITS),
        "kinds": each("every kind: `topic key codes durable snapshot meaning fields`", Spec(ANY, "a kind")),
        "common": each("keys of every body", Spec(ANY, "a field")),
    },
    "snapshot": {
        "ok": _OK,
        "id": _ECHO,
        "epoch": _EPOCH,
        "log": _LOG,
        "offset": Spec(UINT, "offset of the last durable event at the cut"),
        "offsets": _OFFSETS,
        "ts": Spec(UINT, "when the cut was made", "ns since 1970"),
        "seqs": each("last `seq` of each topic of the page, with or without rows", Spec(UINT, "last `seq`")),
        "cursor": Spec(STR, "what to ask the next page with; nil: this is the last", nullable=True),
    },
    "replay": {
        "ok": _OK,
        "id": _ECHO,
        "log": _LOG,
        "epoch": _EPOCH,
        "whole": Spec(BOOL, "false: events of the range asked for were deleted, or published without being stored"),
        "first_available": Spec(UINT, "oldest offset that is still stored; 0: none"),
        "next": Spec(UINT, "`after` of the next page; nil: this is the last", nullable=True),
        "last": Spec(UINT, "offset of the last durable event"),
        "count": Spec(UINT, "events in this reply"),
    },
}
"""Keys of each reply's head by the request's ``op``; ``error`` is that of a refusal."""


def queries() -> dict[str, Any]:
    """Return requests, heads and codes as plain values."""
    return {
        "requests": {op: plain_fields(specs) for op, specs in REQUESTS.items()},
        "heads": {name: plain_fields(specs) for name, specs in HEADS.items()},
        "codes": dict(BAD),
    }
