"""Accounts with their orders: present state, margin and result, and the TradeRecord and MarginLevel of each."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from mt4pump.mt4.codes import PENDING_COMMANDS, Activation, MarginLevelType, TradeCommand, TradeReason, TradeState
from mt4pump.mt4.layout import MARGIN_LEVEL, TRADE_RECORD
from mt4pump.simulator.market import Instrument, Market

COMMENT_BYTES = 31
"""What fits the field with its NUL."""

BUYING = frozenset({TradeCommand.OP_BUY, TradeCommand.OP_BUY_LIMIT, TradeCommand.OP_BUY_STOP})

ACTIVATION_AT = TRADE_RECORD.by_name["activation"].offset

_pack = TRADE_RECORD.struct.pack
_put_int = struct.Struct("<i").pack_into


@dataclass(frozen=True, slots=True)
class SimulatedGroup:
    """Terms of a group of accounts.

    ``commission`` is deposit currency per lot and round turn; ``margin_call`` and ``margin_stopout`` are percent.
    """

    group: str
    currency: str
    leverage: int
    commission: float
    margin_call: int
    margin_stopout: int
    interestrate: float = 0.0


@dataclass(frozen=True, slots=True)
class SymbolExposure:
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


def levels(balance: float, credit: float, exposures: Iterable[SymbolExposure]) -> Levels:
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


class Order:
    """An order or position. Prices in points of its symbol (``sl`` and ``tp`` 0: none), ``volume`` in 1/100 lot.

    ``record`` holds the bytes last told; ``instrument`` is None for balance and credit operations only.
    """

    __slots__ = (
        "account", "activation", "close_price", "close_time", "cmd", "comment", "commission", "expiration",
        "instrument", "magic", "margin_rate", "market", "open_price", "open_time", "order", "profit", "reason",
        "record", "sl", "state", "storage", "timestamp", "tp", "volume",
    )  # fmt: skip

    def __init__(
        self, order: int, account: SimulatedAccount, market: Market, instrument: Instrument | None, cmd: int
    ) -> None:
        self.order = order
        self.account = account
        self.market = market
        self.instrument = instrument
        self.cmd = cmd
        self.volume = self.open_time = self.open_price = self.close_price = self.close_time = 0
        self.sl = self.tp = self.expiration = self.magic = self.timestamp = 0
        self.state = TradeState.TS_OPEN_NORMAL
        self.reason = TradeReason.TR_REASON_CLIENT
        self.activation = Activation.ACTIVATION_NONE
        self.commission = self.storage = self.profit = 0.0
        self.margin_rate = 0.0
        self.comment = ""
        self.record: bytes = b""

    @property
    def is_position(self) -> bool:
        """Return whether it is a market position (not pending, not money)."""
        return self.cmd <= TradeCommand.OP_SELL

    @property
    def is_pending(self) -> bool:
        """Return whether it waits for its price."""
        return self.cmd in PENDING_COMMANDS

    @property
    def is_buy(self) -> bool:
        """Return whether it buys, now or when its price comes."""
        return self.cmd in BUYING

    def exit_price(self) -> int:
        """Return the price (points) at which it could be closed now."""
        instrument = self.traded()
        return instrument.bid if self.is_buy else instrument.ask

    def entry_price(self) -> int:
        """Return the price (points) at which it could be opened now."""
        instrument = self.traded()
        return instrument.ask if self.is_buy else instrument.bid

    def traded(self) -> Instrument:
        """Return the instrument of an order that is not a money operation."""
        if self.instrument is None:
            msg = f"order {self.order} is a money operation and has no symbol"
            raise TypeError(msg)
        return self.instrument

    def profit_from(self, price: int) -> float:
        """Return what closing at ``price`` (points) makes of the price alone, deposit currency."""
        instrument = self.traded()
        points = price - self.open_price if self.is_buy else self.open_price - price
        spec = instrument.spec
        return profit_at(points / instrument.scale, self.volume, spec.contract_size, self.conversion())

    def conversion(self) -> float:
        """Return deposit currency per quote currency of the symbol."""
        return self.market.rate(self.traded().spec.quote, self.account.group.currency)

    def fix_margin_rate(self) -> None:
        """Take today's rate from margin currency to deposit currency, as at opening."""
        spec = self.traded().spec
        of = spec.base if spec.is_currency_pair else spec.quote
        self.margin_rate = round(self.market.rate(of, self.account.group.currency), 8)

    def margin(self) -> float:
        """Return the margin that the position needs, deposit currency."""
        instrument = self.traded()
        price = 1.0 if instrument.spec.is_currency_pair else self.open_price / instrument.scale
        contract = instrument.spec.contract_size
        return position_margin(self.volume, contract, price, self.margin_rate, self.account.leverage)

    def exposure(self) -> SymbolExposure:
        """Return the position as the margin arithmetic takes it."""
        result = self.profit_from(self.exit_price()) + self.storage + self.commission
        return SymbolExposure(self.traded().name, self.is_buy, self.volume, self.margin(), result)

    def pack(self, now: int, *, login: int | None = None) -> bytes:
        """Return the TradeRecord of the present state; ``now`` is server time, ``login`` 0 for a deleted record."""
        self.timestamp = now
        instrument = self.instrument
        scale = instrument.scale if instrument else 1
        rate = self.conversion() if instrument else 0.0
        self.record = _pack(
            self.order, self.account.login if login is None else login, instrument.raw_name if instrument else b"",
            instrument.digits if instrument else 0, self.cmd, self.volume, self.open_time, self.state,
            self.open_price / scale, self.sl / scale, self.tp / scale, self.close_time, 0, self.expiration,
            self.reason, b"", rate, rate if self.close_time else 0.0, self.commission, 0.0, self.storage,
            self.close_price / scale, self.profit, 0.0, self.magic, self.comment[:COMMENT_BYTES].encode("ascii"),
            0, self.activation, 0, 0, self.margin_rate, now, 0, 0, 0, 0, 0,
        )  # fmt: skip
        return self.record

    def mark(self, activation: Activation) -> None:
        """Set ``activation``, here and in the bytes last told, whose other fields stay."""
        self.activation = activation
        record = bytearray(self.record)
        _put_int(record, ACTIVATION_AT, activation)
        self.record = bytes(record)


class SimulatedAccount:
    """One account: money in deposit currency, open and pending ``orders`` by ticket, and its record's bytes."""

    __slots__ = (
        "balance",
        "credit",
        "deposit",
        "group",
        "is_gambler",
        "level",
        "leverage",
        "login",
        "orders",
        "record",
    )

    def __init__(self, login: int, group: SimulatedGroup, leverage: int, deposit: float, *, is_gambler: bool) -> None:
        self.login = login
        self.group = group
        self.leverage = leverage
        self.deposit = deposit
        self.balance = deposit
        self.credit = 0.0
        self.is_gambler = is_gambler
        self.level = MarginLevelType.MARGINLEVEL_OK
        self.orders: dict[int, Order] = {}
        self.record = bytearray()

    @property
    def positions(self) -> list[Order]:
        """Return the open positions, oldest ticket first."""
        return [order for order in self.orders.values() if order.is_position]

    def exposures(self) -> list[SymbolExposure]:
        """Return the open positions as the margin arithmetic takes them."""
        return [order.exposure() for order in self.orders.values() if order.is_position]

    def levels(self) -> Levels:
        """Return where the account stands at present prices."""
        return levels(self.balance, self.credit, self.exposures())

    def level_type(self, now: Levels) -> MarginLevelType:
        """Return what ``now`` means in the account's group."""
        return level_type(now, self.group.margin_call, self.group.margin_stopout)

    def margin_level(self) -> bytes:
        """Return the account's MarginLevel record, whose balance has the credit in it."""
        now = self.levels()
        balance = round(self.balance + self.credit, 2)
        return MARGIN_LEVEL.struct.pack(
            self.login, self.group.group.encode("ascii"), self.leverage, 0, balance, now.equity, now.volume,
            now.margin, now.margin_free, now.margin_level, 0, self.level_type(now),
        )  # fmt: skip
