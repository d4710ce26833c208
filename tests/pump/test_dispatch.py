"""Raw records to events, code by code, over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from mt4pump.mt4.codes import PumpCode, Transaction
from mt4pump.mt4.layout import (
    CON_GROUP,
    CON_PLUGIN,
    CON_SYMBOL,
    MAIL_BOX,
    MAIL_PERSONAL,
    MARGIN_LEVEL,
    NEWS_TOPIC,
    NEWS_TOPIC_NEW,
    ONLINE_RECORD,
    REQUEST_INFO,
    SYMBOL_INFO,
    TRADE_RECORD,
    USER_RECORD,
)
from mt4pump.mt4.manager import TABLES
from mt4pump.mt4.record import PUBLIC, SECRET, Record
from mt4pump.pump.quotes import READS_PER_DRAIN
from mt4pump.pump.session import ManagerSession
from tests.bus import Message
from tests.fake_manager import QUOTES_PER_CALL, FakeManager, failed, lost
from tests.pump.harness import EPOCH, START, STOP, Harness, open_harness, own, seen

ADD, DELETE, UPDATE, CHANGE_GRP = Transaction
NULL = b""


class Row(NamedTuple):
    """One pump event: code, type, data, what the tables hold then, and what it leads to."""

    code: PumpCode
    action: int
    data: bytes
    tables: dict[str, bytes]
    topic: str
    values: dict[str, Any]


QUOTE = SYMBOL_INFO.pack({"symbol": "EURUSD", "digits": 5, "bid": 1.1, "ask": 1.2, "lasttime": 5})
TRADE = TRADE_RECORD.pack({"order": 5, "login": 100, "symbol": "EURUSD", "activation": 1})
USER = USER_RECORD.pack({"login": 100, "group": "demo", "balance": 5.0})
SYMBOL = CON_SYMBOL.pack({"symbol": "EURUSD", "digits": 5})
GROUP = CON_GROUP.pack({"group": "demo", "secmargins_total": 0})
REQUEST = REQUEST_INFO.pack({"id": 3, "login": 100})
ONLINE = ONLINE_RECORD.pack({"login": 100, "group": "demo"})
MARGIN = MARGIN_LEVEL.pack({"login": 100, "level_type": 1})
PLUGIN = CON_PLUGIN.pack({"file": "vd.dll", "info": {"name": "VD"}})
NEWS = NEWS_TOPIC.pack({"key": 9, "topic": "Rates up"})
WIDE = NEWS_TOPIC_NEW.pack({"key": 9, "subject": "Rates up"})
MAIL = MAIL_BOX.pack({"to": 100, "subject": "Hello"})
SESSION = {"server": "one:443", "login": 7}

ROWS = [
    Row(START, 0, NULL, {}, "session.start", {**SESSION, "state": "pumping", "reason": "START_PUMPING"}),
    Row(STOP, 0, NULL, {}, "session.stop", {**SESSION, "state": "lost", "reason": "STOP_PUMPING"}),
    Row(PumpCode.PING, 0, NULL, {}, "session.ping", {**SESSION, "state": "pumping", "reason": "PING"}),
    Row(PumpCode.UPDATE_BIDASK, 0, NULL, {"quotes": QUOTE}, "quote.EURUSD", {"bid": 1.1, "ask": 1.2, "spread": 10000}),
    Row(PumpCode.UPDATE_SYMBOLS, UPDATE, SYMBOL, {}, "symbol.EURUSD", {"action": "update", "digits": 5}),
    Row(PumpCode.UPDATE_SYMBOLS, 0, NULL, {"symbols": SYMBOL}, "symbol.EURUSD", {"action": "add", "digits": 5}),
    Row(PumpCode.UPDATE_GROUPS, ADD, GROUP, {}, "group.demo", {"action": "add", "secmargins": []}),
    Row(PumpCode.UPDATE_GROUPS, 0, NULL, {"groups": GROUP}, "group.demo", {"action": "add"}),
    Row(PumpCode.UPDATE_USERS, CHANGE_GRP, USER, {}, "user.100", {"action": "change_group", "balance": 5.0}),
    Row(PumpCode.UPDATE_USERS, 0, NULL, {"users": USER}, "user.100", {"action": "add", "balance": 5.0}),
    Row(PumpCode.UPDATE_ONLINE, ADD, b"\x64\0\0\0", {"online": ONLINE}, "online.100", {"action": "add"}),
    Row(PumpCode.UPDATE_ONLINE, 0, NULL, {"online": ONLINE}, "online.100", {"action": "add", "group": "demo"}),
    Row(PumpCode.UPDATE_NEWS, 0, NEWS, {}, "news.9", {"action": "add", "topic": "Rates up"}),
    Row(PumpCode.UPDATE_NEWS, 0, NULL, {"news": NEWS}, "news.9", {"action": "add", "topic": "Rates up"}),
    Row(PumpCode.UPDATE_NEWS_NEW, 0, WIDE, {}, "news.9", {"action": "add", "subject": "Rates up"}),
    Row(PumpCode.UPDATE_MAIL, 0, MAIL, {}, "mail.100", {"action": "add", "subject": "Hello", "body": None}),
    Row(PumpCode.UPDATE_MAIL, 0, NULL, {"mail": MAIL + b"text"}, "mail.100", {"action": "add", "body": "text"}),
    Row(PumpCode.UPDATE_TRADES, ADD, TRADE, {}, "trade.100", {"action": "add", "change": "opened", "before": None}),
    Row(PumpCode.UPDATE_TRADES, 0, NULL, {"trades": TRADE}, "trade.100", {"change": "opened", "synthetic": True}),
    Row(PumpCode.UPDATE_REQUESTS, ADD, REQUEST, {}, "request.100", {"action": "add", "id": 3}),
    Row(PumpCode.UPDATE_REQUESTS, 0, NULL, {"requests": REQUEST}, "request.100", {"action": "add", "id": 3}),
    Row(PumpCode.UPDATE_PLUGINS, 0, NULL, {"plugins": PLUGIN}, "plugin.VD", {"action": "add", "file": "vd.dll"}),
    Row(PumpCode.UPDATE_ACTIVATION, 0, NULL, {"trades": TRADE}, "activation.100", {"action": "add", "activation": 1}),
    Row(PumpCode.UPDATE_MARGINCALL, 0, NULL, {"margins": MARGIN}, "margin.100", {"action": "add", "level_type": 1}),
]


def fill(manager: FakeManager, tables: dict[str, bytes]) -> None:
    """Put what the API would hold into ``manager``."""
    for name, data in tables.items():
        if name == "quotes":
            manager.quotes.append(data)
        elif name == "mail":
            manager.mail = data
        else:
            manager.tables[name] = data


@pytest.fixture(name="pump")
def _pump() -> Iterator[Harness]:
    with open_harness(mail_fields=MAIL_PERSONAL) as made:
        made.start()
        yield made


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.code.name} {'data' if row.data else 'NULL'}" for row in ROWS])
def test_a_code_becomes_its_event(pump: Harness, row: Row) -> None:
    fill(pump.manager, row.tables)
    (message,) = pump.events_after(row.code, row.action, row.data)
    assert message.topic == row.topic
    assert {name: message.body.get(name) for name in row.values} == row.values
    assert (message.body["epoch"], message.body["ts"]) == (EPOCH, pump.ts)
    assert message.body["seq"] == (2 if row.code == START else 1)


@pytest.mark.parametrize("code", sorted(set(PumpCode) - {START, STOP, PumpCode.PING}))
def test_a_doorbell_with_nothing_behind_it_publishes_nothing(pump: Harness, code: int) -> None:
    assert pump.events_after(code) == []
    lost = {"read_error": 1} if code == PumpCode.UPDATE_MAIL else {}  # a mail came, and cannot be published
    assert pump.fault_counters.counts == lost


def test_a_news_body_is_the_answer_to_the_header(pump: Harness) -> None:
    pump.events_after(PumpCode.UPDATE_NEWS, 0, NEWS)
    pump.manager.bodies[9] = b"text"
    assert seen(pump.events_after(PumpCode.UPDATE_NEWS_BODY), "action", "body") == [("news.9", "update", "text")]


CARRIES_NOTHING = sorted(
    {START, STOP, PumpCode.PING, PumpCode.UPDATE_BIDASK, PumpCode.UPDATE_NEWS_BODY, PumpCode.UPDATE_PLUGINS}
    | {PumpCode.UPDATE_ACTIVATION, PumpCode.UPDATE_MARGINCALL, PumpCode.UPDATE_ONLINE}
)


@pytest.mark.parametrize("code", CARRIES_NOTHING)
@pytest.mark.parametrize("data", [b"\x01\x02\x03\x04", b"\xff" * 2000])
def test_data_where_there_should_be_none_changes_nothing(pump: Harness, code: int, data: bytes) -> None:
    fill(pump.manager, {"trades": TRADE, "margins": MARGIN, "plugins": PLUGIN, "online": ONLINE, "quotes": QUOTE})
    with_data = pump.events_after(code, 2, data)
    with open_harness() as other:
        other.start()
        fill(other.manager, {"trades": TRADE, "margins": MARGIN, "plugins": PLUGIN, "online": ONLINE, "quotes": QUOTE})
        without = other.events_after(code)
    assert with_data == without
    assert pump.fault_counters.counts == {}


BODIES = {
    PumpCode.UPDATE_SYMBOLS: (SYMBOL, CON_SYMBOL, {"action"}),
    PumpCode.UPDATE_GROUPS: (GROUP, CON_GROUP, {"action"}),
    PumpCode.UPDATE_USERS: (USER, USER_RECORD, {"action"}),
    PumpCode.UPDATE_TRADES: (TRADE, TRADE_RECORD, {"action", "change", "before"}),
    PumpCode.UPDATE_REQUESTS: (REQUEST, REQUEST_INFO, {"action"}),
    PumpCode.UPDATE_NEWS: (NEWS, NEWS_TOPIC, {"action", "body"}),
    PumpCode.UPDATE_NEWS_NEW: (WIDE, NEWS_TOPIC_NEW, {"action", "body"}),
    PumpCode.UPDATE_MAIL: (MAIL, MAIL_BOX, {"action"} | MAIL_PERSONAL),
}


@pytest.mark.parametrize("code", BODIES)
def test_a_body_has_every_public_field_and_no_other(pump: Harness, code: PumpCode) -> None:
    data, record, added = BODIES[code]
    (message,) = pump.events_after(code, ADD, data)
    assert own(message).keys() == record.names(PUBLIC) | added


@pytest.mark.parametrize("code", BODIES)
def test_a_record_that_is_too_short_is_counted_and_the_next_one_is_published(pump: Harness, code: PumpCode) -> None:
    data = BODIES[code][0]
    assert pump.events_after(code, ADD, data[:-1]) == []
    assert pump.fault_counters.counts == {"bad_record": 1}
    assert len(pump.events_after(code, ADD, data)) == 1


@pytest.mark.parametrize("code", BODIES)
def test_no_byte_of_a_secret_is_ever_in_a_frame(pump: Harness, code: PumpCode) -> None:
    data, record, _ = BODIES[code]
    planted = bytearray(data)
    for field in record.fields:
        if field.visibility == SECRET:
            planted[field.offset : field.offset + field.size] = (b"CANARY" * 50)[: field.size]
    assert "CANARY" not in repr(pump.events_after(code, ADD, bytes(planted)))


@pytest.mark.parametrize(("code", "action"), [(17, 0), (99, 2), (255, 0), (256, 1), (2**31 - 1, -5)])
def test_a_code_that_is_not_known_is_passed_on_as_a_number_and_counted(pump: Harness, code: int, action: int) -> None:
    (message,) = pump.events_after(code, action)
    assert message.topic == f"unknown.{code}"
    assert own(message) == {"code": code, "action": action}
    assert pump.fault_counters.counts == {"unknown_code": 1}


# The session's own events


def test_start_and_stop_wake_the_supervisor() -> None:
    with open_harness() as made:
        made.attach()
        assert not made.session.started.is_set()
        made.events_after(START)
        assert made.session.started.is_set()
        assert not made.session.stopped.is_set()
        made.events_after(STOP)
        assert made.session.stopped.is_set()


def test_stop_repeated_is_published_once(pump: Harness) -> None:
    assert [message.topic for message in pump.events_after(STOP)] == ["session.stop"]
    assert pump.events_after(STOP) == []
    assert pump.events_after(STOP) == []


def test_the_end_of_a_session_is_published_once_whether_stop_came_or_not(pump: Harness) -> None:
    pump.events_after(STOP)
    assert pump.reconnect() == []


def test_a_session_that_ended_without_stop_is_published_with_the_reason(pump: Harness) -> None:
    assert seen(pump.reconnect(), "reason", "state", "server") == [
        ("session.stop", "lost by the test", "lost", "one:443")
    ]


def test_a_session_that_never_started_has_no_stop_to_publish() -> None:
    with open_harness() as made:
        made.attach()
        assert made.events_after(STOP) == []
        assert made.session.stopped.is_set()
        assert made.reconnect() == []


def test_giving_up_a_session_that_is_not_the_current_one_changes_nothing(pump: Harness) -> None:
    pump.dispatcher.detach(ManagerSession(FakeManager(), "old:443", 7), "late", 5)
    assert [message.topic for message in pump.events_after(PumpCode.PING)] == ["session.ping"]


def test_a_new_session_is_not_live_before_its_own_start_though_the_old_one_was_never_given_up(pump: Harness) -> None:
    pump.attach()
    assert pump.events_after(PumpCode.UPDATE_USERS, ADD, USER) == []
    assert pump.dispatcher.skipped()["before_start"] == 1


def test_every_start_is_published(pump: Harness) -> None:
    assert [message.topic for message in pump.events_after(START)] == ["session.start"]


def test_a_ping_before_start_is_a_sign_of_a_live_session_like_any_other() -> None:
    with open_harness() as made:
        made.attach()
        assert [message.topic for message in made.events_after(PumpCode.PING)] == ["session.ping"]


@pytest.mark.parametrize("code", [START, STOP, PumpCode.PING])
def test_what_a_session_that_was_given_up_still_says_is_not_published(pump: Harness, code: int) -> None:
    pump.dispatcher.detach(pump.session, "lost", pump.ts)
    pump.bus.events()
    assert pump.events_after(code) == []


@pytest.mark.parametrize("code", sorted(set(PumpCode) - {START, STOP, PumpCode.PING, PumpCode.UPDATE_NEWS_NEW}))
def test_a_doorbell_without_a_session_breaks_nothing(code: int) -> None:
    with open_harness() as made:
        if code == PumpCode.UPDATE_BIDASK:
            made.dispatcher.quotes.refresh_wanted((b"",))
        assert made.events_after(code) == []
        assert set(made.fault_counters.counts) <= {"session_gone"}


# START: whole tables

EVERY_TABLE = {
    "symbols": SYMBOL,
    "groups": GROUP,
    "users": USER,
    "online": ONLINE,
    "requests": REQUEST,
    "plugins": PLUGIN,
    "trades": TRADE,
}


def sorted_topics(messages: list[Message]) -> list[str]:
    return sorted(message.topic for message in messages)


def test_the_first_start_reads_every_table_and_publishes_none() -> None:
    with open_harness() as made:
        made.manager.tables |= EVERY_TABLE
        assert sorted_topics(made.start()) == ["activation.100", "session.start"]  # a flag is, it does not happen
        read = {call.removeprefix("table ") for call in made.manager.calls if call.startswith("table ")}
        assert read == set(TABLES) - {"news"}


def test_accounts_in_margin_call_at_the_first_start_are_published() -> None:
    with open_harness() as made:
        made.manager.tables["margins"] = MARGIN
        assert seen(made.start()[1:], "action", "synthetic") == [("margin.100", "add", True)]


def test_the_second_start_publishes_every_difference_marked_as_inferred() -> None:
    with open_harness() as made:
        made.start()
        made.reconnect(lambda manager: manager.tables.update(EVERY_TABLE))
        first, *events = made.events_after(START)
        assert first.topic == "session.start"
        assert sorted_topics(events) == [
            *("activation.100", "group.demo", "online.100", "plugin.VD", "request.100", "symbol.EURUSD", "trade.100"),
            "user.100",
        ]
        assert all(message.body["synthetic"] is True for message in events)
        assert all(message.body["ts"] == made.ts for message in events)


def test_the_same_tables_after_a_reconnect_publish_nothing() -> None:
    with open_harness() as made:
        made.manager.tables |= EVERY_TABLE
        made.start()
        made.reconnect()
        assert sorted_topics(made.events_after(START)) == ["session.start"]


def test_numbers_go_on_across_sessions(pump: Harness) -> None:
    pump.reconnect()
    assert seen(pump.events_after(START), "seq") == [("session.start", 2)]


@pytest.mark.parametrize("table", sorted(set(TABLES) - {"news"}))
def test_a_table_that_fails_at_start_costs_only_itself(table: str) -> None:
    with open_harness() as made:
        made.start()
        rest = {name: rows for name, rows in EVERY_TABLE.items() if name != table}
        made.reconnect(lambda manager: manager.tables.update(EVERY_TABLE))
        made.manager.failures[f"table {table}"].append(failed())
        assert len(made.events_after(START)) == 1 + len(rest) + ("trades" in rest)  # an order and its flag
        assert made.fault_counters.counts == {"read_error": 1}


def test_a_session_lost_in_the_middle_of_the_reads_is_counted_and_the_next_start_publishes_it_all() -> None:
    with open_harness() as made:
        made.start()
        made.reconnect(lambda manager: manager.tables.update(EVERY_TABLE))
        for table in TABLES:
            made.manager.failures[f"table {table}"].append(lost())
        assert sorted_topics(made.events_after(START)) == ["session.start"]
        assert set(made.fault_counters.counts) == {"session_gone"}
        made.reconnect()
        assert len(made.events_after(START)) == 1 + len(EVERY_TABLE) + 1  # an order and its flag


# Quotes


def test_quotes_are_drained_until_none_is_left(pump: Harness) -> None:
    pump.manager.quotes.extend([QUOTE] * (2 * QUOTES_PER_CALL + 1))
    events = pump.events_after(PumpCode.UPDATE_BIDASK)
    assert [message.body["seq"] for message in events] == list(range(1, 2 * QUOTES_PER_CALL + 2))
    assert pump.manager.calls.count("updated_quotes") == 4
    assert pump.dispatcher.quotes.has_more is False


def test_one_drain_is_bounded_and_says_that_there_is_more(pump: Harness) -> None:
    pump.manager.quotes.extend([QUOTE] * (READS_PER_DRAIN * QUOTES_PER_CALL + 5))
    assert len(pump.events_after(PumpCode.UPDATE_BIDASK)) == READS_PER_DRAIN * QUOTES_PER_CALL
    assert pump.dispatcher.quotes.has_more is True
    assert len(pump.events_after(PumpCode.UPDATE_BIDASK)) == 5
    assert pump.dispatcher.quotes.has_more is False


def test_one_price_beyond_all_bounds_does_not_cost_the_quotes_beside_it(pump: Harness) -> None:
    broken = SYMBOL_INFO.pack({"symbol": "BROKEN", "digits": 5, "bid": 0.0, "ask": 1e20})
    pump.manager.quotes.extend([QUOTE, broken, QUOTE])
    events = pump.events_after(PumpCode.UPDATE_BIDASK)
    assert [message.topic for message in events] == ["quote.EURUSD", "quote.BROKEN", "quote.EURUSD"]


def test_quotes_without_a_subscriber_are_not_packed() -> None:
    with open_harness(b"trade.") as made:
        made.start()
        sent = made.bus.publisher.sent
        made.manager.quotes.extend([QUOTE] * 10)
        made.handle(PumpCode.UPDATE_BIDASK, 0, b"", 5)
        assert made.bus.publisher.sent == sent
        assert made.dispatcher.quotes.published == 10


def test_every_record_that_a_callback_can_carry_is_covered_here() -> None:
    assert {row.code for row in ROWS} | {PumpCode.UPDATE_NEWS_BODY} == set(PumpCode)
    assert {record.name for _, record, _ in BODIES.values()} <= Record.known.keys()
