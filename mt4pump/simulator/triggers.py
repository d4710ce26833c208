"""When the price of an order has come, and at which prices to look; pure."""

from __future__ import annotations

from mt4pump.manager_api.codes import Activation, TradeCommand
from mt4pump.simulator.orders import Order


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
    """Tighten the bounds of the order's instrument so that its price wakes it up."""
    instrument, cmd = order.traded(), order.cmd
    if cmd == TradeCommand.OP_BUY:
        instrument.bid_low = max(instrument.bid_low, order.sl) if order.sl else instrument.bid_low
        instrument.bid_high = min(instrument.bid_high, order.tp) if order.tp else instrument.bid_high
    elif cmd == TradeCommand.OP_SELL:
        instrument.ask_high = min(instrument.ask_high, order.sl) if order.sl else instrument.ask_high
        instrument.ask_low = max(instrument.ask_low, order.tp) if order.tp else instrument.ask_low
    elif cmd == TradeCommand.OP_BUY_LIMIT:
        instrument.ask_low = max(instrument.ask_low, order.open_price)
    elif cmd == TradeCommand.OP_BUY_STOP:
        instrument.ask_high = min(instrument.ask_high, order.open_price)
    elif cmd == TradeCommand.OP_SELL_LIMIT:
        instrument.bid_high = min(instrument.bid_high, order.open_price)
    else:
        instrument.bid_low = max(instrument.bid_low, order.open_price)
