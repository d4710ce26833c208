"""A Manager that holds ready-made records in memory and calls back from a thread of its own at any rate."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from threading import Thread

from mt4pump.mt4.codes import PumpCode, Transaction
from mt4pump.mt4.layout import SYMBOL_INFO, TRADE_RECORD
from mt4pump.mt4.manager import Manager, Notify
from mt4pump.wiring import Source

SYMBOLS = 25
ORDERS = 1_000
SERVER_TIME_S = 1_577_916_000
WAITING_LIMIT = 20_000
"""Quotes that wait to be read; beyond it the feeding thread yields to the pump thread."""
QUOTES_PER_CALL = 256
YIELD_S = 0.0005
QUOTE = {"digits": 5, "high": 1.2, "low": 1.0, "lasttime": SERVER_TIME_S}
ORDER = {"symbol": "EURUSD", "digits": 5, "volume": 100, "open_time": SERVER_TIME_S, "open_price": 1.1, "tp": 1.12}


def paced(count: int, rate: float) -> Iterator[int]:
    """Yield 0 … count-1 at ``rate`` per second (inf: without waiting). Sleeps; never spins on the interpreter."""
    if math.isinf(rate):
        yield from range(count)
        return
    began_s = time.perf_counter()
    for number in range(count):
        wait_s = began_s + number / rate - time.perf_counter()
        if wait_s > 0:
            time.sleep(wait_s)
        yield number


def quote_records() -> list[bytes]:
    """Return one SymbolInfo for each of `SYMBOLS` symbols."""
    return [
        SYMBOL_INFO.pack(
            {**QUOTE, "symbol": f"BENCH{number:02d}", "bid": 1.1 + number / 1e4, "ask": 1.1002 + number / 1e4}
        )
        for number in range(SYMBOLS)
    ]


def trade_records(change: int = 0) -> list[bytes]:
    """Return one open order for each of `ORDERS` accounts; each ``change`` has a different stop loss."""
    order = {**ORDER, "sl": 1.09 - change / 1e6, "comment": "bench"}
    return [
        TRADE_RECORD.pack({**order, "order": 1_000_000 + number, "login": 1_000 + number}) for number in range(ORDERS)
    ]


def trade_changes(feed: int) -> list[bytes]:
    """Return records that each change their order, however often they are repeated, in feed 0, 1, 2, ..."""
    return trade_records(2 * feed + 1) + trade_records(2 * feed + 2)


class FeedManager(Manager):
    """The Manager of a benchmark, without a server; ``source`` gives it to a daemon."""

    may_empty_tables = reads_beside_quotes = False

    def __init__(self) -> None:
        self.source = Source(lambda: self, dict)
        self._waiting: deque[bytes] = deque()
        self._notify: Notify = lambda _code, _action, _data: None
        self._quotes = quote_records()
        self._trades = trade_records()
        self._feeds = 0

    def pump(self, flags: int, notify: Notify) -> None:
        """Start at once."""
        del flags
        self._notify = notify
        notify(PumpCode.START_PUMPING, 0, b"")

    def last_faults(self) -> str:
        """Return nothing, because there are no faults."""
        return ""

    def is_connected(self) -> bool:
        """Return True, because there is no connection to lose."""
        return True

    def updated_quotes(self) -> bytes:
        """Return every waiting quote, also several of one symbol."""
        waiting = self._waiting
        return b"".join([waiting.popleft() for _ in range(min(len(waiting), QUOTES_PER_CALL))])

    def table(self, name: str) -> bytes:
        """Return the open orders; every other table is empty."""
        return b"".join(self._trades) if name == "trades" else b""

    def note(self) -> str:
        """Return nothing: the callback is timed only where it comes from native code."""
        return ""

    def feed(self, kind: str, count: int, rate: float) -> None:
        """Start to call back ``count`` times at ``rate`` per second, and return."""
        target = self._feed_quotes if kind == "quote" else self._feed_trades
        Thread(target=target, args=(count, rate), name="feed", daemon=True).start()

    def _feed_quotes(self, count: int, rate: float) -> None:
        quotes, waiting, notify, bidask = self._quotes, self._waiting, self._notify, int(PumpCode.UPDATE_BIDASK)
        for number in paced(count, rate):
            waiting.append(quotes[number % SYMBOLS])
            notify(bidask, 0, b"")
            while len(waiting) > WAITING_LIMIT:
                time.sleep(YIELD_S)

    def _feed_trades(self, count: int, rate: float) -> None:
        trades, notify = trade_changes(self._feeds), self._notify
        code, update = int(PumpCode.UPDATE_TRADES), int(Transaction.UPDATE)
        self._feeds += 1
        for number in paced(count, rate):
            notify(code, update, trades[number % len(trades)])
