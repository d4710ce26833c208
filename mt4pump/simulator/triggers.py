"""Price triggers: the prices at which an order has to be activated or closed, as heaps of each instrument."""

from __future__ import annotations

from heapq import heappop, heappush

from mt4pump.mt4.codes import Activation, TradeCommand
from mt4pump.simulator.market import NEVER_HIGH, NEVER_LOW, Instrument
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
