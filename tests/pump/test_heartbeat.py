"""What the heartbeat says."""

from __future__ import annotations

import msgpack
import pytest

from mt4pump import __version__
from mt4pump.pump.heartbeat import HeartbeatSources, heartbeat_fields
from mt4pump.pump.inbox import Inbox
from mt4pump.pump.session import SessionStatus
from mt4pump.wire import PROTOCOL, Encoder

PROMISED = {
    *("state", "since", "server", "version", "protocol", "uptime_s", "counts", "dropped", "inbox", "reconnects"),
    *("last_callback_ts", "last_quote_ts", "subscriptions", "server_utc_offset_s", "rss_bytes", "interval_s"),
    *("log", "offset", "offsets", "durable", "journal", "slow_readers", "connections", "query", "threads"),
}
"""Keys that the protocol promises."""


def vitals(*, server_utc_offset_s: int | None = 10800) -> HeartbeatSources:
    return HeartbeatSources(
        status=SessionStatus("lost", 1_700_000_000_000, "demo:443", "STOP_PUMPING", 3),
        server_code="broker-1",
        interval_s=0.5,
        uptime_s=12.3456789,
        log_id="abc",
        offset=9,
        offsets={"trade": 9},
        durable=True,
        journal={"stored": 9},
        counts={"quote": 5},
        errors={"read_error": 1},
        skipped={"news_repeats": 2},
        subscriptions=4,
        subscription_bytes=44,
        sent=99,
        slow_readers={"messages": 2},
        connections={"now": 3},
        query={"requests": 4},
        last_quote_ts=123,
        server_utc_offset_s=server_utc_offset_s,
        rss_bytes=50_000_000,
        threads=5,
        source={"pinned_threads": 1},
    )


@pytest.fixture(name="inbox")
def _inbox() -> Inbox:
    made = Inbox(2, lambda: 7)
    for code, data in ((9, b"x"), (9, b"y"), (9, b"z"), (5, b""), (5, b"")):
        made.notify(code, 0, data)
    return made


def test_it_has_every_key_of_the_protocol(inbox: Inbox) -> None:
    assert heartbeat_fields(vitals(), inbox).keys() >= PROMISED


def test_it_says_what_is_so(inbox: Inbox) -> None:
    assert heartbeat_fields(vitals(), inbox) == {
        "state": "lost",
        "since": 1_700_000_000_000,
        "reason": "STOP_PUMPING",
        "server": "demo:443",
        "server_code": "broker-1",
        "version": __version__,
        "protocol": PROTOCOL,
        "interval_s": 0.5,
        "uptime_s": 12.346,
        "log": "abc",
        "offset": 9,
        "offsets": {"trade": 9},
        "durable": True,
        "journal": {"stored": 9},
        "counts": {"quote": 5},
        "sent": 99,
        "dropped": 1,
        "inbox": {"waiting": 3, "limit": 2, "received": 5, "coalesced": 1, "refused": 1},
        "errors": {"read_error": 1},
        "skipped": {"news_repeats": 2},
        "reconnects": 3,
        "last_callback_ts": 7,
        "last_quote_ts": 123,
        "subscriptions": 4,
        "subscription_bytes": 44,
        "slow_readers": {"messages": 2},
        "connections": {"now": 3},
        "query": {"requests": 4},
        "server_utc_offset_s": 10800,
        "rss_bytes": 50_000_000,
        "threads": 5,
        "source": {"pinned_threads": 1},
    }


def test_the_last_one_may_name_another_state(inbox: Inbox) -> None:
    assert heartbeat_fields(vitals(), inbox, state="stopping")["state"] == "stopping"


def test_it_travels_also_while_the_servers_clock_is_unknown(inbox: Inbox) -> None:
    fields = heartbeat_fields(vitals(server_utc_offset_s=None), inbox)
    assert msgpack.unpackb(Encoder(1).body(fields, 1, 1))["server_utc_offset_s"] is None
