"""What the daemon publishes about itself, and its numbers: session, unknown codes, heartbeat, offsets, snapshots."""

from __future__ import annotations

from typing import Any

from mt4pump.mt4.codes import PumpCode
from tests.vectors.case import START, Case, call, case, lost, publish

STOP, PING = call(PumpCode.STOP_PUMPING), call(PumpCode.PING)
HEARTBEAT: dict[str, Any] = {
    "state": "pumping",
    "since": 1_700_000_000_500,
    "reason": "",
    "server": "one:443",
    "version": "1.0.0",
    "protocol": 1,
    "interval_s": 1.0,
    "uptime_s": 12.345,
    "log": "5f0c2a",
    "offset": 12,
    "offsets": {"trade": 12},
    "durable": True,
    "journal": {
        "stored": 12,
        "unstored": 0,
        "commits": 3,
        "errors": 0,
        "set_aside": 0,
        "deleted": 0,
        "first_offset": 1,
        "size_bytes": 65_536,
        "wal_bytes": 4_096,
        "error": "",
    },
    "counts": {"quote": 500, "trade": 12},
    "sent": 512,
    "dropped": 0,
    "inbox": {"waiting": 0, "limit": 200_000, "received": 600, "coalesced": 80, "refused": 0},
    "errors": {},
    "skipped": {"before_start": 0, "news_repeats": 0, "news_bodies_given_up": 0},
    "slow_readers": {"messages": 0, "moments": 0, "last_ts": 0},
    "connections": {"now": 1, "accepted": 1, "refused": 0, "failed": 0},
    "subscriptions": 2,
    "query": {"requests": 1, "errors": 0, "dropped": 0, "events": 0, "cuts": 0},
    "reconnects": 0,
    "last_callback_ts": 1_700_000_000_900_000_000,
    "last_quote_ts": 1_700_000_000_800_000_000,
    "server_utc_offset_s": 7_200,
    "rss_bytes": 50_000_000,
    "threads": 5,
    "source": {"pinned_threads": 1},
}
EMPTY: dict[str, Any] = {
    "log": None,
    "offset": 0,
    "offsets": {},
    "durable": False,
    "journal": None,
    "server_utc_offset_s": None,
    "state": "connecting",
    "server": "",
    "counts": {},
    "source": {},
    "last_callback_ts": 0,
    "last_quote_ts": 0,
}
ONLINE = {"counter": 1, "login": 1_001, "group": "demoforex"}
QUOTE = {"symbol": "EURUSD", "digits": 5, "bid": 1.1212, "ask": 1.1213, "spread": 10, "time": 1_577_916_000}
STRANGE = (17, 99, 255, 256, 70_000, -1)


def cases() -> dict[str, list[Case]]:
    """Return the cases by kind."""
    return {"session": _sessions(), "unknown": _unknown(), "heartbeat": _heartbeats(), "numbers": _numbers()}


def _sessions() -> list[Case]:
    return [
        case("start", START, start=False),
        case("stop", STOP),
        case("stop told twice, is one", STOP, STOP),
        case("ping", PING),
        case("three pings", PING, PING, PING),
        case("lost without a STOP", lost("no link: IsConnected is false")),
        case("lost, and a new session", lost("mute: no callback of any kind, not even PING, for 60 s"), START, PING),
        case("reason beyond ASCII", lost("сервер: 切断")),
        case("suffix on the topic", PING, topic_suffix=";"),
    ]


def _unknown() -> list[Case]:
    return [
        *(case(f"code {code}", call(code, 3)) for code in STRANGE),
        case("action below zero", call(42, -(2**31))),
    ]


def _heartbeats() -> list[Case]:
    return [
        case("in good order", publish("heartbeat", "", HEARTBEAT, seq=1), start=False),
        case("before anything", publish("heartbeat", "", HEARTBEAT | EMPTY, seq=1), start=False),
        case("the last one", publish("heartbeat", "", HEARTBEAT | {"state": "stopping"}, seq=86_400), start=False),
        case("a failing journal", publish("heartbeat", "", HEARTBEAT | {"durable": False}, seq=2), start=False),
        case("suffix on the topic", publish("heartbeat", "", HEARTBEAT, seq=1), start=False, topic_suffix="|"),
    ]


def _numbers() -> list[Case]:
    online = ONLINE | {"action": "add"}
    inferred = online | {"synthetic": True}
    row = ONLINE | {"snapshot": True}
    price = QUOTE | {"high": 1.125, "low": 1.118, "direction": 0}
    return [
        case("offset: first", publish("online", 1_001, online, seq=1, offset=1), start=False),
        case("offset: beyond 32 bits", publish("online", 1_001, online, seq=2**32, offset=2**32 + 1), start=False),
        case("offset: beyond a double", publish("online", 1_001, online, seq=5, offset=2**53 + 1), start=False),
        case("offset: largest", publish("online", 1_001, online, seq=5, offset=2**63 - 1), start=False),
        case("offset of a synthetic event", publish("online", 5, inferred, seq=1, offset=7), start=False),
        case("offset of a quote", publish("quote", "EURUSD", price, seq=1, offset=9), start=False),
        case("no offset: the journal failed", publish("online", 1_001, online, seq=1), start=False),
        case("snapshot: a row", publish("online", 1_001, row, seq=17), start=False),
        case("snapshot: nothing in this epoch yet", publish("online", 1_001, row, seq=0), start=False),
        case("snapshot: a quote", publish("quote", "EURUSD", price | {"snapshot": True}, seq=3), start=False),
    ]
