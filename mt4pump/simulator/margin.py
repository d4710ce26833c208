"""Margin arithmetic of an account; pure.

As the API computes it from pumped data: equity is balance, credit and the result of the open positions; of positions
in both directions of one symbol only the larger side needs margin (``hedge_largeleg``); the level is in percent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from mt4pump.manager_api.codes import MarginLevelType


@dataclass(frozen=True, slots=True)
class Exposure:
    """One open position. ``margin`` and ``profit`` in deposit currency, ``volume`` in hundredths of a lot.

    ``profit`` is the whole result so far: price, swap and commission.
    """

    symbol: str
    is_buy: bool
    volume: int
    margin: float
    profit: float


class Levels(NamedTuple):
    """Where an account stands, deposit currency; ``margin_level`` percent, 0 when no margin is needed."""

    equity: float
    volume: int
    margin: float
    margin_free: float
    margin_level: float


def position_margin(volume: int, contract_size: float, price: float, margin_rate: float, leverage: int) -> float:
    """Return the margin of one position in deposit currency.

    ``volume`` hundredths of a lot; ``price`` 1.0 for currency pairs, whose margin is counted in the base currency;
    ``margin_rate`` deposit currency per unit of the margin currency.
    """
    return volume / 100 * contract_size * price * margin_rate / leverage


def profit_at(move: float, volume: int, contract_size: float, rate: float) -> float:
    """Return the money made by ``move`` (price, in our favour); ``rate`` deposit currency per quote currency."""
    return round(move * volume / 100 * contract_size * rate, 2)


def levels(balance: float, credit: float, exposures: Iterable[Exposure]) -> Levels:
    """Return where an account with these positions stands."""
    equity, volume = balance + credit, 0
    legs: dict[str, list[float]] = {}
    for exposure in exposures:
        equity += exposure.profit
        volume += exposure.volume
        legs.setdefault(exposure.symbol, [0.0, 0.0])[exposure.is_buy] += exposure.margin
    margin = round(sum(max(sides) for sides in legs.values()), 2)
    equity = round(equity, 2)
    return Levels(equity, volume, margin, round(equity - margin, 2), equity / margin * 100 if margin else 0.0)


def level_type(now: Levels, margin_call: int, margin_stopout: int) -> MarginLevelType:
    """Return whether ``now`` is below the group's limits (percent)."""
    if not now.margin or now.margin_level >= margin_call:
        return MarginLevelType.MARGINLEVEL_OK
    if now.margin_level >= margin_stopout:
        return MarginLevelType.MARGINLEVEL_MARGINCALL
    return MarginLevelType.MARGINLEVEL_STOPOUT
