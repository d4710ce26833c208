"""The whole daemon on a compiled library with the vendor's ABI, received by a real subscriber."""

from __future__ import annotations

import logging
from pathlib import Path

import msgpack
import pytest

from mt4pump.mt4.codes import PumpCode, Transaction
from mt4pump.mt4.layout import (
    CON_GROUP,
    CON_PLUGIN,
    CON_SYMBOL,
    MAIL_BOX,
    MARGIN_LEVEL,
    NEWS_TOPIC,
    NEWS_TOPIC_NEW,
    ONLINE_RECORD,
    PLUGIN_CFG,
    REQUEST_INFO,
    SYMBOL_INFO,
    TRADE_RECORD,
    USER_RECORD,
)
from mt4pump.mt4.record import PUBLIC, Record
from tests.bus import LIMIT_S, until
from tests.live import PASSWORD, Running, running_dll
from tests.vendor.control import NEWS_READABLE, SILENCE_LIMIT_S, Vendor

TRADE = {"order": 7, "login": 1001, "symbol": "EURUSD", "digits": 5, "volume": 100, "open_time": 99, "open_price": 1.1}
CANARY = b"CANARY"
NEVER = frozenset(
    {"password", "password_investor", "password_phone", "otp_secret", "secure_reserved", "smtp_login", "smtp_password"}
    | {"api_data", "name", "email", "phone", "address", "id", "last_ip", "ip", "from", "subject"}
)


@pytest.fixture
def fake(vendor: Vendor) -> Vendor:
    """Return the controls of a library that accepts our login and knows two symbols."""
    vendor.accept("", 5, PASSWORD)
    vendor.set_table("SymbolsGetAll", [CON_SYMBOL.pack({"symbol": name, "digits": 5}) for name in ("EURUSD", "GBPUSD")])
    vendor.set_quotes([quote("EURUSD", 1.1), quote("GBPUSD", 1.3)])
    return vendor


def quote(symbol: str, bid: float) -> bytes:
    return SYMBOL_INFO.pack({"symbol": symbol, "digits": 5, "bid": bid, "ask": bid + 0.0002, "lasttime": 1_577_916_000})


def test_quotes_and_trades_of_the_library_reach_a_plain_subscriber(
    fake: Vendor, vendor_library: Path, tmp_path: Path
) -> None:
    with running_dll(tmp_path, vendor_library) as run:
        run.pumping()
        fake.replay_quotes(quote("EURUSD", 1.12345))
        body = run.topic("quote.EURUSD").body
        assert (body["bid"], body["spread"], body["digits"], body["seq"]) == (1.12345, 20, 5, 1)
        fake.emit(PumpCode.UPDATE_TRADES, Transaction.ADD, TRADE_RECORD.pack(TRADE))
        trade = run.topic("trade.1001").body
        assert (trade["change"], trade["action"], trade["before"], trade["volume"]) == ("opened", "add", None, 100)
        fake.emit(
            PumpCode.UPDATE_TRADES, Transaction.DELETE, TRADE_RECORD.pack({**TRADE, "close_time": 100, "state": 3})
        )
        closed = run.topic("trade.1001").body
        assert (closed["change"], closed["before"], closed["seq"]) == ("closed", {"close_time": 0, "state": 0}, 2)
    assert fake.count("outstanding") == 0


def test_only_selected_symbols_are_asked_for(fake: Vendor, vendor_library: Path, tmp_path: Path) -> None:
    with running_dll(tmp_path, vendor_library, symbols=("*", "!GBP*")) as run:
        run.pumping()
        fake.replay_quotes(quote("GBPUSD", 1.4) + quote("EURUSD", 1.2))
        assert run.next(lambda message: message.topic.startswith("quote.")).topic == "quote.EURUSD"


def test_every_pump_code_without_data_is_survived_and_read_again(
    fake: Vendor, vendor_library: Path, tmp_path: Path
) -> None:
    with running_dll(tmp_path, vendor_library) as run:
        run.pumping()
        for code in PumpCode:
            if code != PumpCode.STOP_PUMPING:
                fake.emit(code)
        fake.emit(77, 3)
        assert run.topic("unknown.77").body["action"] == 3
        errors = {"unknown_code": 1, "read_error": 1}  # the bell for a mail has no mail behind it
        assert run.next(has_error("unknown_code")).body["errors"] == errors


def has_error(name: str):  # type: ignore[no-untyped-def] # noqa: ANN201
    return lambda message: message.topic == "heartbeat" and name in message.body["errors"]


def test_of_tables_that_changed_as_a_whole_the_difference_is_published(
    fake: Vendor, vendor_library: Path, tmp_path: Path
) -> None:
    fake.set_table("UsersGet", [USER_RECORD.pack({"login": 1, "group": "demo", "balance": 5.0})])
    with running_dll(tmp_path, vendor_library) as run:
        run.tables_read()
        fake.set_table("UsersGet", [USER_RECORD.pack({"login": 1, "balance": 6.0}), USER_RECORD.pack({"login": 2})])
        fake.emit(PumpCode.UPDATE_USERS)
        assert (run.topic("user.1").body["action"], run.topic("user.2").body["action"]) == ("update", "add")
        fake.set_table("OnlineGet", [ONLINE_RECORD.pack({"login": 3, "group": "demo", "counter": 1})])
        fake.emit(PumpCode.UPDATE_ONLINE, Transaction.ADD, (3).to_bytes(4, "little"))
        assert run.topic("online.3").body["action"] == "add"
        fake.set_table("OnlineGet")
        fake.emit(PumpCode.UPDATE_ONLINE, Transaction.DELETE)
        assert run.topic("online.3").body["action"] == "delete"
        fake.set_table("MarginsGet", [MARGIN_LEVEL.pack({"login": 4, "level_type": 1, "margin_level": 80.5})])
        fake.emit(PumpCode.UPDATE_MARGINCALL)
        assert run.topic("margin.4").body["margin_level"] == 80.5
        fake.set_table("TradesGet", [TRADE_RECORD.pack({**TRADE, "activation": 4})])
        fake.emit(PumpCode.UPDATE_ACTIVATION)
        assert run.topic("activation.1001").body["activation"] == 4
        fake.set_table("PluginsGet", [CON_PLUGIN.pack({"file": "a.dll", "enabled": 1, "info": {"name": "A plugin"}})])
        fake.emit(PumpCode.UPDATE_PLUGINS)
        assert run.topic("plugin.A plugin").body["enabled"] == 1


def test_records_of_every_kind_are_published_with_their_text(
    fake: Vendor, vendor_library: Path, tmp_path: Path
) -> None:
    with running_dll(tmp_path, vendor_library, mail_fields=("subject",)) as run:
        run.pumping()
        fake.emit(PumpCode.UPDATE_GROUPS, 2, CON_GROUP.pack({"group": "demo", "company": "Zürich €"}))
        assert run.topic("group.demo").body["company"] == "Zürich €"
        fake.emit(PumpCode.UPDATE_REQUESTS, 0, REQUEST_INFO.pack({"id": 9, "login": 1001, "trade": {"volume": 50}}))
        assert run.topic("request.1001").body["trade"]["volume"] == 50
        fake.emit(PumpCode.UPDATE_NEWS_NEW, 0, NEWS_TOPIC_NEW.pack({"key": 2, "subject": "Ünïcode", "language": 9}))
        assert run.topic("news.2").body["subject"] == "Ünïcode"
        fake.set_news_body(3, b"the whole story")
        fake.emit(PumpCode.UPDATE_NEWS, 0, NEWS_TOPIC.pack({"key": 3, "topic": "head"}))
        assert run.topic("news.3").body["body"] is None
        if NEWS_READABLE:
            assert run.topic("news.3").body["body"] == "the whole story"
        fake.emit(PumpCode.UPDATE_MAIL, 0, MAIL_BOX.pack({"to": 8, "from": "support", "subject": "hello"}))
        assert run.topic("mail.8").body["subject"] == "hello"


def test_a_lost_link_is_published_and_a_new_session_follows_with_what_changed_meanwhile(
    fake: Vendor, vendor_library: Path, tmp_path: Path
) -> None:
    fake.set_table("TradesGet", [TRADE_RECORD.pack(TRADE)])
    with running_dll(tmp_path, vendor_library) as run:
        first = run.tables_read().body
        fake.set_table("TradesGet", [TRADE_RECORD.pack({**TRADE, "order": 8})])
        fake.lose_link(stops=3)
        reason = run.topic("session.stop").body["reason"]
        assert reason.startswith(("STOP_PUMPING; the library's log: 255 ", "no link: IsConnected is false; "))
        assert reason.endswith(" fake:443 pumping mode stopped (Network problem)")
        assert run.topic("session.start").body["seq"] == 2
        gone, new = run.topic("trade.1001").body, run.topic("trade.1001").body
        assert (gone["change"], gone["order"], gone["synthetic"]) == ("closed", 7, True)
        assert (new["change"], new["order"], new["synthetic"]) == ("opened", 8, True)
        heartbeat = run.pumping().body
        assert heartbeat["reconnects"] == 1
        assert heartbeat["source"]["callback_errors"] == first["source"]["callback_errors"]  # counted per process
    assert fake.count("live_interfaces") == 0


def test_an_error_of_the_protocol_ends_no_order_though_the_link_stays_and_the_tables_are_empty(
    fake: Vendor, vendor_library: Path, tmp_path: Path
) -> None:
    orders = [TRADE_RECORD.pack({**TRADE, "order": number}) for number in range(1, 501)]
    fake.set_table("TradesGet", orders)
    fake.set_table("UsersGet", [USER_RECORD.pack({"login": 1001})])
    with running_dll(tmp_path, vendor_library, reconcile_interval_s=0.1) as run:
        run.pumping()
        fake.break_protocol(delay_s=0.3)  # until then IsConnected says 1, and nothing else shows the end
        stop = run.topic("session.stop").body
        assert stop["reason"].startswith("STOP_PUMPING; the library's log: 255 ")
        assert stop["reason"].endswith(" fake:443 pumping mode stopped (Network problem)")
        run.topic("session.start")
        fake.emit(PumpCode.UPDATE_TRADES, Transaction.DELETE, TRADE_RECORD.pack({**TRADE, "close_time": 9, "state": 3}))
        assert run.topic("trade.1001").body["order"] == TRADE["order"]
        topics = {frames[0].partition(b".")[0] for frames in run.frames}
        assert not topics & {b"user", b"symbol"}
        assert sum(frames[0].startswith(b"trade.") for frames in run.frames) == 1


def test_a_table_that_is_rightly_empty_is_believed_after_a_second_read(
    fake: Vendor, vendor_library: Path, tmp_path: Path
) -> None:
    fake.set_table("TradesGet", [TRADE_RECORD.pack(TRADE)])
    with running_dll(tmp_path, vendor_library) as run:
        run.tables_read()
        fake.set_table("TradesGet")
        fake.emit(PumpCode.UPDATE_TRADES)
        body = run.topic("trade.1001").body
        assert (body["change"], body["synthetic"]) == ("closed", True)
        heartbeat = run.next(lambda message: message.topic == "heartbeat").body
        assert heartbeat["skipped"]["empty_tables"] >= 1


@pytest.mark.parametrize("method", ["Connect", "Login"])
def test_a_server_that_sends_nothing_costs_its_time_limit_and_the_next_one_is_tried(
    fake: Vendor, vendor_library: Path, tmp_path: Path, method: str
) -> None:
    fake.script(method, 255, delay_s=SILENCE_LIMIT_S * 20)  # the first only
    two = ("silent:443", "fake:443")
    limits = {
        "login_timeout_s": 0.2,
        "hang_timeout_s": LIMIT_S,
        "reconnect_delay_s": 2.0,
    }  # lost for longer than a moment
    with running_dll(tmp_path, vendor_library, servers=two, **limits) as run:
        lost = run.next(lambda message: message.topic == "heartbeat" and message.body["state"] == "lost").body
        assert lost["server"] == "silent:443"
        assert "no answer from silent:443 within 0.2 s (login_timeout_s)" in lost["reason"]
        assert run.pumping().body["server"] == "fake:443"
        assert run.daemon.crash is None
    assert fake.count("calls_interrupted") == 1
    assert (fake.count("live_interfaces"), fake.count("releases_in_use")) == (0, 0)


@pytest.mark.parametrize("method", ["Connect", "Login"])
def test_a_stop_ends_a_call_that_waits_for_a_silent_server_and_gives_everything_back(
    fake: Vendor, vendor_library: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    fake.script(method, 255, times=-1, delay_s=SILENCE_LIMIT_S * 20)
    with running_dll(tmp_path, vendor_library) as run:
        until(lambda: fake.calls(method), "the call begins")
        assert run.daemon.stop()
    assert (fake.calls("Release"), fake.count("live_interfaces"), fake.count("calls_interrupted")) == (1, 0, 1)
    assert not [record.message for record in caplog.records if "abandoned" in record.message]


@pytest.mark.parametrize("code", [151, 152, ord("H"), ord("<"), 22])
def test_a_stranger_that_answers_is_said_not_to_look_like_an_mt4_server(
    fake: Vendor, vendor_library: Path, tmp_path: Path, code: int
) -> None:
    fake.script("Login", code, times=-1)
    with running_dll(tmp_path, vendor_library) as run:
        lost = run.next(lambda message: message.topic == "heartbeat" and message.body["state"] == "lost").body
    assert f"({code})" in lost["reason"]
    assert "this does not look like an MT4 server" in lost["reason"]


def test_records_behind_a_read_that_was_ahead_of_them_are_counted_and_not_published(
    fake: Vendor, vendor_library: Path, tmp_path: Path
) -> None:
    orders = [TRADE_RECORD.pack({**TRADE, "order": number}) for number in range(1, 501)]
    with running_dll(tmp_path, vendor_library) as run:
        run.tables_read()
        fake.set_table("TradesGet", orders)
        fake.emit(PumpCode.UPDATE_TRADES)
        assert {trade_of(run) for _ in orders} == set(range(1, 501))
        fake.emit_many(PumpCode.UPDATE_TRADES, 0, b"".join(orders), TRADE_RECORD.size, len(orders))
        run.next(lambda message: message.topic == "heartbeat" and message.body["skipped"]["repeats"] == len(orders))
        assert sum(frames[0] == b"trade.1001" for frames in run.frames) == len(orders)


def test_ends_behind_a_read_that_was_ahead_of_them_say_what_they_add_once(
    fake: Vendor, vendor_library: Path, tmp_path: Path
) -> None:
    orders = [{**TRADE, "order": number} for number in range(1, 501)]
    stays = TRADE_RECORD.pack({**TRADE, "order": 1_000})  # the table must not be empty: that needs a second read
    fake.set_table("TradesGet", [stays, *map(TRADE_RECORD.pack, orders)])
    ends = b"".join(TRADE_RECORD.pack({**order, "close_time": 100, "state": 3}) for order in orders)
    with running_dll(tmp_path, vendor_library) as run:
        run.tables_read()
        fake.set_table("TradesGet", [stays])
        fake.emit(PumpCode.UPDATE_TRADES)
        assert {run.topic("trade.1001").body["change"] for _ in orders} == {"closed"}
        for _ in range(2):
            fake.emit_many(PumpCode.UPDATE_TRADES, Transaction.DELETE, ends, TRADE_RECORD.size, len(orders))
        late = [run.topic("trade.1001").body for _ in orders]
        assert {(body["change"], body["ended"]) for body in late} == {("modified", True)}
        assert [body for body in late if not body["before"]] == []
        run.next(lambda message: message.topic == "heartbeat" and message.body["skipped"]["repeats"] == len(orders))
        assert sum(frames[0] == b"trade.1001" for frames in run.frames) == 2 * len(orders)


def test_a_working_folder_too_deep_for_the_library_is_logged_at_the_start(
    fake: Vendor, vendor_library: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_dll(tmp_path / ("d" * 200), vendor_library) as run:
        run.pumping()
    assert fake.calls("WorkingDirectory") == 1
    assert any("writes neither mail nor its log" in record.message for record in caplog.records)


def test_a_stop_publishes_the_last_heartbeat_and_releases_everything(
    fake: Vendor, vendor_library: Path, tmp_path: Path
) -> None:
    with running_dll(tmp_path, vendor_library) as run:
        run.pumping()
        assert run.daemon.stop()
        last = run.rest()[-1]
        assert (last.topic, last.body["state"]) == ("heartbeat", "stopping")
    assert (fake.calls("Disconnect"), fake.calls("Release")) == (1, 1)
    assert (fake.count("live_interfaces"), fake.count("outstanding"), fake.count("traps")) == (0, 0, 0)


def test_rows_before_start_are_counted_in_the_heartbeat(fake: Vendor, vendor_library: Path, tmp_path: Path) -> None:
    fake.start_after(None)
    with running_dll(tmp_path, vendor_library) as run:
        until(lambda: fake.calls("PumpingSwitchEx"), "the switch")
        fake.emit(PumpCode.UPDATE_TRADES, Transaction.ADD, TRADE_RECORD.pack(TRADE), times=3)
        fake.emit(PumpCode.START_PUMPING)
        assert run.pumping().body["skipped"]["before_start"] == 3
        assert not any(frames[0].startswith(b"trade.") for frames in run.frames)


def test_wrong_credentials_are_logged_as_an_error_and_not_retried_at_once(
    fake: Vendor, vendor_library: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_dll(tmp_path, vendor_library, password="wrong") as run:  # noqa: S106 - that is the test
        heartbeat = run.next(lambda message: message.topic == "heartbeat" and message.body["state"] == "lost")
        assert "RET_BAD_ACCOUNT_INFO (65)" in heartbeat.body["reason"]
        run.topic("heartbeat")
    assert fake.calls("Login") == 1
    assert any("check login, password" in record.message for record in caplog.records)


def planted(record: Record, **values: object) -> bytes:
    """Return a record with a canary in every field that may not be published, whatever the table of marks says."""
    raw = bytearray(record.pack(values))
    for field in record.fields:
        if (field.name in NEVER or field.visibility != PUBLIC) and field.size >= len(CANARY):
            raw[field.offset : field.offset + len(CANARY)] = CANARY
    return bytes(raw)


def test_no_secret_reaches_a_frame_a_log_line_or_a_file(
    fake: Vendor, vendor_library: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with running_dll(tmp_path, vendor_library) as run:
        run.pumping()
        fake.emit(PumpCode.UPDATE_USERS, 0, planted(USER_RECORD, login=1, group="demo"))
        fake.emit(PumpCode.UPDATE_GROUPS, 0, planted(CON_GROUP, group="demo"))
        fake.emit(PumpCode.UPDATE_SYMBOLS, 2, planted(CON_SYMBOL, symbol="EURUSD"))
        fake.emit(PumpCode.UPDATE_TRADES, 0, planted(TRADE_RECORD, **TRADE))
        fake.emit(PumpCode.UPDATE_REQUESTS, 0, planted(REQUEST_INFO, id=1, login=1))
        fake.emit(PumpCode.UPDATE_MAIL, 0, planted(MAIL_BOX, to=1) + CANARY)
        fake.emit(PumpCode.UPDATE_NEWS, 0, planted(NEWS_TOPIC, key=1))
        fake.set_table("UsersGet", [planted(USER_RECORD, login=2)])
        fake.set_table("OnlineGet", [planted(ONLINE_RECORD, login=2)])
        fake.set_table("PluginsGet", [planted(CON_PLUGIN, file="p.dll")])
        fake.set_plugin_params(0, [PLUGIN_CFG.pack({"name": "key", "value": CANARY})])
        for code in (PumpCode.UPDATE_USERS, PumpCode.UPDATE_ONLINE, PumpCode.UPDATE_PLUGINS):
            fake.emit(code)
        run.topic("plugin.p.dll")
        run.daemon.stop()
        run.rest()
        received = {frames[0].partition(b".")[0] for frames in run.frames}
        assert received >= {b"user", b"group", b"symbol", b"trade", b"request", b"mail", b"news", b"online", b"plugin"}
        for frames in run.frames:
            assert CANARY not in frames[0] + frames[1]
            assert PASSWORD.encode() not in frames[0] + frames[1]
    assert CANARY.decode() not in caplog.text
    assert PASSWORD not in caplog.text
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or (CANARY not in file.read_bytes() and PASSWORD.encode() not in file.read_bytes())


def test_personal_fields_are_published_only_when_named(fake: Vendor, vendor_library: Path, tmp_path: Path) -> None:
    record = USER_RECORD.pack({"login": 1, "name": "Ada", "email": "ada@example.com", "password": "hidden"})
    with running_dll(tmp_path, vendor_library, user_fields=("name",)) as run:
        run.pumping()
        fake.emit(PumpCode.UPDATE_USERS, 0, record)
        body = run.topic("user.1").body
        assert body["name"] == "Ada"
        assert "email" not in body
        assert b"hidden" not in msgpack.packb(body)


def test_more_records_than_the_inbox_holds_are_counted_and_recovered_by_a_read(
    fake: Vendor, vendor_library: Path, tmp_path: Path
) -> None:
    orders = [TRADE_RECORD.pack({**TRADE, "order": number}) for number in range(1, 2_001)]
    fake.set_table("TradesGet", [])
    with running_dll(tmp_path, vendor_library, inbox_limit=10) as run:
        run.tables_read()
        fake.set_table("TradesGet", orders)
        fake.emit_many(PumpCode.UPDATE_TRADES, 0, b"".join(orders), TRADE_RECORD.size, len(orders))
        fake.wait()
        opened = {trade_of(run) for _ in orders}
        assert opened == set(range(1, 2_001))
        heartbeat = run.next(lambda message: message.topic == "heartbeat" and message.body["dropped"] > 0).body
        assert heartbeat["errors"]["inbox_full"] >= 1


def trade_of(run: Running) -> int:
    """Return the order of the next trade event, which must be an opening."""
    body = run.topic("trade.1001").body
    assert body["change"] == "opened"
    return int(body["order"])
