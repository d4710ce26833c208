"""The simulated broker: market, accounts, orders, news and back office, and the random walk that moves its prices."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import accumulate
from random import Random

from mt4pump.mt4.codes import SymbolDirection
from mt4pump.simulator.accounts import AccountTable, GroupTable
from mt4pump.simulator.back_office import BackOffice, SimulatedNews
from mt4pump.simulator.context import Context
from mt4pump.simulator.market import MOVES, SPREADS, WALK_SYMBOLS, Market, Specification, pack_symbol_info
from mt4pump.simulator.options import SimulatorOptions
from mt4pump.simulator.order_book import OrderBook
from mt4pump.simulator.traders import OrderExecution, Traders

QUOTES_PER_ACTION = (10, 20)
REPLAY_ACCOUNTS = 5
UP, DOWN, NONE = (int(direction) for direction in SymbolDirection)

PutQuote = Callable[[bytes], None]


class SimulatedBroker:
    """Everything that a Manager session can see. Not safe for threads: its users hold the `FairLock`.

    ``context.emit`` receives events in the order of the changes; ``send_bidask`` is called before an event that follows
    quotes, so that they are received first.
    """

    def __init__(
        self, options: SimulatorOptions, specs: tuple[Specification, ...] = WALK_SYMBOLS, *, trading: bool = True
    ) -> None:
        random = Random(options.seed)  # noqa: S311 - random numbers that repeat are wanted
        start_s = time.time() if options.start_s is None else options.start_s
        self.context = Context(start_s, options.server_utc_offset_s, random, lambda *_: None, options.encoding)
        self.send_bidask: Callable[[], None] = lambda: None
        self.market = Market(specs, random if trading else None, options.encoding)
        self.groups = GroupTable(options.encoding)
        self.accounts = AccountTable(self.context, self.groups)
        for _ in range(options.accounts if trading else min(options.accounts, REPLAY_ACCOUNTS)):
            self.accounts.open()
        self.book = OrderBook(self.context, self.market, self.accounts)
        self.execution = OrderExecution(self.book)
        self.traders = Traders(self.book, self.execution)
        self.news = SimulatedNews(self.context)
        self.back_office = BackOffice(self.context, self.market, self.groups, self.accounts)
        if trading:
            self.traders.populate()
        self.accounts.store_levels()
        self.quotes = 0
        self._quotes_until_action = QUOTES_PER_ACTION[0]
        self.tables: dict[str, Callable[[], bytes]] = {
            "symbols": self.market.table,
            "groups": self.groups.table,
            "users": self.accounts.users,
            "online": self.back_office.online,
            "trades": self.book.table,
            "margins": self.accounts.margins,
            "requests": self.back_office.requests,
            "plugins": self.back_office.plugins,
            "news": self.news.table,
        }
        chances = self._chances()
        self._rare_actions = tuple(chances)
        self._rare_chances = tuple(accumulate(chances.values()))

    def _chances(self) -> dict[Callable[[], None], float]:
        """Return the chance of each rare action at an action of a trader."""
        office, news = self.back_office, self.news
        return {
            office.change_online: 0.05,
            office.advance_requests: 0.03,
            news.publish: 0.01,
            office.change_accounts: 0.004,
            news.send_mail: 0.003,
            news.publish_new: 0.003,
            office.change_symbol: 0.003,
            office.change_group: 0.001,
            office.change_plugin: 0.001,
        }

    def walk(self, count: int, origin_s: float, step_s: float, put: PutQuote | None) -> None:
        """Make ``count`` quotes and the actions between them.

        Quote number n happens at ``origin_s + n * step_s``, however the numbers are split into calls. Each goes to
        ``put`` as SymbolInfo bytes; None: nobody wants them, but prices and orders change all the same.
        """
        context, instruments = self.context, self.market.instruments
        random, offset_s, total = context.random.random, context.server_utc_offset_s, len(instruments)
        until_action = self._quotes_until_action
        for number in range(self.quotes, self.quotes + count):
            chance = random() * total
            index = int(chance)
            instrument = instruments[index]
            old = instrument.bid
            drift = int((instrument.base - old) * instrument.pull)
            instrument.bid = bid = old + instrument.moves[int((chance - index) * MOVES)] + drift
            spread = instrument.spreads[int(random() * SPREADS)] if len(instrument.spreads) > 1 else 1
            instrument.ask = ask = bid + spread
            if bid > instrument.high:
                instrument.high = bid
            elif bid < instrument.low:
                instrument.low = bid
            if put:
                scale = instrument.scale
                put(
                    pack_symbol_info(
                        *instrument.fixed, spread, 0, UP if bid > old else DOWN if bid < old else NONE, 1,
                        int(origin_s + number * step_s) + offset_s, bid / scale, ask / scale,
                        instrument.high / scale, instrument.low / scale, 0.0, 0,
                    )
                )  # fmt: skip
            until_action -= 1
            is_quiet = instrument.bid_low < bid < instrument.bid_high and instrument.ask_low < ask < instrument.ask_high
            if not (is_quiet and until_action):
                context.now_s = origin_s + number * step_s
                self.send_bidask()
                if not is_quiet:
                    self.execution.execute_reached(instrument)
                if not until_action:
                    self._act()
                    until_action = context.random.randrange(*QUOTES_PER_ACTION)
        self._quotes_until_action = until_action
        self.quotes += count

    def _act(self) -> None:
        self.execution.step()
        self.traders.act()
        if self.context.random.random() < self._rare_chances[-1]:
            (action,) = self.context.random.choices(self._rare_actions, cum_weights=self._rare_chances)
            action()
