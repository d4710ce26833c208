"""Margin levels and activations: marks that the API puts on rows, found by comparing tables."""

from __future__ import annotations

import math
from typing import Any

from mt4pump.mt4.codes import ActivationType, PumpCode
from tests.vectors.case import Case, Rec, call, case, lost, rec, table
from tests.vectors.cases.trades import order

LEVEL: dict[str, Any] = {
    "login": 1_001,
    "group": "demoforex",
    "leverage": 100,
    "balance": 1_000.0,
    "equity": 420.0,
    "volume": 500,
    "margin": 500.0,
    "margin_free": -80.0,
    "margin_level": 84.0,
    "margin_type": 0,
    "level_type": 1,
}
MARGIN_BELL, ACTIVATION_BELL = call(PumpCode.UPDATE_MARGINCALL), call(PumpCode.UPDATE_ACTIVATION)


def level(**fields: Any) -> Rec:
    """Return the usual account in margin call, changed."""
    return rec("MarginLevel", LEVEL, fields)


def cases() -> dict[str, list[Case]]:
    """Return the cases of both kinds."""
    return {"margin": _margins(), "activation": _activations()}


def _margins() -> list[Case]:
    called = (table("margins", level()), MARGIN_BELL)
    values: dict[str, dict[str, Any]] = {
        "margin call": {},
        "stop-out": {"level_type": 2, "margin_level": 19.5},
        "in money": {"margin_type": 1},
        "level unknown": {"level_type": 9},
        "level no number": {"margin_level": math.nan},
        "level infinite": {"margin": 0.0, "margin_level": math.inf},
        "values huge": {"balance": -1e308, "equity": 1e308},
        "login below zero": {"login": -7},
        "group full, without a NUL": {"group": "0123456789abcdef"},
        "group empty": {"group": ""},
        "group in another code page": {"group": "группа"},
    }
    added = [
        case(f"add: {name}", table("margins", level(**fields)), MARGIN_BELL, encoding="cp1251")
        for name, fields in values.items()
    ]
    return [
        *added,
        case("update: from margin call to stop-out", *called, table("margins", level(level_type=2)), MARGIN_BELL),
        case("delete: out of margin call", *called, table("margins", level(level_type=0)), MARGIN_BELL),
        case("delete: no positions any more", *called, table("margins"), MARGIN_BELL),
        case(
            "synthetic: found after a reconnect",
            lost("no link: IsConnected is false"),
            table("margins", level()),
            call(PumpCode.START_PUMPING),
        ),
    ]


def _activations() -> list[Case]:
    marks = [mark for mark in ActivationType if mark]
    stopped = (table("trades", order(activation=1)), ACTIVATION_BELL)
    before = (table("trades", order()),)
    added = [
        case(f"add: {mark.name}", table("trades", order(activation=mark)), ACTIVATION_BELL, setup=before)
        for mark in marks
    ]
    return [
        *added,
        case("add: a mark that is not known", table("trades", order(activation=77)), ACTIVATION_BELL, setup=before),
        case(
            "update: the price came back",
            *stopped,
            table("trades", order(activation=-1)),
            ACTIVATION_BELL,
            setup=before,
        ),
        case("delete: the mark is gone", *stopped, *before, ACTIVATION_BELL, setup=before),
        case("delete: the order is gone", *stopped, table("trades"), ACTIVATION_BELL, setup=before),
    ]
