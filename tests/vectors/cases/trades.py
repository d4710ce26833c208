"""Trades: every change, and every way that leads to it."""

from __future__ import annotations

import math
from typing import Any

from mt4pump.mt4.codes import PumpCode, TradeCommand, TradeReason, TradeState, Transaction
from tests.vectors.case import Case, Rec, Step, call, case, lost, rec, table
from tests.vectors.cases.texts import BROKEN, TEXTS

ADD, DELETE, UPDATE, CHANGE_GRP = Transaction.ADD, Transaction.DELETE, Transaction.UPDATE, Transaction.CHANGE_GRP
NOW = 1_577_916_000
ORDER: dict[str, Any] = {
    "order": 5_001,
    "login": 1_001,
    "symbol": "EURUSD",
    "digits": 5,
    "cmd": 0,
    "volume": 150,
    "open_time": NOW,
    "open_price": 1.1212,
    "sl": 1.115,
    "tp": 1.13,
    "reason": 1,
    "conv_rates": [1.0, 0.0],
    "commission": -3.5,
    "close_price": 1.1214,
    "profit": 30.0,
    "magic": 77,
    "comment": "by robot",
    "margin_rate": 1.1212,
    "timestamp": NOW,
}
CLOSED = {"close_time": NOW + 60, "close_price": 1.125, "profit": 570.0, "state": 3, "timestamp": NOW + 60}
PENDING = {"cmd": 2, "open_price": 1.11, "expiration": NOW + 86_400, "profit": 0.0, "commission": 0.0}
DEPOSIT = {"symbol": "", "cmd": 6, "volume": 0, "profit": 1_000.0, "close_time": NOW, "comment": "deposit"}


def order(*changes: dict[str, Any], **fields: Any) -> Rec:
    """Return the usual order with changes."""
    return rec("TradeRecord", ORDER, *changes, fields)


def result(action: int, *changes: dict[str, Any], **fields: Any) -> Step:
    """Return a callback with the usual order, changed."""
    return call(PumpCode.UPDATE_TRADES, action, order(*changes, **fields))


OPEN = result(ADD)
BELL = call(PumpCode.UPDATE_TRADES)

VALUES: dict[str, dict[str, Any]] = {
    "all zero but the order": dict.fromkeys(ORDER, 0) | {"order": 1, "symbol": "", "comment": "", "conv_rates": []},
    "login below zero": {"login": -5},
    "login at its end": {"login": 2**31 - 1, "order": 2**31 - 1},
    "login at its other end": {"login": -(2**31), "order": -(2**31)},
    "volume largest": {"volume": 2**31 - 1},
    "times before 1970": {"open_time": -1, "timestamp": -(2**31), "expiration": -1},
    "prices no number": {"open_price": math.nan, "sl": math.nan, "tp": math.nan, "close_price": math.nan},
    "prices infinite": {"open_price": math.inf, "sl": -math.inf},
    "prices huge and tiny": {"open_price": 1.7976931348623157e308, "sl": 5e-324, "tp": -5e-324},
    "profit minus zero": {"profit": -0.0, "storage": -0.0},
    "conv_rates no number": {"conv_rates": [math.nan, math.inf]},
    "magic below zero": {"magic": -1},
    "gateway fields": {"gw_volume": 150, "gw_order": 99, "gw_open_price": -32768, "gw_close_price": 32767},
    "symbol full, without a NUL": {"symbol": "ABCDEFGHIJKL"},
    "comment full, without a NUL": {"comment": "0123456789ABCDEF0123456789abcdef"},
    "comment empty": {"comment": ""},
    "comment with quotes and control characters": {"comment": 'say "hi"\t\\\x01'},
    "comment with garbage behind its NUL": {"comment": b"ok\0\xff\xfe\x01"},
    "internal bytes are never told": {"api_data": [1, 2, 3, 4], "next": 0xDEADBEEF, "conv_reserv": b"\xff\xff\xff"},
    "reason unknown": {"reason": -128},
    "state unknown": {"state": 99},
}


def cases() -> list[Case]:
    """Return all cases of trades."""
    return [*_begins(), *_middles(), *_ends(), *_money(), *_inferred(), *_values()]


def _begins() -> list[Case]:
    opened = [
        case(f"{'opened' if command < 2 else 'placed'}: {command.name}", result(ADD, cmd=command))
        for command in TradeCommand
        if command < TradeCommand.OP_BALANCE
    ]
    activated = [
        case(
            f"activated: {before.name}",
            result(ADD, PENDING, cmd=before),
            result(UPDATE, PENDING, cmd=after, timestamp=NOW + 5),
        )
        for before, after in (
            (TradeCommand.OP_BUY_LIMIT, TradeCommand.OP_BUY),
            (TradeCommand.OP_SELL_LIMIT, TradeCommand.OP_SELL),
            (TradeCommand.OP_BUY_STOP, TradeCommand.OP_BUY),
            (TradeCommand.OP_SELL_STOP, TradeCommand.OP_SELL),
        )
    ]
    return [*opened, *activated]


def _middles() -> list[Case]:
    return [
        case("modified: stops", OPEN, result(UPDATE, sl=1.12, tp=0.0)),
        case("a record that says the same again is no event", OPEN, result(UPDATE)),
        case("modified: order not known", result(UPDATE, sl=1.12)),
        case("modified: twice, before is the last one", OPEN, result(UPDATE, sl=1.12), result(UPDATE, sl=1.121)),
        case("modified: no number to no number", result(ADD, sl=math.nan), result(UPDATE, sl=math.nan, tp=1.0)),
        case("minus zero is zero, so that this is no event", result(ADD, sl=-0.0), result(UPDATE, sl=0.0)),
        case("modified: no number to a number", result(ADD, sl=math.nan), result(UPDATE, sl=1.1)),
        case("modified: an action that the API does not have", OPEN, result(42, sl=1.12)),
        case("modified: change of group", OPEN, result(CHANGE_GRP)),
        case("modified: pending moved", result(ADD, PENDING), result(UPDATE, PENDING, open_price=1.105)),
    ]


def _ends() -> list[Case]:
    pending = result(ADD, PENDING)
    states = (TradeState.TS_CLOSED_NORMAL, TradeState.TS_CLOSED_PART, TradeState.TS_CLOSED_BY)
    return [
        case("closed: DELETE", OPEN, result(DELETE, CLOSED)),
        case("closed: UPDATE with a close time", OPEN, result(UPDATE, CLOSED, state=0)),
        *(case(f"closed: {state.name}", OPEN, result(DELETE, CLOSED, state=state)) for state in states),
        case("closed: order not known", result(DELETE, CLOSED)),
        case("closed: then told again", OPEN, result(DELETE, CLOSED), result(DELETE, CLOSED)),
        case(
            "closed: in part, the rest is a new order",
            OPEN,
            result(DELETE, CLOSED, state=4, volume=50),
            result(ADD, order=5_002, volume=100, state=1, comment="from #5001"),
        ),
        case("cancelled: DELETE", pending, result(DELETE, PENDING, close_time=NOW + 9)),
        case("cancelled: UPDATE with login 0", pending, result(UPDATE, PENDING, login=0)),
        case("cancelled: order not known", result(DELETE, PENDING, close_time=NOW + 9)),
        case("deleted: UPDATE with login 0", OPEN, result(UPDATE, login=0)),
        case("deleted: TS_DELETED", OPEN, result(DELETE, state=6)),
        case("deleted: after its close", OPEN, result(DELETE, CLOSED), result(UPDATE, CLOSED, login=0)),
        case("opened: an ended order that is restored", OPEN, result(DELETE, CLOSED), result(ADD, state=2)),
    ]


def _money() -> list[Case]:
    return [
        case("balance: deposit", result(ADD, DEPOSIT)),
        case("balance: withdrawal", result(ADD, DEPOSIT, profit=-250.25, comment="withdrawal")),
        case("balance: without a close time", result(ADD, DEPOSIT, close_time=0)),
        case("balance: no number", result(ADD, DEPOSIT, profit=math.nan)),
        case("balance: before the start", result(ADD, DEPOSIT), start=False),
        case("credit: in", result(ADD, DEPOSIT, cmd=7, comment="credit in")),
        case("credit: out", result(ADD, DEPOSIT, cmd=7, profit=-100.0, expiration=NOW + 60)),
    ]


def _inferred() -> list[Case]:
    held = table("trades", order())
    pending = table("trades", order(PENDING))
    user = table("users", rec("UserRecord", login=1_001), rec("UserRecord", login=1_002))
    gone = table("users", rec("UserRecord", login=1_002))
    return [
        case("synthetic: opened", table("trades", order()), BELL),
        case("synthetic: modified", table("trades", order(sl=1.12)), BELL, setup=(held,)),
        case("synthetic: closed", table("trades"), BELL, setup=(held,)),
        case("synthetic: cancelled", table("trades"), BELL, setup=(pending,)),
        case("synthetic: activated", table("trades", order(cmd=0)), BELL, setup=(pending,)),
        case("synthetic: a price that moved is no event", table("trades", order(profit=99.0)), BELL, setup=(held,)),
        case(
            "synthetic: closed while the session was away",
            lost("no link: IsConnected is false"),
            table("trades"),
            call(PumpCode.START_PUMPING),
            setup=(held,),
        ),
        case(
            "synthetic: deleted, as its account left our reach",
            lost("STOP_PUMPING: the server or the link ended the session"),
            gone,
            table("trades"),
            call(PumpCode.START_PUMPING),
            setup=(held, user),
        ),
    ]


def _values() -> list[Case]:
    values = [case(name, result(ADD, fields)) for name, fields in VALUES.items()]
    reasons = [case(f"reason {reason.name}", result(ADD, reason=reason)) for reason in TradeReason]
    pages = [case(f"comment in {page}", result(ADD, comment=text), encoding=page) for page, text in TEXTS.items()]
    broken = [
        case(f"comment broken in {page}", result(ADD, comment=raw), encoding=page) for page, raw in BROKEN.items()
    ]
    suffix = case("suffix on the topic", OPEN, topic_suffix="|")
    return [*values, *reasons, *pages, *broken, suffix]
