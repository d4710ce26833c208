"""The JSON protocol: text → request, event → text; pure.

A message from a client is one JSON object with ``action``; ``id`` (text or integer) comes back in the reply. What a
client gets has ``type``. Quotes that were asked for by ``symbols`` have exactly six fields, ``spread`` in pips; what
was asked for by ``topics`` has the topic and the whole body as the daemon published it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mt4pump.client.topic_state import unmatched, whole_kind
from mt4pump_consumers.gateway.topics import is_name

Json = dict[str, Any]

UNAUTHENTICATED, FORBIDDEN, BAD_JSON, BAD_REQUEST = "unauthenticated", "forbidden", "bad_json", "bad_request"
UNKNOWN_ACTION, TOO_MANY, TOO_FAST = "unknown_action", "too_many", "too_fast"
UNAVAILABLE, INTERNAL = "unavailable", "internal"
"""``code`` of an error reply."""

CLOSE_STOP, CLOSE_AUTH, CLOSE_EXPIRED, CLOSE_SLOW, CLOSE_FLOOD = 1001, 4401, 4403, 4408, 4429
"""Close codes: the gateway stops; no token in time; token expired or withdrawn; too slow; too many messages."""

WINDOW_LIMIT_S = 5.0
"""Longest batching window that a client may ask for."""
CHECKED_LIMIT = 10
"""Topics of a request that are checked for names which can match nothing."""
MINI_PIP_DIGITS = (3, 5)
"""Prices with these digits are quoted in tenths of a pip."""


class ClientRequestError(Exception):
    """A message that cannot be done; ``code`` is for programs. The client receives it, and stays connected."""

    def __init__(self, code: str, text: str, number: str | int | None = None) -> None:
        super().__init__(text)
        self.code, self.number = code, number


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """One message of a client; fields that its action does not use are empty. ``number`` is its ``id``."""

    action: str
    number: str | int | None = None
    symbols: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    token: str = field(default="", repr=False)
    window_s: float = 0.0
    offset: int = 0
    log: str | None = None


def parse(text: str | bytes, most: int | None = None) -> ClientRequest:
    """Return the request in ``text``, which may have ``most`` characters; raises ClientRequestError."""
    if most is not None and len(text) > most:
        raise ClientRequestError(UNAUTHENTICATED, "log in first; this message is too long for a token")
    if isinstance(text, bytes):
        raise ClientRequestError(BAD_JSON, "messages are text, this one is binary")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise ClientRequestError(BAD_JSON, "message is not JSON") from None
    if not isinstance(message, dict):
        raise ClientRequestError(BAD_JSON, "message is not a JSON object")
    number = message.get("id")
    if isinstance(number, bool) or not isinstance(number, str | int | None) or len(str(number)) > 64:
        raise ClientRequestError(BAD_REQUEST, "id must be a text or an integer of at most 64 characters")
    action = message.get("action")
    if not isinstance(action, str) or action not in _READERS:
        known = ", ".join(sorted(_READERS))
        raise ClientRequestError(UNKNOWN_ACTION, f"action must be one of {known}", number)
    try:
        return ClientRequest(action, number, **_READERS[action](message))
    except ClientRequestError as error:
        raise ClientRequestError(error.code, str(error), number) from None


def _names(message: Json, key: str) -> tuple[str, ...]:
    names = message.get(key, [])
    if not isinstance(names, list) or not all(is_name(name) for name in names):
        raise ClientRequestError(BAD_REQUEST, f"{key} must be a list of names or patterns of at most 200 characters")
    return tuple(dict.fromkeys(names))


def _topics(message: Json) -> tuple[str, ...]:
    return tuple(map(whole_kind, _names(message, "topics")))


def _interest(message: Json) -> Json:
    if "symbols" not in message and "topics" not in message:
        raise ClientRequestError(BAD_REQUEST, 'symbols or topics is missing: give a list, as "symbols": ["EURUSD"]')
    return {"symbols": _names(message, "symbols"), "topics": _topics(message)}


def _resume(message: Json) -> Json:
    offset, log = message.get("offset"), message.get("log")
    if isinstance(offset, bool) or not isinstance(offset, int) or not 0 <= offset < 2**63:
        raise ClientRequestError(
            BAD_REQUEST, "offset must be the last `confirmed` (or resume's `offset`) you got, or 0"
        )
    if not isinstance(log, str | None):
        raise ClientRequestError(BAD_REQUEST, "log must be the text that came with the status, or be left out")
    topics = _topics(message)
    if not topics:
        raise ClientRequestError(BAD_REQUEST, "topics is missing: resume is for stored events, as trade.*")
    return {"topics": topics, "offset": offset, "log": log}


def _auth(message: Json) -> Json:
    token = message.get("token")
    if not isinstance(token, str) or not token:
        raise ClientRequestError(BAD_REQUEST, "token must be a text")
    return {"token": token}


def _batch(message: Json) -> Json:
    window_s = message.get("window_s")
    if isinstance(window_s, bool) or not isinstance(window_s, int | float) or not 0 <= window_s <= WINDOW_LIMIT_S:
        raise ClientRequestError(BAD_REQUEST, f"window_s must be seconds from 0 (off) to {WINDOW_LIMIT_S:g}")
    return {"window_s": float(window_s)}


def _history(message: Json) -> Json:
    symbol = message.get("symbol")
    if not is_name(symbol):
        raise ClientRequestError(BAD_REQUEST, "symbol must be the name of one symbol, at most 200 characters")
    return {"symbols": (symbol,)}


def _nothing(_message: Json) -> Json:
    return {}


_READERS: dict[str, Callable[[Json], Json]] = {
    "subscribe": _interest,
    "unsubscribe": _interest,
    "resume": _resume,
    "auth": _auth,
    "batch": _batch,
    "history": _history,
    "status": _nothing,
}


def pips(bid: float, ask: float, digits: int) -> float:
    """Return the spread in pips: ten points where prices have 3 or 5 digits, else one."""
    points = (ask - bid) * 10.0**digits
    return round(points / 10 if digits in MINI_PIP_DIGITS else points, 1)


def quote_message(body: Mapping[str, Any]) -> Json:
    """Return a quote as subscribers of ``symbols`` get it."""
    bid, ask, digits = body["bid"], body["ask"], body["digits"]
    data = {"symbol": body["symbol"], "bid": bid, "ask": ask, "spread": pips(bid, ask, digits)}
    return {"type": "quote", "data": {**data, "time": body["time"], "digits": digits}}


def event_message(
    kind: str, topic: str, body: Mapping[str, Any], *, snapshot: bool = False, confirmed: int | None = None
) -> Json:
    """Return an event as subscribers of ``topics`` get it; ``confirmed`` is where to resume from after it."""
    message: Json = {"type": kind, "topic": topic, "data": body}
    if confirmed is not None:
        message["confirmed"] = confirmed
    return {**message, "snapshot": True} if snapshot else message


def subscription_message(
    symbols: Iterable[str], topics: Iterable[str], number: str | int | None, fresh: Sequence[str] = ()
) -> Json:
    """Return the reply to subscribe and unsubscribe: what the client has now.

    ``warnings``: which of the topics just asked for, ``fresh``, can match nothing; of the first few, as it takes time.
    """
    message: Json = {"type": "subscription", "status": "success", "symbols": list(symbols)}
    if names := list(topics):
        message["topics"] = names
    if warnings := unmatched(fresh[:CHECKED_LIMIT]):
        message["warnings"] = warnings
    return numbered(message, number)


def error_message(error: ClientRequestError) -> Json:
    """Return the reply to what cannot be done."""
    return numbered({"type": "error", "message": str(error), "code": error.code}, error.number)


def numbered(message: Json, number: str | int | None) -> Json:
    """Return ``message`` with the request's ``id`` where it had one."""
    return message if number is None else {**message, "id": number}


def encode(message: Json) -> bytes:
    """Return ``message`` as JSON. Numbers that JSON has not (NaN, infinite) become null, bytes become text."""
    try:
        return _dumps(message).encode()
    except (ValueError, TypeError, UnicodeEncodeError):
        return _dumps(_plain(message)).encode("utf-8", "replace")


_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
