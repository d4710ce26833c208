"""Frames of a message to a typed request; pure.

A request is one msgpack map with text keys. Unknown keys are ignored; known ones must be right. Whatever is wrong is a
`RequestError`, whose text names the key, the value received, and what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from mt4pump.errors import FrameError, PumpError
from mt4pump.query.limits import QueryOptions
from mt4pump.wire import NUMBER_MAX, Body, UnpackLimits, outermost, unpack

ROUTING_LIMIT, ROUTING_BYTES = 8, 255
"""Frames before the empty one, and bytes of each, at most; libzmq allows so many bytes for a routing id."""
FRAMES_LIMIT = ROUTING_LIMIT + 3
"""More than any request has: further frames of a message are not kept."""

Code = Literal[
    "bad_request",
    "unknown_op",
    "too_large",
    "forbidden",
    "cursor_expired",
    "busy",
    "no_journal",
    "journal_error",
    "internal_error",
]
CODES: tuple[Code, ...] = get_args(Code)

EVERY_TOPIC = (b"",)
ID_BYTES = 64
PREFIX_BYTES = 1_024
CURSOR = re.compile(r"([0-9a-f]{32})\.([0-9]{1,9})")
SHOWN_CHARS = 60
REQUEST = UnpackLimits(list_entries=1_024, map_entries=64, values=1_024, reserved=16_384, unique=True)
"""What the bytes of a request may hold."""


class RequestError(PumpError):
    """A request that gets only an error as its reply. ``code`` is one of `CODES`."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


class Envelope(NamedTuple):
    """A message without the routing id: ``routing`` frames, and the payload; None if it is not exactly one frame."""

    routing: tuple[bytes, ...]
    payload: bytes | None


class Cursor(NamedTuple):
    """Where a snapshot continues: the snapshot ``token``, at its topic number ``start``."""

    token: str
    start: int

    def __str__(self) -> str:
        return f"{self.token}.{self.start}"


class ParsedRequest(NamedTuple):
    """A request with the fields of its ``op``: ``describe``, ``snapshot`` or ``replay``.

    A snapshot with a ``cursor`` asks for the next page of an earlier one, without ``values`` only for the numbers of
    topics. A replay asks for offsets above ``after`` up to ``to``, and times (ns) ``since`` to ``until``.
    """

    op: str
    topics: tuple[bytes, ...] = EVERY_TOPIC
    limit: int = 0
    cursor: Cursor | None = None
    values: bool = True
    after: int = 0
    to: int | None = None
    since: int | None = None
    until: int | None = None


def parse_envelope(frames: Sequence[bytes]) -> Envelope:
    """Return envelope and payload of the frames that followed the routing id."""
    head = list(frames[: ROUTING_LIMIT + 1])
    if b"" not in head or len(frames) == 1:
        return Envelope((), frames[0] if len(frames) == 1 else None)
    end = head.index(b"") + 1
    if any(len(frame) > ROUTING_BYTES for frame in head[:end]):
        return Envelope((), None)
    return Envelope(tuple(head[:end]), frames[end] if len(frames) == end + 1 else None)


def unpack_request(payload: bytes | None, options: QueryOptions) -> dict[str, Any]:
    """Return the map of a request; None is a message of too many frames. Raises RequestError."""
    if payload is None:
        raise RequestError("bad_request", "the request is not one frame: send one msgpack map, as {op: 'describe'}")
    if len(payload) > options.max_request_bytes:
        raise RequestError(
            "too_large", f"the request is {len(payload)} bytes: at most {options.max_request_bytes} are read"
        )
    if not payload:
        raise RequestError("bad_request", "the request is empty: send one msgpack map, as {op: 'describe'}")
    try:
        fields = unpack(payload, REQUEST)
    except FrameError as error:
        raise RequestError("bad_request", f"the request is not one msgpack map with text keys: {error}") from error
    if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
        raise RequestError("bad_request", f"the request is {shown(fields)}: send one msgpack map with text keys")
    return fields


def request_id(fields: Mapping[str, Any]) -> Body:
    """Return the ``id`` to echo, as a map of itself, or an empty map; raises RequestError."""
    if "id" not in fields:
        return {}
    value = fields["id"]
    size = len(value.encode()) if isinstance(value, str) else len(value) if isinstance(value, bytes) else 0
    if not (value is None or isinstance(value, (bool, int, float, str, bytes))) or size > ID_BYTES:
        raise _wrong("id", value, f"a number or a text of at most {ID_BYTES} bytes")
    return {"id": value}


def parse_request(fields: Mapping[str, Any], options: QueryOptions) -> ParsedRequest:
    """Return the request in ``fields``; raises RequestError."""
    op = fields.get("op")
    if not isinstance(op, str):
        raise _wrong("op", op, "'describe', 'snapshot' or 'replay'")
    if op == "describe":
        return ParsedRequest(op)
    if op not in {"snapshot", "replay"}:
        raise RequestError("unknown_op", f"`op` is {shown(op)}: use 'describe', 'snapshot' or 'replay'")
    topics = _topics(fields, options)
    limit = _integer(fields, "limit", 1, options.limit_rows) or options.page_rows
    if op == "snapshot":
        values = fields.get("values")
        if values is not None and not isinstance(values, bool):
            raise _wrong("values", values, "true or false")
        return ParsedRequest(op, topics, limit, parse_cursor(fields.get("cursor")), values=values is not False)
    return ParsedRequest(
        op,
        topics,
        limit,
        after=_integer(fields, "after", 0, NUMBER_MAX, " (an offset)") or 0,
        to=_integer(fields, "to", 0, NUMBER_MAX, " (an offset)"),
        since=_integer(fields, "since", 0, NUMBER_MAX, " (ns since 1970)"),
        until=_integer(fields, "until", 0, NUMBER_MAX, " (ns since 1970)"),
    )


def parse_cursor(value: object) -> Cursor | None:
    """Return the cursor that ``value`` writes, None for none; raises RequestError."""
    if value is None:
        return None
    match = CURSOR.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise _wrong("cursor", value, "what the page before gave as `cursor`")
    return Cursor(match[1], int(match[2]))


def shown(value: object) -> str:
    """Return any ``value`` in a few characters."""
    if value is None:
        return "missing or nil"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"a map of {len(value)}"
    if not isinstance(value, (bool, int, float, str, bytes)):
        return f"a msgpack {type(value).__name__}"
    text = repr(value[:SHOWN_CHARS] if isinstance(value, (str, bytes)) else value)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"


def _topics(fields: Mapping[str, Any], options: QueryOptions) -> tuple[bytes, ...]:
    given = fields.get("topics")
    if given is None:
        return EVERY_TOPIC
    if not isinstance(given, list):
        raise _wrong("topics", given, "a list of prefixes, as ['quote.', 'trade.1001']")
    if len(given) > options.max_prefixes:
        text = f"use at most {options.max_prefixes}, shorter ones or several requests"
        raise RequestError("bad_request", f"`topics` has {len(given)} prefixes: {text}")
    prefixes = [each.encode() if isinstance(each, str) else each for each in given]
    for place, prefix in enumerate(prefixes):
        if not isinstance(prefix, bytes) or len(prefix) > PREFIX_BYTES:
            text = f"a text of at most {PREFIX_BYTES} bytes, as 'quote.EURUSD'"
            raise _wrong(f"topics[{place}]", given[place], text)
    return outermost(prefixes) or EVERY_TOPIC


def _integer(fields: Mapping[str, Any], key: str, low: int, high: int, meaning: str = "") -> int | None:
    value = fields.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _wrong(key, value, f"an integer from {low} to {high}{meaning}")
    return value


def _wrong(key: str, value: object, right: str) -> RequestError:
    return RequestError("bad_request", f"`{key}` is {shown(value)}: use {right}")
