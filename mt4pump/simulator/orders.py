"""Accounts with their orders: margin and profit, and the TradeRecord and MarginLevel records of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from mt4pump.mt4.codes import ActivationType, MarginLevelType, TradeCommand, TradeReason, TradeState
from mt4pump.mt4.layout import MARGIN_LEVEL, TRADE_RECORD
from mt4pump.simulator.market import Instrument

COMMENT_BYTES = 31
"""What fits the field with its NUL."""
_pack = TRADE_RECORD.struct.pack


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


class Levels(NamedTuple):
    """Equity and margin of an account, deposit currency; ``margin_level`` percent, 0 when no margin is needed."""

    equity: float
    volume: int
    margin: float
    margin_free: float
    margin_level: float

    def level_type(self, group: SimulatedGroup) -> MarginLevelType:
        """Return whether the account is below the limits of its group."""
        if not self.margin or self.margin_level >= group.margin_call:
            return MarginLevelType.MARGINLEVEL_OK
        if self.margin_level >= group.margin_stopout:
            return MarginLevelType.MARGINLEVEL_MARGINCALL
        return MarginLevelType.MARGINLEVEL_STOPOUT


def position_margin(volume: int, contract_size: float, price: float, margin_rate: float, leverage: int) -> float:
    """Return the margin of one position in deposit currency.

    ``volume`` hundredths of a lot; ``price`` 1.0 for currency pairs, whose margin is counted in the base currency;
    ``margin_rate`` deposit currency per unit of the margin currency.
    """
    return volume / 100 * contract_size * price * margin_rate / leverage


def profit_at(move: float, volume: int, contract_size: float, rate: float) -> float:
    """Return the profit of ``move`` (price, in our favour); ``rate`` deposit currency per quote currency."""
    return round(move * volume / 100 * contract_size * rate, 2)


@dataclass(slots=True, eq=False, repr=False)
class Order:
    """A pending order or a position. Prices in points (``sl`` and ``tp`` 0: none), ``volume`` in 1/100 lot.

    A trader makes it; the book adds ``order`` (its ticket), times, and a position's price.
    """

    account: SimulatedAccount
    instrument: Instrument
    cmd: int
    volume: int
    open_price: int = 0
    order: int = 0
    open_time: int = 0
    close_time: int = 0
    close_price: int = 0
    sl: int = 0
    tp: int = 0
    expiration: int = 0
    magic: int = 0
    state: TradeState = TradeState.TS_OPEN_NORMAL
    reason: TradeReason = TradeReason.TR_REASON_CLIENT
    activation: ActivationType = ActivationType.ACTIVATION_NONE
    commission: float = 0.0
    storage: float = 0.0
    profit: float = 0.0
    margin_rate: float = 0.0
    comment: str = ""

    @property
    def is_position(self) -> bool:
        """Return whether it is a position at the market, and does not wait for its price."""
        return self.cmd <= TradeCommand.OP_SELL

    @property
    def is_buy(self) -> bool:
        """Return whether it buys, now or when its price comes."""
        return self.cmd % 2 == 0  # OP_BUY, OP_BUY_LIMIT and OP_BUY_STOP are even

    def exit_price(self) -> int:
        """Return the price (points) at which it could be closed now."""
        return self.instrument.bid if self.is_buy else self.instrument.ask

    def profit_from(self, price: int) -> float:
        """Return the profit of the price alone when it is closed at ``price`` (points), deposit currency."""
        points = price - self.open_price if self.is_buy else self.open_price - price
        instrument = self.instrument
        return profit_at(points / instrument.scale, self.volume, instrument.spec.contract_size, self.conversion())

    def conversion(self) -> float:
        """Return deposit currency per quote currency of the symbol."""
        return self.instrument.market.rate(self.instrument.spec.quote, self.account.group.currency)

    def fix_terms(self) -> None:
        """Set the rate from margin currency to deposit currency, and the commission, as at opening."""
        instrument, currency = self.instrument, self.account.group.currency
        self.margin_rate = round(instrument.market.rate(instrument.spec.margin_currency, currency), 8)
        self.fix_commission()

    def fix_commission(self) -> None:
        """Set the commission on the volume."""
        self.commission = 0.0 - round(self.account.group.commission * self.volume / 100, 2)

    def margin(self) -> float:
        """Return the margin that the position needs, deposit currency."""
        spec = self.instrument.spec
        price = 1.0 if spec.is_currency_pair else self.open_price / self.instrument.scale
        return position_margin(self.volume, spec.contract_size, price, self.margin_rate, self.account.leverage)

    def pack(self, now: int, *, login: int | None = None) -> bytes:
        """Return the TradeRecord of the current state; ``now`` is server time, ``login`` 0 for a deleted record."""
        instrument, rate = self.instrument, self.conversion()
        scale = instrument.scale
        return _pack(
            self.order, self.account.login if login is None else login, instrument.raw_name, instrument.spec.digits,
            self.cmd, self.volume, self.open_time, self.state,
            self.open_price / scale, self.sl / scale, self.tp / scale, self.close_time, 0, self.expiration,
            self.reason, b"", rate, rate if self.close_time else 0.0, self.commission, 0.0, self.storage,
            self.close_price / scale, self.profit, 0.0, self.magic, self.comment[:COMMENT_BYTES].encode("ascii"),
            0, self.activation, 0, 0, self.margin_rate, now, 0, 0, 0, 0, 0,
        )  # fmt: skip


@dataclass(slots=True, eq=False, repr=False)
class SimulatedAccount:
    """One account: money in deposit currency, open and pending ``orders`` by ticket.

    ``is_gambler``: it trades far too large; ``level`` is the one that was last checked.
    """

    login: int
    group: SimulatedGroup
    leverage: int
    deposit: float
    balance: float
    is_gambler: bool
    credit: float = 0.0
    level: MarginLevelType = MarginLevelType.MARGINLEVEL_OK
    orders: dict[int, Order] = field(default_factory=dict)

    @property
    def positions(self) -> list[Order]:
        """Return the open positions, oldest ticket first."""
        return [order for order in self.orders.values() if order.is_position]

    def levels(self) -> Levels:
        """Return equity and margin at current prices; of a symbol only the larger side needs margin."""
        equity, volume = self.balance + self.credit, 0
        margins: dict[str, list[float]] = {}
        for order in self.positions:
            equity += order.profit_from(order.exit_price()) + order.storage + order.commission
            volume += order.volume
            margins.setdefault(order.instrument.name, [0.0, 0.0])[order.is_buy] += order.margin()
        needed, equity = round(sum(map(max, margins.values())), 2), round(equity, 2)
        level = equity / needed * 100 if needed else 0.0
        return Levels(equity, volume, needed, round(equity - needed, 2), level)

    def margin_level(self) -> bytes:
        """Return the account's MarginLevel record, whose balance includes the credit."""
        now = self.levels()
        return MARGIN_LEVEL.struct.pack(
            self.login, self.group.group.encode("ascii"), self.leverage, 0, round(self.balance + self.credit, 2),
            now.equity, now.volume, now.margin, now.margin_free, now.margin_level, 0, now.level_type(self.group),
        )  # fmt: skip
