"""The fields of the heartbeat, and the server's distance from UTC, inferred from quotes alone."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest

from mt4pump import __version__
from mt4pump.publisher.slow_readers import SlowReaders
from mt4pump.pump.heartbeat import AGREEMENTS, LARGEST_OFFSET_S, HeartbeatPublisher, ServerClock
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
UTC_S, HOUR_S = 1_700_000_123, 3600


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
        slow=SlowReaders(messages=2),
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
        "slow_readers": asdict(SlowReaders(messages=2)),
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


# The server's clock


def feed(
    clock: ServerClock, offset_s: int, *, start_s: int = UTC_S, quotes: int = AGREEMENTS + 1, age_s: float = 0.4
) -> int:
    """Show ``quotes`` fresh quotes of a server ``offset_s`` beside UTC, a second apart; return the UTC after them."""
    for second in range(start_s, start_s + quotes):
        clock.observe(second + offset_s, int((second + age_s) * 1e9))
    return start_s + quotes


@pytest.mark.parametrize(
    ("offset_s", "error_s"),
    [
        *((offset_s, 0) for offset_s in (0, 2 * HOUR_S, 3 * HOUR_S, -5 * HOUR_S, 20_700, 19_800, -12_600, 45_900)),
        *((LARGEST_OFFSET_S, 0), (-LARGEST_OFFSET_S, 0)),
        *((3 * HOUR_S, error_s) for error_s in (-100, -3, 4, 100)),
    ],
)
def test_every_quarter_of_an_hour_is_found_also_by_a_clock_that_is_a_little_wrong(offset_s: int, error_s: int) -> None:
    clock = ServerClock()
    feed(clock, offset_s + error_s)
    assert clock.offset_s == offset_s


@pytest.mark.parametrize(
    "offset_s",
    [
        *(3 * HOUR_S + error_s for error_s in (-400, -200, 200, 400)),
        *(15 * HOUR_S, -15 * HOUR_S, -UTC_S, 2**31 - 1 - UTC_S),
    ],
)
def test_a_distance_between_two_quarters_or_an_absurd_one_is_not_believed(offset_s: int) -> None:
    clock = ServerClock()
    feed(clock, offset_s, quotes=100)
    assert clock.offset_s is None


def test_it_is_unknown_until_enough_quotes_agree() -> None:
    clock = ServerClock()
    feed(clock, 7200, quotes=AGREEMENTS)  # the first one publishes nothing: it may be old
    assert clock.offset_s is None
    feed(clock, 7200, start_s=UTC_S + AGREEMENTS, quotes=1)
    assert clock.offset_s == 7200


def test_many_quotes_within_one_second_are_one_witness() -> None:
    clock = ServerClock()
    for _ in range(100):
        clock.observe(UTC_S + 7200, UTC_S * 10**9)
    assert clock.offset_s is None


def test_the_first_quote_may_be_days_old() -> None:
    clock = ServerClock()
    clock.observe(UTC_S + 7200 - 3 * 86_400, UTC_S * 10**9)
    feed(clock, 7200, start_s=UTC_S + 1)
    assert clock.offset_s == 7200


def test_a_market_that_is_still_changes_nothing() -> None:
    clock = ServerClock()
    end_s = feed(clock, 7200)
    for later_s in range(0, 100_000, 450):
        clock.observe(end_s - 1 + 7200, (end_s + later_s) * 10**9)
    assert clock.offset_s == 7200


def test_stale_quotes_are_outvoted() -> None:
    clock = ServerClock()
    end_s = feed(clock, 7200)
    clock.observe(end_s + 7200 - 1800, end_s * 10**9)
    clock.observe(end_s + 7200 - 1799, end_s * 10**9)
    feed(clock, 7200, start_s=end_s + 1)
    assert clock.offset_s == 7200


@pytest.mark.parametrize("change_s", [HOUR_S, -HOUR_S])
def test_daylight_saving_is_followed(change_s: int) -> None:
    clock = ServerClock()
    end_s = feed(clock, 2 * HOUR_S)
    assert clock.offset_s == 2 * HOUR_S
    feed(clock, 2 * HOUR_S + change_s, start_s=end_s, quotes=AGREEMENTS + 2)
    assert clock.offset_s == 2 * HOUR_S + change_s


def test_one_odd_quote_in_between_starts_the_count_again() -> None:
    clock = ServerClock()
    end_s = feed(clock, 7200, quotes=AGREEMENTS)
    clock.observe(end_s + 7200 + 300, end_s * 10**9)
    feed(clock, 7200, start_s=end_s + 400, quotes=AGREEMENTS - 1)
    assert clock.offset_s is None
    feed(clock, 7200, start_s=end_s + 400 + AGREEMENTS, quotes=2)
    assert clock.offset_s == 7200


@pytest.mark.parametrize("fixed_s", [0, 10_800])
def test_a_distance_that_is_set_is_not_inferred(fixed_s: int) -> None:
    clock = ServerClock(fixed_s)
    assert clock.offset_s == fixed_s
    feed(clock, 7200, quotes=50)
    assert clock.offset_s == fixed_s
