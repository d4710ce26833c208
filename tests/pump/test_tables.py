"""All tables but trades: rows and differences are published, symbols are selected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mt4pump.mt4.codes import PumpCode, Transaction
from mt4pump.mt4.layout import CON_GROUP, CON_PLUGIN, CON_SYMBOL, ONLINE_RECORD, REQUEST_INFO, USER_RECORD
from tests.fake_manager import failed, lost
from tests.pump.harness import Harness, open_harness, own, seen

ADD, DELETE, UPDATE, CHANGE_GRP = Transaction
SYMBOLS, GROUPS, USERS, ONLINE = (
    *(PumpCode.UPDATE_SYMBOLS, PumpCode.UPDATE_GROUPS),
    *(PumpCode.UPDATE_USERS, PumpCode.UPDATE_ONLINE),
)
REQUESTS, PLUGINS = PumpCode.UPDATE_REQUESTS, PumpCode.UPDATE_PLUGINS


def symbol(name: str, **values: Any) -> bytes:
    return CON_SYMBOL.pack({"symbol": name, "digits": 5, **values})


def group(name: str, **values: Any) -> bytes:
    return CON_GROUP.pack({"group": name, **values})


def user(login: int, **values: Any) -> bytes:
    return USER_RECORD.pack({"login": login, "group": "demo", **values})


def online(login: int, **values: Any) -> bytes:
    return ONLINE_RECORD.pack({"login": login, "group": "demo", **values})


def request(number: int, login: int, **values: Any) -> bytes:
    return REQUEST_INFO.pack({"id": number, "login": login, **values})


def plugin(file: str, name: str = "", **values: Any) -> bytes:
    return CON_PLUGIN.pack({"file": file, "info": {"name": name, "version": 100}, **values})


TABLES = {
    "symbols": (SYMBOLS, "symbol.EURUSD", symbol("EURUSD"), symbol("EURUSD", spread=7)),
    "groups": (GROUPS, "group.demo\\fx", group("demo\\fx"), group("demo\\fx", enable=1)),
    "users": (USERS, "user.1", user(1), user(1, balance=5.0)),
    "online": (ONLINE, "online.1", online(1), online(1, counter=2)),
    "requests": (REQUESTS, "request.1", request(5, 1), request(5, 1, status=2)),
    "plugins": (PLUGINS, "plugin.x.dll", plugin("x.dll"), plugin("x.dll", enabled=1)),
}
"""Pump code and topic of each table, and two versions of one row of it."""
BY_ROW = ("symbols", "groups", "users", "requests")
"""Tables whose changed rows the API hands over."""


@pytest.fixture(name="harness")
def _harness() -> Iterator[Harness]:
    with open_harness() as made:
        made.start()
        yield made


@pytest.mark.parametrize("table", BY_ROW)
@pytest.mark.parametrize(
    ("action", "name"),
    [(ADD, "add"), (DELETE, "delete"), (UPDATE, "update"), (CHANGE_GRP, "change_group"), (9, "update")],
)
def test_a_row_is_published_on_its_topic_with_its_action(harness: Harness, table: str, action: int, name: str) -> None:
    code, topic, record, _ = TABLES[table]
    assert seen(harness.events_after(code, action, record), "action", "synthetic") == [(topic, name, None)]


@pytest.mark.parametrize("table", TABLES)
def test_a_doorbell_publishes_what_is_new_changed_and_gone(harness: Harness, table: str) -> None:
    code, topic, old, new = TABLES[table]
    for rows, actions in ((old, ["add"]), (old, []), (new, ["update"]), (new, []), (b"", ["delete"]), (b"", [])):
        harness.manager.tables[table] = rows
        assert seen(harness.events_after(code), "action", "synthetic") == [(topic, action, None) for action in actions]


def test_a_row_and_then_the_doorbell_of_the_same_change_publish_it_once(harness: Harness) -> None:
    assert len(harness.events_after(USERS, ADD, user(1))) == 1
    harness.manager.tables["users"] = user(1)
    assert harness.events_after(USERS) == []


def test_requests_are_known_by_their_id_and_published_on_the_topic_of_their_login(harness: Harness) -> None:
    harness.manager.tables["requests"] = request(1, 1001) + request(2, 1001)
    assert seen(harness.events_after(REQUESTS), "id") == [("request.1001", 1), ("request.1001", 2)]


# Before START, and at it


def test_rows_before_start_are_the_initial_fill_and_no_news() -> None:
    with open_harness() as made:
        made.attach()
        made.manager.tables["users"] = user(1) + user(2)
        assert made.events_after(USERS, ADD, user(1)) == []
        assert made.events_after(USERS, ADD, user(2)) == []
        assert made.dispatcher.skipped()["before_start"] == 2
        assert [message.topic for message in made.events_after(PumpCode.START_PUMPING)] == ["session.start"]
        assert made.events_after(USERS) == []


@pytest.mark.parametrize("table", TABLES)
class TestADoorbellBeforeStart:
    """While the API fills its tables they are half empty: what is not there yet is not gone, nor news when it comes."""

    def test_of_the_first_session_makes_no_news_of_the_rest_of_the_table(self, table: str) -> None:
        with open_harness() as made:
            made.attach()
            assert made.events_after(TABLES[table][0]) == []
            made.manager.tables[table] = TABLES[table][2]
            assert [message.topic for message in made.events_after(PumpCode.START_PUMPING)] == ["session.start"]

    def test_of_a_later_session_does_not_publish_that_everything_is_gone(self, table: str) -> None:
        with open_harness() as made:
            made.manager.tables[table] = TABLES[table][2]
            made.start()
            made.reconnect(lambda manager: manager.tables.update({table: b""}))
            assert made.events_after(TABLES[table][0]) == []

    def test_after_stop_publishes_nothing_either(self, table: str) -> None:
        with open_harness() as made:
            made.manager.tables[table] = TABLES[table][2]
            made.start()
            made.events_after(PumpCode.STOP_PUMPING)
            made.manager.tables[table] = b""
            assert made.events_after(TABLES[table][0]) == []


def test_the_second_start_publishes_what_differs_marked_as_inferred() -> None:
    with open_harness() as made:
        made.manager.tables |= {"users": user(1) + user(2), "online": online(1), "symbols": symbol("EURUSD")}
        made.start()
        tables = {"users": user(1, balance=9.0) + user(3), "online": b""}
        made.reconnect(lambda manager: manager.tables.update(tables))
        events = made.events_after(PumpCode.START_PUMPING)
        assert sorted(seen(events, "action", "synthetic")) == [
            ("online.1", "delete", True),
            ("session.start", None, None),
            ("user.1", "update", True),
            ("user.2", "delete", True),
            ("user.3", "add", True),
        ]


def test_a_table_that_cannot_be_read_at_start_does_not_keep_the_others() -> None:
    with open_harness() as made:
        made.manager.tables["users"] = user(1)
        made.manager.failures["table groups"].append(failed("GroupsGet"))
        made.start()
        assert made.fault_counters.counts == {"read_error": 1}
        made.manager.tables["users"] = b""
        assert seen(made.events_after(USERS), "action") == [("user.1", "delete")]


# Faults


@pytest.mark.parametrize("table", TABLES)
def test_a_read_that_fails_is_counted_and_the_next_one_publishes_what_changed(harness: Harness, table: str) -> None:
    code, _, harness.manager.tables[table], _ = TABLES[table]
    harness.manager.failures[f"table {table}"].append(failed())
    assert harness.events_after(code) == []
    assert harness.fault_counters.counts == {"read_error": 1}
    assert len(harness.events_after(code)) == 1


def test_a_read_of_a_session_that_is_gone_is_counted_apart(harness: Harness) -> None:
    harness.manager.failures["table users"].append(lost("UsersGet"))
    assert harness.events_after(USERS) == []
    assert harness.fault_counters.counts == {"session_gone": 1}


# Symbols


def selected(made: Harness) -> list[bytes]:
    chosen, made.manager.selected = made.manager.selected, []
    return chosen


def test_the_wanted_symbols_are_selected_at_every_start() -> None:
    with open_harness(symbols=("EUR*", "!EURGBP")) as made:
        made.manager.tables["symbols"] = b"".join(map(symbol, ("EURUSD", "EURGBP", "USDJPY", "EURCHF")))
        made.start()
        assert selected(made) == [b"EURUSD", b"EURCHF"]
        made.reconnect()
        made.events_after(PumpCode.START_PUMPING)
        assert selected(made) == [b"EURUSD", b"EURCHF"]


@pytest.mark.parametrize(("patterns", "warnings"), [(("NOSUCH*",), 1), (("EUR*",), 0)])
def test_a_selection_of_no_symbol_is_a_warning(
    patterns: tuple[str, ...], warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    with open_harness(symbols=patterns) as made:
        made.manager.tables["symbols"] = b"".join(map(symbol, ("EURUSD", "USDJPY")))
        made.start()
        assert caplog.text.count("the setting symbols selects none of the server's 2 symbols") == warnings
        made.dispatcher.tables.select(("NOSUCH*",))
        assert caplog.text.count("selects none of the server's 2 symbols") == warnings + 1


def test_they_are_selected_again_at_every_doorbell_and_a_new_one_at_its_row(harness: Harness) -> None:
    harness.manager.tables["symbols"] = symbol("EURUSD")
    harness.events_after(SYMBOLS)
    assert selected(harness) == [b"EURUSD"]
    harness.events_after(SYMBOLS)
    assert selected(harness) == [b"EURUSD"]
    harness.events_after(SYMBOLS, ADD, symbol("USDJPY"))
    assert selected(harness) == [b"USDJPY"]
    harness.events_after(SYMBOLS, UPDATE, symbol("USDJPY", spread=9))
    assert selected(harness) == [b"USDJPY"]
    harness.events_after(SYMBOLS, DELETE, symbol("USDJPY"))
    assert selected(harness) == []


def test_other_patterns_take_hold_at_once_and_what_fell_out_is_hidden(harness: Harness) -> None:
    harness.manager.tables["symbols"] = symbol("EURUSD") + symbol("USDJPY")
    harness.events_after(SYMBOLS)
    harness.dispatcher.tables.select(("USD*",))
    assert sorted(set(selected(harness))) == [b"USDJPY"]
    harness.dispatcher.tables.select(("*",))
    assert sorted(set(selected(harness))) == [b"EURUSD", b"USDJPY"]


def test_other_patterns_without_a_session_hold_from_the_next_one_on(harness: Harness) -> None:
    harness.manager.tables["symbols"] = symbol("EURUSD") + symbol("USDJPY")
    harness.reconnect()
    harness.dispatcher.tables.select(("USD*",))
    harness.events_after(PumpCode.START_PUMPING)
    assert selected(harness) == [b"USDJPY"]


def test_a_symbol_that_cannot_be_selected_is_counted_and_the_others_are(harness: Harness) -> None:
    harness.manager.failures["select_symbol"].append(failed("SymbolAdd", 3, "RET_INVALID_DATA"))
    harness.manager.tables["symbols"] = symbol("BAD") + symbol("GOOD")
    assert [message.topic for message in harness.events_after(SYMBOLS)] == ["symbol.BAD", "symbol.GOOD"]
    assert harness.fault_counters.counts == {"select_error": 1}
    assert selected(harness) == [b"GOOD"]


def test_a_symbol_that_cannot_be_hidden_is_counted_the_others_are_and_it_is_tried_again(harness: Harness) -> None:
    harness.manager.tables["symbols"] = symbol("EURUSD") + symbol("GBPUSD") + symbol("USDJPY")
    harness.events_after(SYMBOLS)
    harness.manager.failures["hide_symbol"].append(failed("SymbolHide"))
    harness.dispatcher.tables.select(("USD*",))
    assert harness.fault_counters.counts == {"select_error": 1}
    assert set(harness.manager.selected) == {b"EURUSD", b"USDJPY"}
    harness.events_after(SYMBOLS)
    assert set(harness.manager.selected) == {b"USDJPY"}
    hidden = harness.manager.calls.count("hide_symbol")
    harness.events_after(SYMBOLS)
    assert harness.manager.calls.count("hide_symbol") == hidden, "what is hidden is not hidden again"


def test_nothing_is_hidden_in_a_session_that_did_not_select_it(harness: Harness) -> None:
    harness.manager.tables["symbols"] = symbol("EURUSD") + symbol("USDJPY")
    harness.events_after(SYMBOLS)
    harness.reconnect()
    harness.dispatcher.tables.select(("USD*",))
    harness.events_after(PumpCode.START_PUMPING)
    assert "hide_symbol" not in harness.manager.calls
    assert selected(harness) == [b"USDJPY"]


def test_a_symbol_goes_back_to_the_api_in_its_own_bytes() -> None:
    with open_harness(encoding="cp1251", symbols=("НЕФТЬ",)) as made:
        raw = "НЕФТЬ".encode("cp1251")
        made.manager.tables["symbols"] = CON_SYMBOL.pack({"symbol": raw})
        made.start()
        assert selected(made) == [raw]


def test_a_name_that_fills_its_field_is_selected_whole(harness: Harness) -> None:
    harness.events_after(SYMBOLS, ADD, symbol("TWELVE_BYTES"))
    assert selected(harness) == [b"TWELVE_BYTES"]


# Shapes


def test_a_group_shows_the_used_part_of_its_arrays(harness: Harness) -> None:
    record = group(
        "g",
        secmargins=[{"symbol": "EURUSD"}, {"symbol": "USDJPY"}],
        secmargins_total=2,
        news_languages=[9, 10, 11],
        news_languages_total=1,
    )
    (message,) = harness.events_after(GROUPS, ADD, record)
    assert [row["symbol"] for row in message.body["secmargins"]] == ["EURUSD", "USDJPY"]
    assert message.body["news_languages"] == [9]
    assert len(message.body["secgroups"]) == 32


@pytest.mark.parametrize("total", [-1, 129, 2**31 - 1])
def test_a_total_out_of_range_shows_the_whole_array(harness: Harness, total: int) -> None:
    (message,) = harness.events_after(GROUPS, ADD, group("g", secmargins_total=total))
    assert len(message.body["secmargins"]) == 128


def test_a_user_shows_personal_fields_only_when_the_settings_name_them() -> None:
    record = user(1, name="Jane", email="jane@example.com", password="CANARY", comment="vip")  # noqa: S106 - planted
    with open_harness(user_fields=frozenset({"name", "password"})) as made:
        made.start()
        (message,) = made.events_after(USERS, ADD, record)
        assert message.body["name"] == "Jane"
        assert not {"email", "comment", "password"} & message.body.keys()
        assert "CANARY" not in repr(message)


def test_nobodys_address_is_published_with_who_is_online(harness: Harness) -> None:
    harness.manager.tables["online"] = online(1, ip=0x01020304)
    assert [own(message) for message in harness.events_after(ONLINE)] == [
        {"counter": 0, "login": 1, "group": "demo", "action": "add"}
    ]


def test_text_is_read_in_the_configured_code_page() -> None:
    with open_harness(encoding="gbk") as made:
        made.start()
        (message,) = made.events_after(USERS, ADD, USER_RECORD.pack({"login": 1, "status": "活跃"}, "gbk"))
        assert message.body["status"] == "活跃"


# One account in several rows


def test_an_account_that_is_online_twice_is_published_when_its_rows_change_and_at_no_other_reread(
    harness: Harness,
) -> None:
    one, two, three = online(1, counter=1), online(1, counter=2), online(1, counter=3)
    for listed, events in (
        (one + two, [("online.1", "add", 1), ("online.1", "update", 2)]),
        (one + two, []),
        (two + one, []),
        (two + three, [("online.1", "update", 3)]),
        (two, [("online.1", "update", 2)]),
        (b"", [("online.1", "delete", 2)]),
    ):
        harness.manager.tables["online"] = listed
        assert seen(harness.events_after(ONLINE), "action", "counter") == events


@pytest.mark.parametrize("table", BY_ROW)
def test_a_row_behind_a_table_that_was_ahead_of_it_is_counted_and_not_published(harness: Harness, table: str) -> None:
    code, _, row, _ = TABLES[table]
    harness.manager.tables[table] = row
    assert seen(harness.events_after(code), "action", "seq")[0][1:] == ("add", 1)
    assert harness.events_after(code, ADD, row) == []
    assert harness.events_after(code, UPDATE, row) == []
    harness.manager.tables[table] = b""
    assert seen(harness.events_after(code), "action", "seq")[0][1:] == ("delete", 2)
    assert harness.events_after(code, DELETE, row) == []
    assert harness.dispatcher.skipped()["repeats"] == 3
    assert seen(harness.events_after(code, ADD, row), "action", "seq")[0][1:] == ("add", 3)


def test_a_symbol_that_says_nothing_new_is_selected_all_the_same(harness: Harness) -> None:
    harness.events_after(SYMBOLS, ADD, symbol("EURUSD"))
    selected(harness)
    assert harness.events_after(SYMBOLS, UPDATE, symbol("EURUSD")) == []
    assert selected(harness) == [b"EURUSD"]
