"""What the broker's server does to orders: prices that come, margin calls, stop-outs, the night's swaps."""

from __future__ import annotations

from collections import deque

from mt4pump.mt4.codes import Activation, MarginLevelType, PumpCode
from mt4pump.simulator.accounts import AccountTable
from mt4pump.simulator.context import Context
from mt4pump.simulator.market import Instrument, Market
from mt4pump.simulator.order_book import OrderBook
from mt4pump.simulator.orders import SimulatedAccount

DEFERRED_SHARE = 0.25
"""Part of the prices reached that waits for a dealer, marked ``activation``, instead of being done at once."""
DEFERRED_LIMIT = 64
BROKE_LIMIT = 256
ROLLED_AT_ONCE = 20
OTHERS_CHECKED_EVERY = 4
ROLLBACK_SHARE = 0.3
ROLLBACK_OF = {
    Activation.ACTIVATION_SL: Activation.ACTIVATION_SL_ROLLBACK,
    Activation.ACTIVATION_TP: Activation.ACTIVATION_TP_ROLLBACK,
    Activation.ACTIVATION_PENDING: Activation.ACTIVATION_PENDING_ROLLBACK,
}


class OrderExecution:
    """Serves prices that come (`fire`) and, act by act, everything that has to be watched (`work`).

    ``broke`` holds the accounts that were stopped out and wait for new money.
    """

    def __init__(self, stage: Context, market: Market, accounts: AccountTable, book: OrderBook) -> None:
        self._stage = stage
        self._random = stage.random
        self._market = market
        self._accounts = accounts
        self._book = book
        self._deferred: deque[tuple[int, Activation]] = deque()
        self._unrolled: deque[int] = deque()
        self._day = stage.clock.server_day
        self._acts = 0
        self._turn_of_gambler = self._turn_of_other = 0
        self.broke: deque[SimulatedAccount] = deque(maxlen=BROKE_LIMIT)

    def work(self) -> None:
        """Watch expirations, deferred prices, the day's end, and the margin of a few accounts."""
        self._acts += 1
        self._book.cancel_expired()
        self._finish_deferred()
        self._roll_over()
        self._check_margins()

    def fire(self, instrument: Instrument) -> None:
        """Serve the orders of ``instrument`` whose price has come: at once, or later with a mark."""
        for order, activation in self._book.woken(instrument):
            if len(self._deferred) < DEFERRED_LIMIT and self._random.random() < DEFERRED_SHARE:
                self._book.mark(order, activation)
                self._deferred.append((order.order, activation))
            else:
                self._book.execute(order, activation)

    def _finish_deferred(self) -> None:
        """Take the oldest marked order further: done; or rolled back, and the mark cleared an act later."""
        if not self._deferred:
            return
        number, activation = self._deferred.popleft()
        order = self._book.orders.get(number)
        if order is None:
            return
        if activation in ROLLBACK_OF and self._random.random() < ROLLBACK_SHARE:
            self._book.mark(order, ROLLBACK_OF[activation])
            self._deferred.append((number, ROLLBACK_OF[activation]))
        elif activation in ROLLBACK_OF:
            self._book.execute(order, activation)
            self._stage.emit(PumpCode.UPDATE_ACTIVATION, 0, b"")
        else:
            self._book.mark(order, Activation.ACTIVATION_NONE)

    def _check_margins(self) -> None:
        """Look at one gambler, and now and then at somebody else."""
        everybody = self._accounts.all
        for _ in range(len(everybody)):
            self._turn_of_gambler = (self._turn_of_gambler + 1) % len(everybody)
            if everybody[self._turn_of_gambler].is_gambler:
                self._check(everybody[self._turn_of_gambler])
                break
        if self._acts % OTHERS_CHECKED_EVERY == 0:
            self._turn_of_other = (self._turn_of_other + 1) % len(everybody)
            self._check(everybody[self._turn_of_other])

    def _check(self, account: SimulatedAccount) -> None:
        self._accounts.note_level(account)
        level = account.level_type(account.levels())
        if level != account.level:
            account.level = level
            self._stage.emit(PumpCode.UPDATE_MARGINCALL, 0, b"")
        if level == MarginLevelType.MARGINLEVEL_STOPOUT:
            self._stop_out(account)

    def _stop_out(self, account: SimulatedAccount) -> None:
        """Close the worst positions until the account is above its stop-out level."""
        for _ in range(len(account.positions)):
            now = account.levels()
            if account.level_type(now) != MarginLevelType.MARGINLEVEL_STOPOUT:
                break
            worst = min(account.positions, key=lambda order: (order.profit_from(order.exit_price()), order.order))
            self._book.mark(worst, Activation.ACTIVATION_STOPOUT)
            self._book.close(worst, note=f"so: {now.margin_level:.1f}%/{now.equity:.1f}/{now.margin:.1f}")
        account.level = account.level_type(account.levels())
        self._accounts.note_level(account)
        self._stage.emit(PumpCode.UPDATE_MARGINCALL, 0, b"")
        self.broke.append(account)

    def _roll_over(self) -> None:
        """At the server's midnight begin the day's highs and lows anew, and charge swaps, a few orders an act."""
        if self._stage.clock.server_day != self._day:
            self._day = self._stage.clock.server_day
            for instrument in self._market.instruments:
                instrument.start_day()
            self._unrolled = deque(order.order for order in self._book.everything() if order.is_position)
        for _ in range(min(ROLLED_AT_ONCE, len(self._unrolled))):
            order = self._book.orders.get(self._unrolled.popleft())
            if order:
                spec = order.traded().spec
                points = spec.swap_long if order.is_buy else spec.swap_short
                money = points / spec.scale * spec.contract_size * order.volume / 100 * order.conversion()
                self._book.charge_swap(order, money)
