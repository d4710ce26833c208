"""The broker can be repeated exactly, every kind of event occurs, and every change is sent."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from mt4pump.mt4.codes import PumpCode, TradeCommand, TradeState, Transaction
from mt4pump.mt4.layout import (
    CALLBACK_RECORD,
    CON_GROUP,
    CON_SYMBOL,
    MARGIN_LEVEL,
    REQUEST_INFO,
    SYMBOL_INFO,
    TRADE_RECORD,
    USER_RECORD,
)
from mt4pump.mt4.manager import TABLES
from mt4pump.mt4.record import SECRET, Decoder, Record
from mt4pump.simulator.accounts import LEAK_PREFIX
from mt4pump.simulator.broker import SimulatedBroker
from mt4pump.simulator.options import SimulatorOptions

from .reader import START_S, RawEvent, collected, decode_quote, decode_trade

QUOTES = 120_000


def run(quotes: int, chunk: int, **options: Any) -> tuple[SimulatedBroker, list[RawEvent], list[bytes]]:
    broker = SimulatedBroker(SimulatorOptions(**{"start_s": START_S, **options}))
    events, lines = collected(broker), list[bytes]()
    while broker.quotes < quotes:
        broker.walk(min(chunk, quotes - broker.quotes), START_S, 0.001, lines.append)
    return broker, events, lines


@pytest.fixture(scope="module")
def long_run() -> tuple[dict[str, bytes], SimulatedBroker, list[RawEvent], list[bytes]]:
    before = SimulatedBroker(SimulatorOptions(start_s=START_S))
    tables = {name: read() for name, read in before.tables.items()}
    return tables, *run(QUOTES, 256)


LongRun = tuple[dict[str, bytes], SimulatedBroker, list[RawEvent], list[bytes]]


def test_the_same_seed_gives_the_same_events_and_quotes_in_chunks_of_any_size() -> None:
    _, events, lines = run(20_000, 256)
    _, again, lines_again = run(20_000, 77)
    assert events == again
    assert lines == lines_again


def test_another_seed_gives_other_events() -> None:
    _, events, lines = run(500, 256)
    _, others, other_lines = run(500, 256, seed=2)
    assert events != others
    assert lines != other_lines


def test_prices_and_orders_change_the_same_when_nobody_wants_quotes() -> None:
    broker, events, _ = run(5_000, 256)
    unread = SimulatedBroker(SimulatorOptions(start_s=START_S))
    received = collected(unread)
    unread.walk(5_000, START_S, 0.001, None)
    assert received == events
    assert unread.book.records.table() == broker.book.records.table()


def test_every_kind_of_event_appears(long_run: LongRun) -> None:
    _, _, events, _ = long_run
    seen = Counter((code, action) for code, action, _ in events)
    for code in set(PumpCode) - {0, 5, 7, 14, 15}:
        assert any(seen_code == code for seen_code, _ in seen), PumpCode(code).name
    for code in (PumpCode.UPDATE_TRADES, PumpCode.UPDATE_USERS, PumpCode.UPDATE_REQUESTS):
        assert {action for seen_code, action in seen if seen_code == code} >= {0, 1, 2}, code.name
    assert seen[PumpCode.UPDATE_USERS, Transaction.CHANGE_GRP]
    assert {action for code, action in seen if code == PumpCode.UPDATE_ONLINE} == {Transaction.ADD, Transaction.DELETE}


def test_every_end_and_change_of_an_order_appears(long_run: LongRun) -> None:
    _, _, events, _ = long_run
    trades = [(action, decode_trade(data)) for code, action, data in events if code == PumpCode.UPDATE_TRADES]
    ends = [fields for action, fields in trades if action == Transaction.DELETE]
    assert {fields["state"] for fields in ends} == {
        TradeState.TS_CLOSED_NORMAL, TradeState.TS_CLOSED_PART, TradeState.TS_CLOSED_BY, TradeState.TS_DELETED,
    }  # fmt: skip
    comments = " ".join(fields["comment"] for fields in ends)
    for note in ("so: ", "[sl]", "[tp]", "close hedge by #", "to #"):
        assert note in comments
    begun = [fields for action, fields in trades if action == Transaction.ADD]
    assert {fields["cmd"] for fields in begun} == set(TradeCommand)
    assert any(fields["state"] == TradeState.TS_OPEN_REMAND and "from #" in fields["comment"] for fields in begun)
    assert any(not fields["login"] for action, fields in trades if action == Transaction.UPDATE)
    amounts = [fields["profit"] for fields in begun if fields["cmd"] == TradeCommand.OP_BALANCE]
    assert min(amounts) < 0 < max(amounts)


def test_an_activated_pending_order_keeps_its_ticket_and_changes_cmd(long_run: LongRun) -> None:
    _, _, events, _ = long_run
    cmd_of: dict[int, int] = {}
    activated = 0
    for code, action, data in events:
        if code == PumpCode.UPDATE_TRADES:
            fields = decode_trade(data)
            before = cmd_of.get(fields["order"])
            if before is not None and 2 <= before <= 5 and fields["login"] and fields["cmd"] < 2:
                assert action == Transaction.UPDATE
                assert fields["cmd"] == before % 2
                activated += 1
            cmd_of[fields["order"]] = fields["cmd"]
    assert activated


def follow(table: bytes, events: list[RawEvent], code: int, record: Record, key: str) -> dict[Any, dict[str, Any]]:
    """Return the rows that ``table`` should have after ``events``, by key."""
    decode = Decoder(record)
    rows = {row[key]: row for row in decode.many(table)}
    for seen, action, data in events:
        if seen == code:
            fields = decode(data)
            if record is TRADE_RECORD and fields["cmd"] >= TradeCommand.OP_BALANCE:
                continue
            if action == Transaction.DELETE or (record is TRADE_RECORD and not fields["login"]):
                del rows[fields[key]]
            else:
                rows[fields[key]] = fields
    return rows


@pytest.mark.parametrize(
    ("name", "code", "record", "key"),
    [
        ("trades", PumpCode.UPDATE_TRADES, TRADE_RECORD, "order"),
        ("users", PumpCode.UPDATE_USERS, USER_RECORD, "login"),
        ("requests", PumpCode.UPDATE_REQUESTS, REQUEST_INFO, "id"),
        ("symbols", PumpCode.UPDATE_SYMBOLS, CON_SYMBOL, "symbol"),
        ("groups", PumpCode.UPDATE_GROUPS, CON_GROUP, "group"),
    ],
)
def test_the_events_turn_the_first_table_into_the_last(
    long_run: LongRun, name: str, code: int, record: Record, key: str
) -> None:
    tables, broker, events, _ = long_run
    rows = follow(tables[name], events, code, record, key)
    table = {row[key]: row for row in Decoder(record).many(broker.tables[name]())}
    if name == "trades":  # the event ACTIVATION carries no record
        for row in (*rows.values(), *table.values()):
            row["activation"] = 0
    assert rows == table


def test_the_balance_of_every_account_is_the_sum_of_what_was_sent(long_run: LongRun) -> None:
    tables, broker, events, _ = long_run
    decode = Decoder(USER_RECORD)
    balance = {row["login"]: row["balance"] for row in decode.many(tables["users"])}
    for code, action, data in events:
        if code == PumpCode.UPDATE_USERS and action == Transaction.ADD:
            fields = decode(data)
            balance[fields["login"]] = fields["balance"]
        if code == PumpCode.UPDATE_TRADES:
            fields = decode_trade(data)
            is_money = fields["cmd"] == TradeCommand.OP_BALANCE
            if is_money or (action == Transaction.DELETE and fields["cmd"] < 2):
                balance[fields["login"]] += fields["profit"] + fields["storage"] + fields["commission"]
    for row in decode.many(broker.tables["users"]()):
        assert row["balance"] == pytest.approx(balance[row["login"]], abs=0.02)


def test_margin_levels_are_of_accounts_with_positions_only(long_run: LongRun) -> None:
    _, broker, _, _ = long_run
    with_positions = {order.account.login for order in broker.book.orders.values() if order.is_position}
    assert {row["login"] for row in Decoder(MARGIN_LEVEL).many(broker.tables["margins"]())} == with_positions


def test_every_record_has_its_records_size(long_run: LongRun) -> None:
    _, broker, events, _ = long_run
    for code, _, data in events:
        if data:
            assert len(data) == CALLBACK_RECORD[PumpCode(code)].size
    for name, record in TABLES.items():
        assert len(broker.tables[name]()) % Record.known[record].size == 0


def test_prices_have_exactly_the_digits_of_their_symbol(long_run: LongRun) -> None:
    _, _, _, lines = long_run
    for line in lines[::17]:
        quote = decode_quote(line)
        for name in ("bid", "ask", "high", "low"):
            assert quote[name] == float(f"{quote[name]:.{quote['digits']}f}")
        assert quote["low"] <= quote["bid"] <= quote["high"]
        assert quote["spread"] == round((quote["ask"] - quote["bid"]) / quote["point"]) > 0


def test_prices_stay_near_their_first_ones(long_run: LongRun) -> None:
    _, broker, _, _ = long_run
    for instrument in broker.market.instruments:
        assert abs(instrument.bid / instrument.base - 1) < 0.1, instrument.name
        assert instrument.moves.count(0) < len(instrument.moves)


def test_every_symbol_is_quoted_on_the_servers_clock(long_run: LongRun) -> None:
    _, broker, _, lines = long_run
    assert {line[:12] for line in lines} == set(broker.market.by_raw_name)
    times = [SYMBOL_INFO.struct.unpack(line)[SYMBOL_INFO_TIME] for line in (lines[0], lines[-1])]
    assert times == [int(START_S) + 10800, int(START_S) + 10800 + (QUOTES - 1) // 1000]


SYMBOL_INFO_TIME = [field.name for field in SYMBOL_INFO.fields].index("lasttime")


@pytest.mark.parametrize(("table", "record"), [("users", USER_RECORD), ("groups", CON_GROUP)])
def test_every_secret_field_begins_with_the_leak_prefix(table: str, record: Record) -> None:
    data = SimulatedBroker(SimulatorOptions(start_s=START_S)).tables[table]()
    for start in range(0, len(data), record.size):
        for name in record.names(SECRET):
            field = record.by_name[name]
            value = data[start + field.offset : start + field.offset + field.size]
            assert value.startswith(LEAK_PREFIX.encode()), name
            assert value.strip(b"\0") != LEAK_PREFIX.encode(), name


def test_at_midnight_swaps_are_charged_and_the_days_high_begins_anew() -> None:
    broker = SimulatedBroker(SimulatorOptions(start_s=START_S))
    events = collected(broker)
    broker.walk(3000, START_S, 0.001, None)
    instrument = broker.market.instruments[0]
    instrument.high = instrument.base * 2
    events.clear()
    broker.quotes = 0
    broker.walk(3000, START_S + 86_400, 0.001, None)
    charged = {
        fields["order"]
        for code, action, data in events
        if code == PumpCode.UPDATE_TRADES and action == Transaction.UPDATE and (fields := decode_trade(data))["storage"]
    }
    assert len(charged) > 100
    assert instrument.high < instrument.base * 1.5


def test_an_account_in_margin_call_is_reported_and_stopped_out() -> None:
    broker = SimulatedBroker(SimulatorOptions(start_s=START_S))
    events = collected(broker)
    account = next(account for account in broker.accounts.all if account.positions)
    account.is_gambler = True
    broker.accounts.pay(account, balance=-account.balance)
    broker.walk(20_000, START_S, 0.001, None)
    assert any(code == PumpCode.UPDATE_MARGINCALL for code, _, _ in events)
    notes = [
        fields["comment"]
        for code, _, data in events
        if code == PumpCode.UPDATE_TRADES and (fields := decode_trade(data))["login"] == account.login
    ]
    assert any(note.startswith("so: ") and "%/" in note for note in notes)
