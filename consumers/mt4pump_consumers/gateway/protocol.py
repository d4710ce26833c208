"""The JSON protocol: text → request, event → text, state of the daemon → text; pure.

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

from mt4pump.client import Notice
from mt4pump.client import Status as DaemonStatus
from mt4pump.client.liveness import PUMPING
from mt4pump.client.topic_state import unmatched, whole_kind
from mt4pump_consumers.gateway.tokens import Grant
from mt4pump_consumers.gateway.topics import CHECKED_LIMIT, is_name

Json = dict[str, Any]

UNAUTHENTICATED, FORBIDDEN, BAD_JSON, BAD_REQUEST = "unauthenticated", "forbidden", "bad_json", "bad_request"
UNKNOWN_ACTION, TOO_MANY, TOO_FAST = "unknown_action", "too_many", "too_fast"
UNAVAILABLE, INTERNAL = "unavailable", "internal"
"""``code`` of an error reply."""

CLOSE_STOP, CLOSE_AUTH, CLOSE_EXPIRED, CLOSE_SLOW, CLOSE_FLOOD = 1001, 4401, 4403, 4408, 4429
"""Close codes: the gateway stops; no token in time; token expired or withdrawn; too slow; too many messages."""

WINDOW_LIMIT_S = 5.0
"""Longest batching window that a client may ask for."""
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


LIVE, NO_FEED, SILENT = "live", "no_feed", "silent"
"""``feed``: quotes flow; the daemon runs without a session; no heartbeat of the daemon."""
HEARTBEAT = "heartbeat"
"""The topic that a token must allow for server, version and reasons, which the heartbeat has as well."""
PUBLIC_TEXTS: Mapping[str, str] = {
    "connected": "the gateway is connected to the daemon",
    "disconnected": "the gateway's connection to the daemon broke; it is made again",
    "restarted": "the daemon was restarted",
    "gap": "events are missing; they are asked for",
    "healed": "missing events were delivered later",
    "lost": "events are lost",
    "not_whole": "events of the past are lost",
    "silent": "no heartbeat of the daemon arrives",
    "alive": "heartbeats of the daemon arrive again",
    "feed_lost": "the daemon is there, its session is not",
    "feed_back": "the daemon's session runs",
    "lagging": "the gateway is behind",
    "caught_up": "the gateway is up to date again",
    "query_failed": "a query to the daemon failed",
    "malformed": "messages that no daemon sends were dropped",
    "refreshed": "last values were read anew, as events were lost; subscribe again for them",
}
"""Texts for all other clients: those of the client library may name addresses, servers and logins."""


def feed_state(status: DaemonStatus) -> str:
    """Return the state of the whole feed in one word."""
    if not status.alive:
        return SILENT
    return LIVE if status.state == PUMPING else NO_FEED


def status_message(status: DaemonStatus, log: str | None, confirmed: int | None) -> Json:
    """Return what clients receive; ages in seconds, None for what never arrived.

    ``log`` and ``confirmed`` are of the events that were sent so far: ``status`` may be ahead of them.
    """
    message: Json = {"type": "status", "feed": feed_state(status), "log": log, "confirmed": confirmed}
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
    return message if grant.allowed.covers(HEARTBEAT) else public(message)


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
