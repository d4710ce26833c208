"""Requests and heads of the query endpoint; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mt4pump.protocol.fields import ANY, BOOL, FLOAT, INT, STR, UINT, Spec, Specs, each, fixed, plain_fields, rows_of

ASKED = "the request has one"
BAD = {
    "bad_request": "not one msgpack map with text keys, or a value of the wrong type or outside its limits",
    "unknown_op": "no such `op`",
    "too_large": "the request is larger than `limits.request_bytes`",
    "forbidden": "none of the topics is allowed to this key",
    "cursor_expired": "the cursor has expired or belongs to another client: start again without a cursor",
    "busy": "too many requests wait, or the snapshot could not be taken in time: ask again",
    "no_journal": "there is no journal to replay from",
    "journal_error": "the journal could not be read: `error` says why",
    "internal_error": "a fault of the daemon, which logs it",
}
"""Codes of a refusal."""

ID = Spec(ANY, "any scalar of at most 64 bytes, echoed in the head", when="the client wants it in the reply")
TOPICS = rows_of(
    "prefixes, at most 256; none, or an empty one: all",
    Spec(STR, "a prefix, as text or bytes"),
    when="the client does not want all topics",
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
        "limit": Spec(
            UINT,
            "largest number of rows per page; exceeded only where one topic has more",
            when="the client does not want the default",
        ),
        "values": Spec(BOOL, "false: only `seqs`, no rows", when="it is false"),
    },
    "replay": {
        "op": _op("replay"),
        "id": ID,
        "topics": TOPICS,
        "after": Spec(UINT, "only events with a larger offset", when="the replay does not start at the first event"),
        "since": Spec(
            UINT, "only events with this `ts` or a later one", "ns since 1970", when="the replay starts at a time"
        ),
        "until": Spec(
            UINT, "only events with this `ts` or an earlier one", "ns since 1970", when="the replay ends at a time"
        ),
        "to": Spec(UINT, "events up to this offset", when="the replay ends at an offset"),
        "limit": Spec(UINT, "largest number of events per page", when="the client does not want the default"),
    },
}
"""Keys of each request by its ``op``."""

_OK = Spec(BOOL, "true")
_ECHO = Spec(ANY, "`id` of the request", when=ASKED)
_EPOCH = Spec(UINT, "epoch of the daemon", "ms since 1970")
_LOG = Spec(
    STR,
    "log that offsets refer to; nil: no journal; empty: its file has not been opened yet",
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
    "page_rows": Spec(UINT, "largest `limit`"),
    "page_bytes": Spec(UINT, "size after which a page ends", "bytes"),
}

HEADS: Mapping[str, Specs] = {
    "error": {
        "ok": Spec(BOOL, "false"),
        "code": Spec(STR, "kind of the refusal", words=tuple(BAD)),
        "error": Spec(STR, "what is wrong and what would be right, as text for people"),
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
        "topic_suffix": Spec(STR, "character that ends every topic on the wire; empty by default"),
        "encoding": Spec(STR, "code page that the server's text was decoded with"),
        "heartbeat_interval_s": Spec(FLOAT, "time between heartbeats", "s"),
        "server_utc_offset_s": Spec(INT, "server clock minus UTC; nil: not known yet", "s", nullable=True),
        "pub_endpoint": Spec(STR, "where events are published"),
        "retention": fixed("age and size limits of the journal", _RETENTION),
        "limits": fixed("limits of a request", _LIMITS),
        "kinds": each("every kind: `topic key codes durable snapshot meaning fields`", Spec(ANY, "a kind")),
        "common": each("keys of every body", Spec(ANY, "a field")),
    },
    "snapshot": {
        "ok": _OK,
        "id": _ECHO,
        "epoch": _EPOCH,
        "log": _LOG,
        "offset": Spec(UINT, "offset of the last durable event in the snapshot"),
        "offsets": _OFFSETS,
        "ts": Spec(UINT, "when the snapshot was taken", "ns since 1970"),
        "seqs": each("last `seq` of each topic of the page, with or without rows", Spec(UINT, "last `seq`")),
        "cursor": Spec(STR, "`cursor` of the request for the next page; nil: this is the last page", nullable=True),
    },
    "replay": {
        "ok": _OK,
        "id": _ECHO,
        "log": _LOG,
        "epoch": _EPOCH,
        "whole": Spec(BOOL, "false: events of the requested range were deleted, or published without being stored"),
        "first_available": Spec(UINT, "oldest offset that is still stored; 0: none"),
        "next": Spec(UINT, "`after` of the request for the next page; nil: this is the last page", nullable=True),
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
