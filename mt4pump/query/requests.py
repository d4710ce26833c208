"""Request bytes to typed values; pure.

A request is one msgpack map with text keys. Keys that are not known are ignored; known ones must be right. Everything
that is wrong is a `RequestError`, whose text names the key, what came, and what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mt4pump.errors import FrameError, PumpError
from mt4pump.unpacking import UnpackLimits, unpack

BAD_REQUEST, UNKNOWN_OP, TOO_LARGE, FORBIDDEN = "bad_request", "unknown_op", "too_large", "forbidden"
CURSOR_EXPIRED, BUSY, NO_JOURNAL = "cursor_expired", "busy", "no_journal"
JOURNAL_ERROR, INTERNAL_ERROR = "journal_error", "internal_error"
CODES = (
    *(BAD_REQUEST, UNKNOWN_OP, TOO_LARGE, FORBIDDEN, CURSOR_EXPIRED, BUSY),
    *(NO_JOURNAL, JOURNAL_ERROR, INTERNAL_ERROR),
)

EVERY_TOPIC = (b"",)
ID_BYTES = 64
PREFIX_BYTES = 1_024
GREATEST = 2**63 - 1
"""Offsets and times are what SQLite's integers hold."""
CURSOR = re.compile(r"([0-9a-f]{32})\.([0-9]{1,9})")
SHOWN_CHARS = 60
REQUEST = UnpackLimits(list_entries=1_024, map_entries=64, values=1_024, reserved=16_384, unique=True)
"""What the bytes of a request may hold."""


class RequestError(PumpError):
    """A request that gets no answer but why. ``code`` is one of `CODES`."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What a request may ask for: its size in bytes, its prefixes, its ``limit`` if it gives none and at most."""

    max_request_bytes: int
    max_prefixes: int
    page_rows: int
    limit_rows: int


class Cursor(NamedTuple):
    """Where a snapshot goes on: in the cut ``token``, at its topic number ``start``."""

    token: str
    start: int

    def __str__(self) -> str:
        return f"{self.token}.{self.start}"


@dataclass(frozen=True, slots=True)
class DescribeRequest:
    """Asks what this daemon publishes."""


@dataclass(frozen=True, slots=True)
class SnapshotQuery:
    """Asks for a page of last values; with a ``cursor`` the next page of a cut that was made before."""

    topics: tuple[bytes, ...]
    cursor: Cursor | None
    limit: int
    values: bool


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """Asks for a page of stored events: offsets over ``after`` up to ``to``, times (ns) ``since`` to ``until``."""

    topics: tuple[bytes, ...]
    after: int
    to: int | None
    since: int | None
    until: int | None
    limit: int


Request = DescribeRequest | SnapshotQuery | ReplayRequest


def unpacked(payload: bytes | None, limits: QueryLimits) -> dict[str, Any]:
    """Return the map that a request is; None is a message of too many frames. Raises Refusal."""
    if payload is None:
        raise RequestError(BAD_REQUEST, "the request is not one frame: send one msgpack map, as {op: 'describe'}")
    if len(payload) > limits.max_request_bytes:
        raise RequestError(
            TOO_LARGE, f"the request is {len(payload)} bytes: at most {limits.max_request_bytes} are read"
        )
    if not payload:
        raise RequestError(BAD_REQUEST, "the request is empty: send one msgpack map, as {op: 'describe'}")
    try:
        fields = unpack(payload, REQUEST)
    except FrameError as error:
        raise RequestError(BAD_REQUEST, f"the request is not one msgpack map with text keys: {error}") from error
    if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
        raise RequestError(BAD_REQUEST, f"the request is {shown(fields)}: send one msgpack map with text keys")
    return fields


def echo(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``id`` to send back, as a map of itself; raises Refusal when it is none."""
    if "id" not in fields:
        return {}
    name = fields["id"]
    is_scalar = name is None or isinstance(name, (bool, int, float, str, bytes))
    size = len(name.encode()) if isinstance(name, str) else len(name) if isinstance(name, bytes) else 0
    if not is_scalar or size > ID_BYTES:
        raise _wrong("id", name, f"a number or a text of at most {ID_BYTES} bytes")
    return {"id": name}


def read(fields: Mapping[str, Any], limits: QueryLimits) -> Request:
    """Return the request that ``fields`` are; raises Refusal."""
    op = fields.get("op")
    if not isinstance(op, str):
        raise _wrong("op", op, "'describe', 'snapshot' or 'replay'")
    if op == "describe":
        return DescribeRequest()
    if op == "snapshot":
        return _snapshot(fields, limits)
    if op == "replay":
        return _replay(fields, limits)
    raise RequestError(UNKNOWN_OP, f"`op` is {shown(op)}: use 'describe', 'snapshot' or 'replay'")


def _snapshot(fields: Mapping[str, Any], limits: QueryLimits) -> SnapshotQuery:
    values = fields.get("values")
    if values is not None and not isinstance(values, bool):
        raise _wrong("values", values, "true or false")
    return SnapshotQuery(
        topics=_topics(fields, limits),
        cursor=_cursor(fields.get("cursor")),
        limit=_limit(fields, limits),
        values=values is not False,
    )


def _replay(fields: Mapping[str, Any], limits: QueryLimits) -> ReplayRequest:
    return ReplayRequest(
        topics=_topics(fields, limits),
        after=_number(fields, "after") or 0,
        to=_number(fields, "to"),
        since=_number(fields, "since"),
        until=_number(fields, "until"),
        limit=_limit(fields, limits),
    )


def _topics(fields: Mapping[str, Any], limits: QueryLimits) -> tuple[bytes, ...]:
    """Return the prefixes asked for, none of them within another; all topics where nothing is asked for."""
    given = fields.get("topics")
    if given is None:
        return EVERY_TOPIC
    if not isinstance(given, list):
        raise _wrong("topics", given, "a list of prefixes, as ['quote.', 'trade.1001']")
    if len(given) > limits.max_prefixes:
        text = (
            f"`topics` has {len(given)} prefixes: use at most {limits.max_prefixes}, shorter ones or several requests"
        )
        raise RequestError(BAD_REQUEST, text)
    return outermost([_prefix(each, place) for place, each in enumerate(given)]) or EVERY_TOPIC


def _prefix(value: object, place: int) -> bytes:
    prefix = value.encode() if isinstance(value, str) else value
    if not isinstance(prefix, bytes) or len(prefix) > PREFIX_BYTES:
        raise _wrong(f"topics[{place}]", value, f"a text of at most {PREFIX_BYTES} bytes, as 'quote.EURUSD'")
    return prefix


def outermost(prefixes: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return ``prefixes`` sorted, without those that another one covers."""
    kept: list[bytes] = []
    for prefix in sorted(prefixes):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return tuple(kept)


def _cursor(value: object) -> Cursor | None:
    if value is None:
        return None
    match = CURSOR.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise _wrong("cursor", value, "what the page before gave as `cursor`")
    return Cursor(match[1], int(match[2]))


def _limit(fields: Mapping[str, Any], limits: QueryLimits) -> int:
    value = fields.get("limit")
    if value is None:
        return limits.page_rows
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= limits.limit_rows:
        raise _wrong("limit", value, f"an integer from 1 to {limits.limit_rows}")
    return value


def _number(fields: Mapping[str, Any], key: str) -> int | None:
    value = fields.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= GREATEST:
        meaning = "ns since 1970" if key in {"since", "until"} else "an offset"
        raise _wrong(key, value, f"an integer from 0 to {GREATEST} ({meaning})")
    return value


def _wrong(key: str, value: object, right: str) -> RequestError:
    return RequestError(BAD_REQUEST, f"`{key}` is {shown(value)}: use {right}")


def shown(value: object) -> str:
    """Return ``value`` in a few characters, whatever it is."""
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
