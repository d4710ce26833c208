"""Quotes."""

from __future__ import annotations

import math
from typing import Any

from mt4pump.mt4.codes import PumpCode
from tests.vectors.case import Case, Step, call, case, quotes, rec
from tests.vectors.cases.texts import BROKEN, TEXTS

EURUSD: dict[str, Any] = {
    "symbol": "EURUSD",
    "digits": 5,
    "count": 3,
    "visible": 1,
    "type": 2,
    "point": 0.00001,
    "spread": 10,
    "direction": 0,
    "updateflag": 1,
    "lasttime": 1_577_916_000,
    "bid": 1.12123,
    "ask": 1.12135,
    "high": 1.125,
    "low": 1.1185,
}
BELL = call(PumpCode.UPDATE_BIDASK)

SHAPES: dict[str, dict[str, Any]] = {
    "five digits": {},
    "three digits": {"symbol": "USDJPY", "digits": 3, "bid": 108.123, "ask": 108.141, "high": 109.0, "low": 107.5},
    "two digits": {"symbol": "XAUUSD", "digits": 2, "bid": 1517.23, "ask": 1517.61, "high": 1520.0, "low": 1500.0},
    "no digits": {"symbol": "#DJ30", "digits": 0, "bid": 28538.0, "ask": 28541.0},
    "digits below zero": {"digits": -1},
    "digits beyond a double": {"digits": 400},
    "direction down": {"direction": 1},
    "direction none": {"direction": 2},
    "direction unknown": {"direction": -7},
    "time zero": {"lasttime": 0},
    "time before 1970": {"lasttime": -1},
    "time at its end": {"lasttime": 2**31 - 1},
    "no spread": {"ask": 1.12123},
    "spread below zero": {"ask": 1.1212},
    "spread half a point, to even": {"digits": 1, "bid": 1.0, "ask": 1.25},
    "bid no number": {"bid": math.nan},
    "ask infinite": {"ask": math.inf},
    "bid minus infinite": {"bid": -math.inf},
    "both infinite": {"bid": math.inf, "ask": math.inf},
    "high and low no number": {"high": math.nan, "low": -math.inf},
    "spread at the edge of 32 bits": {"digits": 0, "bid": 0.0, "ask": 2147483647.0},
    "spread beyond 32 bits": {"digits": 0, "bid": 0.0, "ask": 2147483648.0},
    "spread beyond 64 bits": {"bid": 0.0, "ask": 1e20},
    "prices huge": {"bid": -1.7e308, "ask": 1.7e308},
    "prices tiny": {"bid": 5e-324, "ask": 1e-300},
    "prices zero": {"bid": 0.0, "ask": 0.0, "high": 0.0, "low": 0.0},
    "prices minus zero": {"bid": -0.0, "ask": -0.0, "high": -0.0, "low": -0.0},
    "prices below zero": {"symbol": "CL-K20", "digits": 2, "bid": -37.63, "ask": -37.5},
    "symbol empty": {"symbol": ""},
    "symbol full, without a NUL": {"symbol": "ABCDEFGHIJKL"},
    "symbol with a dot": {"symbol": "EURUSD.pro"},
    "symbol with a blank and a slash": {"symbol": "US 30/cash"},
    "symbol with a bar": {"symbol": "A|B"},
    "symbol with garbage behind its NUL": {"symbol": b"EURUSD\0\xff\x01"},
}


def ring(**fields: Any) -> tuple[Step, Step]:
    """Return one quote and its bell."""
    return quotes(rec("SymbolInfo", EURUSD, fields)), BELL


def cases() -> list[Case]:
    """Return all cases of quotes."""
    plain = [case(name, *ring(**fields)) for name, fields in SHAPES.items()]
    pages = [case(f"symbol in {page}", *ring(symbol=text), encoding=page) for page, text in TEXTS.items()]
    broken = [case(f"symbol broken in {page}", *ring(symbol=raw), encoding=page) for page, raw in BROKEN.items()]
    return [*plain, *pages, *broken, *_several()]


def _several() -> list[Case]:
    gbp = rec("SymbolInfo", EURUSD, symbol="GBPUSD", bid=1.3, ask=1.3002)
    eur = rec("SymbolInfo", EURUSD)
    return [
        case("two of one symbol", *ring(), *ring(bid=1.1213, direction=1)),
        case("two symbols and one again at one bell", quotes(eur, gbp, eur), BELL),
        case("other digits than before", *ring(), *ring(digits=4)),
        case("no number between two prices", *ring(), *ring(bid=math.nan), *ring()),
        case("a bell with nothing behind it", BELL),
        case("suffix on the topic", *ring(), topic_suffix="|"),
        case("suffix in the symbol", *ring(symbol="A|B|"), topic_suffix="|"),
        case("suffix that is a control character", *ring(), topic_suffix="\x1f"),
    ]
