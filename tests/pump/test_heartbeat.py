"""The fields of the heartbeat."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgpack
import pytest

from mt4pump import __version__
from mt4pump.pump.heartbeat import HeartbeatPublisher, ServerClock
from mt4pump.pump.inbox import Inbox
from mt4pump.pump.session import SessionStatus
from mt4pump.settings import Settings
from mt4pump.wire import PROTOCOL, Encoder

PROMISED = {
    *("state", "since", "server", "version", "protocol", "uptime_s", "counts", "dropped", "inbox", "reconnects"),
    *("last_callback_ts", "last_quote_ts", "subscriptions", "server_utc_offset_s", "rss_bytes", "interval_s"),
    *("log", "offset", "offsets", "durable", "journal", "slow_readers", "connections", "query", "threads", "cpu_s"),
    "deleted_files",
}
"""Keys that the protocol promises."""


class Subscriptions(list[int]):
    """Four subscriptions of 44 bytes."""

    def __init__(self) -> None:
        super().__init__(range(4))
        self.total = SimpleNamespace(size=44)


def heartbeat(inbox: Inbox, *, server_utc_offset_s: int | None = 10800) -> HeartbeatPublisher:
    def counters(**counts: int) -> Any:
        return SimpleNamespace(counters=lambda: counts)

    journal = SimpleNamespace(
        log_id="abc", last_offset=9, last_offsets={"trade": 9}, durable=True, counters=lambda: {"stored": 9}
    )
    publisher = SimpleNamespace(
        subscriptions=Subscriptions(),
        sent=99,
        slow=counters(messages=2),
        connections=counters(now=3),
    )
    dispatcher: Any = SimpleNamespace(
        writer=SimpleNamespace(publisher=publisher, journal=journal),
        counts={"quote": 5},
        fault_counters=SimpleNamespace(counts={"read_error": 1}),
        skipped=lambda: {"news_repeats": 2},
        quotes=SimpleNamespace(last_ts=123),
    )
    return HeartbeatPublisher(
        inbox=inbox,
        dispatcher=dispatcher,
        server_clock=ServerClock(server_utc_offset_s),
        status=lambda: SessionStatus("lost", 1_700_000_000_000, "demo:443", "STOP_PUMPING", 3),
        source_counters=lambda: {"pinned_threads": 1},
        query_counters=lambda: {"requests": 4},
        deleted_files={"service_logs": 6},
        settings=Settings(source="simulator", server_code="broker-1", heartbeat_interval_s=0.5),
    )


@pytest.fixture(name="inbox")
def _inbox() -> Inbox:
    made = Inbox(2, lambda: 7)
    for code, data in ((9, b"x"), (9, b"y"), (9, b"z"), (5, b""), (5, b"")):
        made.notify(code, 0, data)
    return made


def test_it_has_every_key_of_the_protocol(inbox: Inbox) -> None:
    assert heartbeat(inbox).body().keys() >= PROMISED


def test_it_says_what_is_so(inbox: Inbox) -> None:
    body = heartbeat(inbox).body()
    assert body.pop("uptime_s") >= 0
    assert body.pop("rss_bytes") > 0
    assert body.pop("threads") >= 1
    assert body.pop("cpu_s") > 0
    assert body == {
        "state": "lost",
        "since": 1_700_000_000_000,
        "reason": "STOP_PUMPING",
        "server": "demo:443",
        "server_code": "broker-1",
        "version": __version__,
        "protocol": PROTOCOL,
        "interval_s": 0.5,
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
        "source": {"pinned_threads": 1},
        "deleted_files": {"service_logs": 6},
    }


def test_the_last_one_may_name_another_state(inbox: Inbox) -> None:
    assert heartbeat(inbox).body("stopping")["state"] == "stopping"


def test_it_travels_also_while_the_servers_clock_is_unknown(inbox: Inbox) -> None:
    fields = heartbeat(inbox, server_utc_offset_s=None).body()
    assert msgpack.unpackb(Encoder(1).body(fields, 1, 1))["server_utc_offset_s"] is None
