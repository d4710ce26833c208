"""Messages of the WebSocket gateway: JSON texts, one per frame, or an array of them in a batch; pure.

The gateway itself is a consumer and shares no code with the daemon: a test compares its messages with these tables.
"""

from __future__ import annotations

from collections.abc import Mapping

from mt4pump.protocol.fields import ANY, BOOL, FLOAT, INT, STR, UINT, Spec, Specs, each, fixed, rows_of

_ID = Spec(
    ANY, "text or integer of at most 64 characters, which the reply repeats", when="the client wants it in the reply"
)
_BACK = Spec(ANY, "`id` of the request", when="the request has one")
_SYMBOLS = rows_of("symbols, or patterns of them", Spec(STR, "as EURUSD, or EUR*"), when="quotes are meant")
_TOPICS = rows_of("topics, or patterns of them", Spec(STR, "as trade.1001, or margin.*"), when="topics are meant")
_WINDOW = Spec(FLOAT, "window of the batches, 0 to 5; 0: no batches", "s")
_LOG = Spec(STR, "log that offsets refer to; null: no journal", nullable=True)
_SUCCESS = Spec(STR, "success", words=("success",))
_CONFIRMED = "offset to resume from: every stored event up to it was sent before, or reported as lost"
_PRICE = "price; null where the server's price is not a number"


def _action(word: str) -> Spec:
    return Spec(STR, word, words=(word,))


def _type(word: str) -> Spec:
    return Spec(STR, word, words=(word,))


GATEWAY_REQUESTS: Mapping[str, Specs] = {
    "subscribe": {"action": _action("subscribe"), "id": _ID, "symbols": _SYMBOLS, "topics": _TOPICS},
    "unsubscribe": {"action": _action("unsubscribe"), "id": _ID, "symbols": _SYMBOLS, "topics": _TOPICS},
    "resume": {
        "action": _action("resume"),
        "id": _ID,
        "topics": rows_of("topics, or patterns of them", Spec(STR, "as trade.*")),
        "offset": Spec(UINT, "the last `confirmed`, or `offset` of a `resume`, that the client received; 0: none"),
        "log": Spec(STR, "`log` that the offset refers to", nullable=True, when="the client knows it"),
    },
    "auth": {"action": _action("auth"), "id": _ID, "token": Spec(STR, "the client's token")},
    "batch": {"action": _action("batch"), "id": _ID, "window_s": _WINDOW},
    "status": {"action": _action("status"), "id": _ID},
}
"""Keys of each message from a client by its ``action``."""

_QUOTE: Specs = {
    "symbol": Spec(STR, "symbol"),
    "bid": Spec(FLOAT, _PRICE, "price", nullable=True),
    "ask": Spec(FLOAT, _PRICE, "price", nullable=True),
    "spread": Spec(FLOAT, "(ask - bid) / pip, to one decimal", "pips", nullable=True),
    "time": Spec(INT, "when the quote came to the server", "s, server clock"),
}

GATEWAY_MESSAGES: Mapping[str, Specs] = {
    "subscription": {
        "type": _type("subscription"),
        "status": _SUCCESS,
        "symbols": rows_of("symbols and patterns that the client now has", Spec(STR, "a symbol")),
        "topics": rows_of("topics and patterns that it has", Spec(STR, "a topic"), when="it has any"),
        "id": _BACK,
    },
    "quote": {"type": _type("quote"), "data": fixed("a quote as subscribers of `symbols` get it", _QUOTE)},
    "event": {
        "type": Spec(STR, "kind of the event"),
        "topic": Spec(STR, "its topic"),
        "data": each("its body as on the bus; a number that JSON cannot express is null", Spec(ANY, "a field")),
        "confirmed": Spec(UINT, _CONFIRMED, when="the event is live, stored and not a quote"),
        "snapshot": Spec(BOOL, "true", when="it is a last value, sent at the subscription"),
    },
    "error": {
        "type": _type("error"),
        "message": Spec(STR, "what is wrong and what would be right, as text for people"),
        "code": Spec(
            STR,
            "kind of the error",
            words=(
                *("unauthenticated", "forbidden", "bad_json", "bad_request"),
                *("unknown_action", "too_many", "too_fast", "unavailable", "internal"),
            ),
        ),
        "id": _BACK,
    },
    "status": {
        "type": _type("status"),
        "feed": Spec(STR, "state of the feed, from the server to the gateway", words=("live", "no_feed", "silent")),
        "state": Spec(STR, "state of the Manager session; empty: not known"),
        "server": Spec(STR, "its server"),
        "log": _LOG,
        "confirmed": Spec(UINT, f"{_CONFIRMED}; null: not known yet", nullable=True),
        "offset": Spec(
            UINT, "offset of the daemon's last durable event, which the gateway may not have received yet; 0: none"
        ),
        "epoch": Spec(UINT, "epoch of the daemon; 0: not known", "ms since 1970"),
        "version": Spec(STR, "version of the daemon", when="the gateway has received a heartbeat"),
        "heartbeat_age_s": Spec(
            FLOAT, "age of the last heartbeat", "s", nullable=True, when="the gateway has received a heartbeat"
        ),
        "quote_age_s": Spec(
            FLOAT, "age of the last quote", "s", nullable=True, when="the gateway has received a heartbeat"
        ),
        "id": _BACK,
    },
    "notice": {
        "type": _type("notice"),
        "kind": Spec(STR, "what happened to the stream"),
        "message": Spec(STR, "the same, as text for people"),
        "topic": Spec(STR, "topic concerned", when="one topic is concerned"),
        "count": Spec(UINT, "number of events concerned", when="events are concerned"),
    },
    "resume": {
        "type": _type("resume"),
        "status": _SUCCESS,
        "topics": rows_of("topics and patterns of the request", Spec(STR, "a topic")),
        "whole": Spec(BOOL, "false: events after the offset are missing, or the log is a different one"),
        "log": _LOG,
        "offset": Spec(UINT, "offset up to which every stored event was sent: where to resume from"),
        "count": Spec(UINT, "events sent"),
        "more": Spec(BOOL, "true: there are more events; resume again from `offset`"),
        "id": _BACK,
    },
    "auth": {
        "type": _type("auth"),
        "status": _SUCCESS,
        "name": Spec(STR, "name of the token's owner"),
        "topics": rows_of("topics and patterns that it allows", Spec(STR, "a topic")),
        "expires": Spec(FLOAT, "when the token ends; null: never", "s since 1970", nullable=True),
        "id": _BACK,
    },
    "batch": {"type": _type("batch"), "status": _SUCCESS, "window_s": _WINDOW, "id": _BACK},
}
"""Keys of each message to a client; ``event`` is what subscribers of ``topics`` get, its ``type`` the kind."""
