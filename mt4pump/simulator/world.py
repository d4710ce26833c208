"""The simulated server's world: market, accounts, orders, news, staff, and the loop that moves them."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import accumulate
from random import Random

from mt4pump.mt4.codes import SymbolDirection
from mt4pump.simulator.accounts import AccountTable, GroupTable
from mt4pump.simulator.back_office import BackOffice, SimulatedNews
from mt4pump.simulator.context import Context, SimulatedClock
from mt4pump.simulator.execution import OrderExecution
from mt4pump.simulator.market import MOVES, SPREADS, WALK_SYMBOLS, Market, Specification, pack_symbol_info
from mt4pump.simulator.options import SimulatorOptions
from mt4pump.simulator.order_book import OrderBook
from mt4pump.simulator.traders import Traders

QUOTES_PER_ACT = (10, 20)
REPLAY_ACCOUNTS = 5
UP, DOWN, LEVEL = (int(direction) for direction in SymbolDirection)

PutQuote = Callable[[bytes], None]
Ring = Callable[[], None]


class World:
    """Everything that a Manager session can see. Not safe for threads: whoever touches it holds the `FairLock`.

    ``emit`` takes events in the order of the changes; ``ring`` is called before an event that follows quotes, so that
    they are heard first.
    """

    def __init__(
        self, options: SimulatorOptions, specs: tuple[Specification, ...] = WALK_SYMBOLS, *, trading: bool = True
    ) -> None:
        self._random = Random(options.seed)  # noqa: S311 - chance that can be repeated is the point
        start_s = time.time() if options.start_s is None else options.start_s
        self.clock = SimulatedClock(start_s, options.server_utc_offset_s)
        self.stage = Context(self.clock, self._random, _nobody, options.encoding)
        self.ring: Ring = _no_bell
        self.market = Market(specs, self._random if trading else None, options.encoding)
        self.groups = GroupTable(options.encoding)
        self.accounts = AccountTable(self.stage, self.groups)
        self.accounts.populate(options.accounts if trading else min(options.accounts, REPLAY_ACCOUNTS))
        self.book = OrderBook(self.stage, self.market, self.accounts)
        self.desk = OrderExecution(self.stage, self.market, self.accounts, self.book)
        self.crowd = Traders(self.stage, self.market, self.accounts, self.book, self.desk)
        self.news = SimulatedNews(self.stage)
        self.staff = BackOffice(self.stage, self.market, self.groups, self.accounts)
        if trading:
            self.crowd.populate()
            self.accounts.note_levels()
        self.quotes = 0
        self._quotes_until_act = QUOTES_PER_ACT[0]
        self._rarities = Rarities(self)
        self.tables: dict[str, Callable[[], bytes]] = {
            "symbols": self.market.table,
            "groups": self.groups.table,
            "users": self.accounts.users,
            "online": self.staff.online,
            "trades": self.book.table,
            "margins": self.accounts.margins,
            "requests": self.staff.requests,
            "plugins": self.staff.plugins,
            "news": self.news.table,
        }

    def walk(self, count: int, origin_s: float, step_s: float, put: PutQuote | None) -> None:
        """Make ``count`` quotes and what the traders do between them.

        Quote number n since the world began happens at ``origin_s + n * step_s``, however the numbers are cut into
        calls. Each goes to ``put`` as SymbolInfo bytes; None: nobody wants them, but the world moves all the same.
        """
        instruments, random, offset_s = self.market.instruments, self._random.random, self.clock.server_utc_offset_s
        total = len(instruments)
        until_act = self._quotes_until_act
        for number in range(self.quotes, self.quotes + count):
            dice = random() * total
            index = int(dice)
            instrument = instruments[index]
            old = instrument.bid
            drift = int((instrument.base - old) * instrument.pull)
            instrument.bid = bid = old + instrument.moves[int((dice - index) * MOVES)] + drift
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
                        *instrument.fixed, spread, 0, UP if bid > old else DOWN if bid < old else LEVEL, 1,
                        int(origin_s + number * step_s) + offset_s, bid / scale, ask / scale,
                        instrument.high / scale, instrument.low / scale, 0.0, 0,
                    )
                )  # fmt: skip
            until_act -= 1
            is_reached = (
                bid <= instrument.bid_low
                or bid >= instrument.bid_high
                or ask <= instrument.ask_low
                or ask >= instrument.ask_high
            )
            if is_reached or not until_act:
                self.clock.now_s = origin_s + number * step_s
                self.ring()
                if is_reached:
                    self.desk.fire(instrument)
                if not until_act:
                    self._act()
                    until_act = self._random.randrange(*QUOTES_PER_ACT)
        self._quotes_until_act = until_act
        self.quotes += count

    def _act(self) -> None:
        self.desk.work()
        self.crowd.act()
        self._rarities.maybe()


class Rarities:
    """What happens now and then: each act has a small chance of one of them."""

    def __init__(self, world: World) -> None:
        staff, news, accounts = world.staff, world.news, world.accounts
        self._random = world.stage.random

        def somebody(work: Callable[..., None]) -> Callable[[], None]:
            return lambda: work(self._random.choice(accounts.all))

        happenings: tuple[tuple[Callable[[], object], float], ...] = (
            (somebody(staff.toggle_online), 0.05),
            (somebody(staff.work_on_requests), 0.03),
            (news.publish, 0.01),
            (somebody(staff.change_accounts), 0.004),
            (news.send_mail, 0.003),
            (news.publish_new, 0.003),
            (staff.change_symbol, 0.003),
            (staff.change_group, 0.001),
            (staff.change_plugin, 0.001),
        )
        self._happenings = tuple(happening for happening, _ in happenings)
        self._chances = tuple(accumulate(chance for _, chance in happenings))

    def maybe(self) -> None:
        """Let one of them happen, or mostly none."""
        if self._random.random() < self._chances[-1]:
            (happening,) = self._random.choices(self._happenings, cum_weights=self._chances)
            happening()


def _nobody(_code: int, _action: int, _data: bytes) -> None:
    """Take the events that nobody hears: those of the world's own making."""


def _no_bell() -> None:
    """Ring nowhere."""
