"""What traders and the trade server do between two quotes: one action of a trader, and a step of the order execution.

All random numbers come from one seeded source, so that a run can be repeated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import accumulate, islice

from mt4pump.mt4.codes import ActivationType, MarginLevelType, PumpCode, TradeCommand, TradeReason
from mt4pump.simulator.market import Instrument
from mt4pump.simulator.order_book import OrderBook
from mt4pump.simulator.orders import Order, SimulatedAccount, position_margin

ORDERS_LIMIT, GAMBLER_ORDERS_LIMIT = 5, 2
"""Orders that an account has before it stops opening more."""
PENDING_LIMIT = 2
LARGEST_VOLUME = 5_000
OLDEST_ORDER_S = 5 * 86_400
SHORTEST_EXPIRATION_S = 600
COMMENTS = ("", "", "", "scalper", "EA v2.1", "hedge", "mobile")

DEFERRED_SHARE = 0.25
"""Part of the prices reached that waits for a dealer, with ``activation`` set, instead of being executed at once."""
DEFERRED_LIMIT = 64
ORDERS_PER_STEP = 5_000
"""Per so many orders, a deferred one takes another step: each ACTIVATION makes the reader read the table of all."""
STOPPED_OUT_LIMIT = 256
SWAPS_AT_ONCE = 20
OTHERS_CHECKED_EVERY = 4
ROLLBACK_SHARE = 0.3
ROLLBACK_OF = {
    ActivationType.ACTIVATION_SL: ActivationType.ACTIVATION_SL_ROLLBACK,
    ActivationType.ACTIVATION_TP: ActivationType.ACTIVATION_TP_ROLLBACK,
    ActivationType.ACTIVATION_PENDING: ActivationType.ACTIVATION_PENDING_ROLLBACK,
}


class OrderExecution:
    """What the trade server does to orders: prices reached, expirations, margin calls, stop-outs, the night's swaps.

    ``stopped_out`` holds the accounts that were stopped out and wait for new money.
    """

    def __init__(self, book: OrderBook) -> None:
        self._book = book
        self._context, self._market, self._accounts = book.context, book.market, book.accounts
        self._deferred: deque[tuple[int, ActivationType]] = deque()
        self._without_swap: deque[int] = deque()
        self._day = book.context.server_day
        self._steps = self._next_gambler = self._next_other = 0
        self.stopped_out: deque[SimulatedAccount] = deque(maxlen=STOPPED_OUT_LIMIT)

    def step(self) -> None:
        """Do what is due besides prices reached, and check the margin of one or two accounts."""
        self._steps += 1
        self._book.cancel_expired()
        self._finish_deferred()
        self._charge_swaps()
        self._check_margins()

    def execute_reached(self, instrument: Instrument) -> None:
        """Execute the orders of ``instrument`` whose price was reached: at once, or later with ``activation`` set."""
        for order, activation in self._book.triggered(instrument):
            is_deferred = len(self._deferred) < DEFERRED_LIMIT // self._deferred_steps()
            if is_deferred and self._context.random.random() < DEFERRED_SHARE:
                self._book.set_activation(order, activation)
                self._deferred.append((order.order, activation))
            else:
                self._book.execute(order, activation)

    def _deferred_steps(self) -> int:
        return min(DEFERRED_LIMIT, 1 + len(self._book.orders) // ORDERS_PER_STEP)

    def _finish_deferred(self) -> None:
        """Execute the oldest deferred order; or roll it back, and clear its ``activation`` a step later."""
        if not self._deferred or self._steps % self._deferred_steps():
            return
        ticket, activation = self._deferred.popleft()
        order = self._book.orders.get(ticket)
        if order is None:
            return
        if activation in ROLLBACK_OF and self._context.random.random() < ROLLBACK_SHARE:
            self._book.set_activation(order, ROLLBACK_OF[activation])
            self._deferred.append((ticket, ROLLBACK_OF[activation]))
        elif activation in ROLLBACK_OF:
            self._book.execute(order, activation)
            self._context.emit(PumpCode.UPDATE_ACTIVATION, 0, b"")
        else:
            self._book.set_activation(order, ActivationType.ACTIVATION_NONE)

    def _check_margins(self) -> None:
        """Check the next gambler, and sometimes another account."""
        accounts = self._accounts.all
        for _ in range(len(accounts)):
            self._next_gambler = (self._next_gambler + 1) % len(accounts)
            if accounts[self._next_gambler].is_gambler:
                self._check_margin(accounts[self._next_gambler])
                break
        if self._steps % OTHERS_CHECKED_EVERY == 0:
            self._next_other = (self._next_other + 1) % len(accounts)
            self._check_margin(accounts[self._next_other])

    def _check_margin(self, account: SimulatedAccount) -> None:
        self._accounts.update_level(account)
        level = account.levels().level_type(account.group)
        if level != account.level:
            account.level = level
            self._context.emit(PumpCode.UPDATE_MARGINCALL, 0, b"")
        if level == MarginLevelType.MARGINLEVEL_STOPOUT:
            self._stop_out(account)

    def _stop_out(self, account: SimulatedAccount) -> None:
        """Close the worst positions until the account is above its stop-out level."""
        for _ in range(len(account.positions)):
            now = account.levels()
            if now.level_type(account.group) != MarginLevelType.MARGINLEVEL_STOPOUT:
                break
            worst = min(account.positions, key=lambda order: (order.profit_from(order.exit_price()), order.order))
            self._book.set_activation(worst, ActivationType.ACTIVATION_STOPOUT)
            self._book.close(worst, note=f"so: {now.margin_level:.1f}%/{now.equity:.1f}/{now.margin:.1f}")
        account.level = account.levels().level_type(account.group)
        self._context.emit(PumpCode.UPDATE_MARGINCALL, 0, b"")
        self.stopped_out.append(account)

    def _charge_swaps(self) -> None:
        """At the server's midnight reset the day's highs and lows, and charge swaps, a few orders a step."""
        if self._context.server_day != self._day:
            self._day = self._context.server_day
            for instrument in self._market.instruments:
                instrument.start_day()
            self._without_swap = deque(self._book.orders)
        for _ in range(min(SWAPS_AT_ONCE, len(self._without_swap))):
            order = self._book.orders.get(self._without_swap.popleft())
            if order and order.is_position:
                spec = order.instrument.spec
                points = spec.swap_long if order.is_buy else spec.swap_short
                money = points / spec.scale * spec.contract_size * order.volume / 100 * order.conversion()
                self._book.charge_swap(order, money)


class Traders:
    """All traders; `act` lets one of them do something."""

    def __init__(self, book: OrderBook, execution: OrderExecution) -> None:
        self._book = book
        self._context, self._market, self._accounts = book.context, book.market, book.accounts
        self._random = book.context.random
        self._stopped_out = execution.stopped_out
        actions: tuple[tuple[Callable[[SimulatedAccount], bool], int], ...] = (
            (self._open, 30),
            (self._close, 22),
            (self._modify, 15),
            (self._place, 9),
            (self._close_part, 6),
            (self._close_by, 5),
            (self._cancel, 4),
            (self._move_money, 4),
            (self._give_credit, 1),
        )
        self._actions = tuple(action for action, _ in actions)
        self._weights = tuple(accumulate(weight for _, weight in actions))

    def populate(self) -> None:
        """Give every account the orders that it would have after a while."""
        context, random = self._context, self._random
        start_s = context.now_s
        for account in self._accounts.all:
            wanted = random.randrange(1, (GAMBLER_ORDERS_LIMIT if account.is_gambler else ORDERS_LIMIT) + 1)
            for _ in range(wanted):
                context.now_s = start_s - random.randrange(SHORTEST_EXPIRATION_S, OLDEST_ORDER_S)
                if not (random.random() < 0.8 and self._open(account)):
                    context.now_s = start_s - random.randrange(SHORTEST_EXPIRATION_S)  # so that none has expired yet
                    self._place(account)
        context.now_s = start_s

    def act(self) -> None:
        """Let one trader do something."""
        (action,) = self._random.choices(self._actions, cum_weights=self._weights)
        account = self._random.choice(self._accounts.all)
        if not action(account) and not self._open(account):
            self._close(account)

    def burst(self, closes: int) -> None:
        """Close ``closes`` positions at once; those that are missing are opened first."""
        positions = list(islice((order for order in self._book.orders.values() if order.is_position), closes))
        accounts, instruments = self._accounts.all, self._market.instruments
        for number in range(len(positions), closes):
            cmd = TradeCommand.OP_BUY if number % 2 else TradeCommand.OP_SELL
            account, instrument = accounts[number % len(accounts)], instruments[number % len(instruments)]
            order = Order(account, instrument, cmd, 1, comment="burst")
            self._book.open(order)
            positions.append(order)
        for order in positions:
            self._book.close(order)

    def _open(self, account: SimulatedAccount) -> bool:
        random = self._random
        if len(account.orders) >= (GAMBLER_ORDERS_LIMIT if account.is_gambler else ORDERS_LIMIT):
            return False
        instrument = random.choice(self._market.instruments)
        volume = self._volume(account, instrument)
        if not volume:
            return False
        cmd = TradeCommand.OP_BUY if random.random() < 0.5 else TradeCommand.OP_SELL
        sl, tp = (0, 0) if account.is_gambler else self._stops(instrument, buy=cmd == TradeCommand.OP_BUY)
        reason = random.choice((TradeReason.TR_REASON_CLIENT, TradeReason.TR_REASON_EXPERT, TradeReason.TR_REASON_WEB))
        magic = random.randrange(1, 10_000) if reason == TradeReason.TR_REASON_EXPERT else 0
        order = Order(account, instrument, cmd, volume, sl=sl, tp=tp, magic=magic, reason=reason)
        order.comment = random.choice(COMMENTS)
        self._book.open(order)
        return True

    def _volume(self, account: SimulatedAccount, instrument: Instrument) -> int:
        """Return the volume that uses some percent of the free margin; 0 when there is too little of it."""
        random, spec = self._random, instrument.spec
        share = random.uniform(0.35, 0.8) if account.is_gambler else random.uniform(0.01, 0.08)
        price = 1.0 if spec.is_currency_pair else instrument.bid / instrument.scale
        rate = self._market.rate(spec.margin_currency, account.group.currency)
        lot = position_margin(100, spec.contract_size, price, rate, account.leverage)
        free = account.levels().margin_free
        volume = int(free * share / lot * 100)
        if volume < 1:
            volume = 1 if free > lot / 100 * 4 else 0
        return min(volume, LARGEST_VOLUME)

    def _stops(self, instrument: Instrument, *, buy: bool, price: int | None = None) -> tuple[int, int]:
        """Return stop loss and take profit (points) around ``price``, either of them often left out."""
        random = self._random
        price = price or (instrument.bid if buy else instrument.ask)
        step = max(instrument.base // 4000, 4 * instrument.spec.spread)
        below = max(1, price - int(step * random.uniform(1, 8)))
        above = price + int(step * random.uniform(1, 8))
        sl, tp = (below, above) if buy else (above, below)
        return sl if random.random() < 0.7 else 0, tp if random.random() < 0.6 else 0

    def _pick(self, account: SimulatedAccount, *, pending: bool) -> Order | None:
        orders = [o for o in account.orders.values() if o.is_position != pending and not o.activation]
        return self._random.choice(orders) if orders else None

    def _close(self, account: SimulatedAccount) -> bool:
        order = self._pick(account, pending=False)
        if order:
            self._book.close(order)
        return order is not None

    def _close_part(self, account: SimulatedAccount) -> bool:
        order = self._pick(account, pending=False)
        if order is None or order.volume < 2:
            return False
        self._book.close(order, volume=self._random.randrange(1, order.volume))
        return True

    def _close_by(self, account: SimulatedAccount) -> bool:
        order = self._pick(account, pending=False)
        if order is None:
            return False
        instrument = order.instrument
        for other in account.positions:
            if other.instrument is instrument and other.is_buy != order.is_buy and not other.activation:
                self._book.close_by(order, other)
                return True
        # There is no opposite position yet: open one now, so that a later action can close both.
        cmd = TradeCommand.OP_SELL if order.is_buy else TradeCommand.OP_BUY
        volume = max(1, order.volume * self._random.choice((1, 1, 2)) // 2)
        self._book.open(Order(account, instrument, cmd, volume, comment="hedge"))
        return True

    def _modify(self, account: SimulatedAccount) -> bool:
        order = self._pick(account, pending=self._random.random() < 0.3)
        if order is None:
            return False
        instrument, price = order.instrument, None
        if not order.is_position:
            price = order.open_price + (-1 if order.open_price > instrument.bid else 1) * instrument.spec.spread
            if abs(price - instrument.bid) < 3 * instrument.spec.spread:
                price = order.open_price
        sl, tp = self._stops(instrument, buy=order.is_buy, price=price)
        self._book.modify(order, sl=sl, tp=tp, price=price)
        return True

    def _place(self, account: SimulatedAccount) -> bool:
        random = self._random
        if len(account.orders) - len(account.positions) >= PENDING_LIMIT:
            return False
        instrument = random.choice(self._market.instruments)
        cmd = random.choice((
            TradeCommand.OP_BUY_LIMIT, TradeCommand.OP_SELL_LIMIT, TradeCommand.OP_BUY_STOP, TradeCommand.OP_SELL_STOP,
        ))  # fmt: skip
        buy = cmd in {TradeCommand.OP_BUY_LIMIT, TradeCommand.OP_BUY_STOP}
        below = cmd in {TradeCommand.OP_BUY_LIMIT, TradeCommand.OP_SELL_STOP}
        distance = int(max(instrument.base // 4000, 4 * instrument.spec.spread) * random.uniform(0.5, 6))
        price = max(1, instrument.bid - distance if below else instrument.ask + distance)
        sl, tp = self._stops(instrument, buy=buy, price=price)
        lifetime_s = random.randrange(SHORTEST_EXPIRATION_S, 86_400) if random.random() < 0.2 else 0
        expiration = self._context.server_time_s + lifetime_s if lifetime_s else 0
        volume = self._volume(account, instrument)
        if volume:
            self._book.place(Order(account, instrument, cmd, volume, price, sl=sl, tp=tp, expiration=expiration))
        return bool(volume)

    def _cancel(self, account: SimulatedAccount) -> bool:
        order = self._pick(account, pending=True)
        if order:
            self._book.cancel(order, as_update=self._random.random() < 0.4)
        return order is not None

    def _move_money(self, account: SimulatedAccount) -> bool:
        """Pay in for an account that was stopped out, pay out a profit, or pay in a little."""
        if self._stopped_out:
            stopped = self._stopped_out.popleft()
            amount = round(stopped.deposit - stopped.balance, 2)
            if stopped.login in self._accounts.records and amount > 0:
                self._book.operate(stopped, TradeCommand.OP_BALANCE, amount, "Deposit after stop out")
                return True
        profit = round(account.balance - account.deposit, 2)
        if profit > 0.1 * account.deposit and account.levels().margin_free > profit:
            self._book.operate(account, TradeCommand.OP_BALANCE, -profit, "Withdrawal")
        else:
            amount = round(account.deposit * self._random.choice((0.05, 0.1, 0.2)), 2)
            self._book.operate(account, TradeCommand.OP_BALANCE, amount, "Deposit")
        return True

    def _give_credit(self, account: SimulatedAccount) -> bool:
        amount = -account.credit or round(account.deposit * 0.1, 2)
        self._book.operate(account, TradeCommand.OP_CREDIT, amount, "Credit in" if amount > 0 else "Credit out")
        return True
