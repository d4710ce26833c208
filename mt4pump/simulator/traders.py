"""What the traders of the simulated broker do next.

One act follows every ten to twenty quotes. All chance comes from one seeded source, so a run can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

from mt4pump.mt4.codes import TradeCommand, TradeReason
from mt4pump.simulator.accounts import AccountTable
from mt4pump.simulator.context import Context
from mt4pump.simulator.execution import OrderExecution
from mt4pump.simulator.market import Instrument, Market
from mt4pump.simulator.order_book import OrderBook, Ticket
from mt4pump.simulator.orders import Order, SimulatedAccount

APPETITE, GAMBLER_APPETITE = 5, 2
"""Orders that an account holds before it stops opening more."""
PENDING_APPETITE = 2
LARGEST_VOLUME = 5_000
OLDEST_ORDER_S = 5 * 86_400
SHORTEST_LIFE_S = 600
"""Seconds that a pending order with an expiration waits at least."""
COMMENTS = ("", "", "", "scalper", "EA v2.1", "hedge", "mobile")


class Traders:
    """The traders: `act` lets one of them do something."""

    def __init__(
        self, stage: Context, market: Market, accounts: AccountTable, book: OrderBook, desk: OrderExecution
    ) -> None:
        self._stage = stage
        self._random = stage.random
        self._market = market
        self._accounts = accounts
        self._book = book
        self._broke = desk.broke
        habits: tuple[tuple[Callable[[SimulatedAccount], bool], int], ...] = (
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
        self._habits = tuple(habit for habit, _ in habits)
        self._weights = tuple(accumulate(weight for _, weight in habits))

    def populate(self) -> None:
        """Let every account hold what it would hold after a while."""
        clock = self._stage.clock
        start_s = clock.now_s
        for account in self._accounts.all:
            wanted = self._random.randrange(1, (GAMBLER_APPETITE if account.is_gambler else APPETITE) + 1)
            for _ in range(wanted):
                clock.now_s = start_s - self._random.randrange(SHORTEST_LIFE_S, OLDEST_ORDER_S)
                if not (self._random.random() < 0.8 and self._open(account)):
                    clock.now_s = start_s - self._random.randrange(SHORTEST_LIFE_S)  # so that none is over already
                    self._place(account)
        clock.now_s = start_s

    def act(self) -> None:
        """Let one trader do something."""
        (habit,) = self._random.choices(self._habits, cum_weights=self._weights)
        account = self._random.choice(self._accounts.all)
        if not habit(account) and not self._open(account):
            self._close(account)

    def burst(self, closes: int) -> int:
        """Close ``closes`` positions at once, opening those that are missing first; return how many were closed."""
        orders = [order for order in self._book.everything() if order.is_position]
        while len(orders) < closes:
            account = self._accounts.all[len(orders) % len(self._accounts.all)]
            cmd = TradeCommand.OP_BUY if len(orders) % 2 else TradeCommand.OP_SELL
            instrument = self._market.instruments[len(orders) % len(self._market.instruments)]
            orders.append(self._book.open(account, instrument, Ticket(cmd, 1, comment="burst")))
        for order in orders[:closes]:
            self._book.close(order)
        return closes

    def _open(self, account: SimulatedAccount) -> bool:
        random = self._random
        if len(account.orders) >= (GAMBLER_APPETITE if account.is_gambler else APPETITE):
            return False
        instrument = random.choice(self._market.instruments)
        volume = self._volume(account, instrument)
        if not volume:
            return False
        cmd = TradeCommand.OP_BUY if random.random() < 0.5 else TradeCommand.OP_SELL
        sl, tp = (0, 0) if account.is_gambler else self._stops(instrument, buy=cmd == TradeCommand.OP_BUY)
        reason = random.choice((TradeReason.TR_REASON_CLIENT, TradeReason.TR_REASON_EXPERT, TradeReason.TR_REASON_WEB))
        magic = random.randrange(1, 10_000) if reason == TradeReason.TR_REASON_EXPERT else 0
        ticket = Ticket(cmd, volume, sl=sl, tp=tp, magic=magic, reason=reason, comment=random.choice(COMMENTS))
        self._book.open(account, instrument, ticket)
        return True

    def _volume(self, account: SimulatedAccount, instrument: Instrument) -> int:
        """Return the volume that uses some percent of the free margin; 0 when there is too little of it."""
        random, spec = self._random, instrument.spec
        share = random.uniform(0.35, 0.8) if account.is_gambler else random.uniform(0.01, 0.08)
        of = spec.base if spec.is_currency_pair else spec.quote
        price = 1.0 if spec.is_currency_pair else instrument.bid / instrument.scale
        lot = spec.contract_size * price * self._market.rate(of, account.group.currency) / account.leverage
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
        orders = [o for o in account.orders.values() if o.is_pending == pending and not o.activation]
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
        instrument = order.traded()
        for other in account.positions:
            if other.instrument is instrument and other.is_buy != order.is_buy and not other.activation:
                self._book.close_by(order, other)
                return True
        # Nobody to close with yet: hedge now, so that a later act can.
        cmd = TradeCommand.OP_SELL if order.is_buy else TradeCommand.OP_BUY
        volume = max(1, order.volume * self._random.choice((1, 1, 2)) // 2)
        self._book.open(account, instrument, Ticket(cmd, volume, comment="hedge"))
        return True

    def _modify(self, account: SimulatedAccount) -> bool:
        order = self._pick(account, pending=self._random.random() < 0.3)
        if order is None:
            return False
        instrument, buy = order.traded(), order.is_buy
        if order.is_pending:
            price = order.open_price + (-1 if order.open_price > instrument.bid else 1) * instrument.spec.spread
            if abs(price - instrument.bid) < 3 * instrument.spec.spread:
                price = order.open_price
            sl, tp = self._stops(instrument, buy=buy, price=price)
            self._book.modify(order, sl=sl, tp=tp, price=price)
        else:
            sl, tp = self._stops(instrument, buy=buy)
            self._book.modify(order, sl=sl, tp=tp)
        return True

    def _place(self, account: SimulatedAccount) -> bool:
        random = self._random
        if sum(order.is_pending for order in account.orders.values()) >= PENDING_APPETITE:
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
        lasts = random.randrange(SHORTEST_LIFE_S, 86_400) if random.random() < 0.2 else 0
        expiration = self._stage.clock.server_time_s + lasts if lasts else 0
        volume = self._volume(account, instrument)
        if volume:
            self._book.place(account, instrument, Ticket(cmd, volume, price=price, sl=sl, tp=tp, expiration=expiration))
        return bool(volume)

    def _cancel(self, account: SimulatedAccount) -> bool:
        order = self._pick(account, pending=True)
        if order:
            self._book.cancel(order, as_update=self._random.random() < 0.4)
        return order is not None

    def _move_money(self, account: SimulatedAccount) -> bool:
        """Pay in for those that went broke, pay out what was won, or pay in a little."""
        if self._broke:
            broke = self._broke.popleft()
            amount = round(broke.deposit - broke.balance, 2)
            if broke.login in self._accounts.by_login and amount > 0:
                self._book.operate(broke, TradeCommand.OP_BALANCE, amount, "Deposit after stop out")
                return True
        won = round(account.balance - account.deposit, 2)
        if won > 0.1 * account.deposit and account.levels().margin_free > won:
            self._book.operate(account, TradeCommand.OP_BALANCE, -won, "Withdrawal")
        else:
            amount = round(account.deposit * self._random.choice((0.05, 0.1, 0.2)), 2)
            self._book.operate(account, TradeCommand.OP_BALANCE, amount, "Deposit")
        return True

    def _give_credit(self, account: SimulatedAccount) -> bool:
        amount = -account.credit or round(account.deposit * 0.1, 2)
        self._book.operate(account, TradeCommand.OP_CREDIT, amount, "Credit in" if amount > 0 else "Credit out")
        return True
