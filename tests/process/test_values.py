"""`mt4pump.process.values`: which symbols the patterns select."""

from __future__ import annotations

import pytest

from mt4pump.process.values import SymbolFilter


@pytest.mark.parametrize(
    ("patterns", "symbol", "selected"),
    [
        (("*",), "EURUSD", True),
        ((), "EURUSD", True),
        (("EUR*",), "EURUSD", True),
        (("EUR*",), "USDJPY", False),
        (("EURUSD",), "EURUSD.m", False),
        (("EURUSD",), "eurusd", False),
        (("??JPY", "???JPY"), "USDJPY", True),
        (("*", "!*JPY"), "USDJPY", False),
        (("!*JPY", "*"), "USDJPY", False),
        (("!*JPY",), "EURUSD", True),
        (("!*JPY",), "USDJPY", False),
        (("EUR*", "!EURUSD"), "EURGBP", True),
        (("[!X]*",), "XAUUSD", False),
        (("[!X]*",), "EURUSD", True),
        ((" EUR* ",), "EURUSD", True),
        (("*",), "", True),
        (("#*",), "#AAPL", True),
        (("*.m",), "EURUSD.m", True),
    ],
)
def test_a_symbol_is_selected_when_included_and_not_excluded(
    patterns: tuple[str, ...], symbol: str, *, selected: bool
) -> None:
    assert SymbolFilter(patterns).selects(symbol) is selected


def test_patterns_may_come_from_any_iterable() -> None:
    chosen = SymbolFilter(pattern for pattern in ("EUR*", "!EURGBP"))
    assert [symbol for symbol in ("EURUSD", "EURGBP", "USDJPY") if chosen.selects(symbol)] == ["EURUSD"]
