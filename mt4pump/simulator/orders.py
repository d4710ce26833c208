"""One order: its present state, its result, its TradeRecord."""

from __future__ import annotations

import struct

from mt4pump.manager_api.codes import PENDING_COMMANDS, Activation, TradeCommand, TradeReason, TradeState
from mt4pump.manager_api.layout import TRADE_RECORD
from mt4pump.simulator.accounts import Account
from mt4pump.simulator.margin import Exposure, position_margin, profit_at
from mt4pump.simulator.market import Instrument, Market

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

    def __init__(self, order: int, account: Account, market: Market, instrument: Instrument | None, cmd: int) -> None:
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

    def exposure(self) -> Exposure:
        """Return the position as the margin arithmetic takes it."""
        result = self.profit_from(self.exit_price()) + self.storage + self.commission
        return Exposure(self.traded().name, self.is_buy, self.volume, self.margin(), result)

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
