"""One order: its present state, its result, its TradeRecord."""

from __future__ import annotations

import struct
from heapq import heappop, heappush

from mt4pump.mt4.codes import PENDING_COMMANDS, Activation, TradeCommand, TradeReason, TradeState
from mt4pump.mt4.layout import TRADE_RECORD
from mt4pump.simulator.accounts import SimulatedAccount, SymbolExposure, position_margin, profit_at
from mt4pump.simulator.market import NEVER_HIGH, NEVER_LOW, Instrument, Market


def reached(order: Order) -> Activation:
    """Return what the present price asks of an order."""
    instrument = order.traded()
    bid, ask, cmd = instrument.bid, instrument.ask, order.cmd
    if cmd == TradeCommand.OP_BUY:
        if order.sl and bid <= order.sl:
            return Activation.ACTIVATION_SL
        return Activation.ACTIVATION_TP if order.tp and bid >= order.tp else Activation.ACTIVATION_NONE
    if cmd == TradeCommand.OP_SELL:
        if order.sl and ask >= order.sl:
            return Activation.ACTIVATION_SL
        return Activation.ACTIVATION_TP if order.tp and ask <= order.tp else Activation.ACTIVATION_NONE
    price = order.open_price
    has_come = {
        TradeCommand.OP_BUY_LIMIT: ask <= price,
        TradeCommand.OP_BUY_STOP: ask >= price,
        TradeCommand.OP_SELL_LIMIT: bid >= price,
        TradeCommand.OP_SELL_STOP: bid <= price,
    }
    return Activation.ACTIVATION_PENDING if has_come[TradeCommand(cmd)] else Activation.ACTIVATION_NONE


def watch(order: Order) -> None:
    """Have the order's price wake it up: one entry for each price that it waits for."""
    instrument, cmd = order.traded(), order.cmd
    if cmd == TradeCommand.OP_BUY:
        if order.sl:
            heappush(instrument.bid_lows, (-order.sl, order.order))
        if order.tp:
            heappush(instrument.bid_highs, (order.tp, order.order))
    elif cmd == TradeCommand.OP_SELL:
        if order.sl:
            heappush(instrument.ask_highs, (order.sl, order.order))
        if order.tp:
            heappush(instrument.ask_lows, (-order.tp, order.order))
    elif cmd == TradeCommand.OP_BUY_LIMIT:
        heappush(instrument.ask_lows, (-order.open_price, order.order))
    elif cmd == TradeCommand.OP_BUY_STOP:
        heappush(instrument.ask_highs, (order.open_price, order.order))
    elif cmd == TradeCommand.OP_SELL_LIMIT:
        heappush(instrument.bid_highs, (order.open_price, order.order))
    else:
        heappush(instrument.bid_lows, (-order.open_price, order.order))
    tighten(instrument)


def tighten(instrument: Instrument) -> None:
    """Set the instrument's bounds to the first entry of each heap; an entry that is out of date makes them tighter."""
    lows, highs, ask_lows, ask_highs = (
        instrument.bid_lows,
        instrument.bid_highs,
        instrument.ask_lows,
        instrument.ask_highs,
    )
    instrument.bid_low = -lows[0][0] if lows else NEVER_LOW
    instrument.bid_high = highs[0][0] if highs else NEVER_HIGH
    instrument.ask_low = -ask_lows[0][0] if ask_lows else NEVER_LOW
    instrument.ask_high = ask_highs[0][0] if ask_highs else NEVER_HIGH


def passed(instrument: Instrument) -> set[int]:
    """Take the entries whose price has come; return their tickets, also of orders that changed or ended since."""
    tickets = set()
    bid, ask = instrument.bid, instrument.ask
    for heap, limit in (
        (instrument.bid_lows, -bid),
        (instrument.bid_highs, bid),
        (instrument.ask_lows, -ask),
        (instrument.ask_highs, ask),
    ):
        while heap and heap[0][0] <= limit:
            tickets.add(heappop(heap)[1])
    tighten(instrument)
    return tickets


def entries(instrument: Instrument) -> int:
    """Return how many entries there are, those out of date counted."""
    heaps = (instrument.bid_lows, instrument.bid_highs, instrument.ask_lows, instrument.ask_highs)
    return sum(map(len, heaps))


COMMENT_BYTES = 31
"""What fits the field with its NUL."""

BUYING = frozenset({TradeCommand.OP_BUY, TradeCommand.OP_BUY_LIMIT, TradeCommand.OP_BUY_STOP})

ACTIVATION_AT = TRADE_RECORD.by_name["activation"].offset

_pack = TRADE_RECORD.struct.pack
_put_int = struct.Struct("<i").pack_into


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
