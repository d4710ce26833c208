"""A Manager that holds ready-made records in memory and calls back from a thread of its own, as fast as asked."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from threading import Thread

from mt4pump.mt4.codes import PumpCode, Transaction
from mt4pump.mt4.layout import SYMBOL_INFO, TRADE_RECORD
from mt4pump.mt4.manager import Notify

SYMBOLS = 25
ORDERS = 1_000
SERVER_TIME_S = 1_577_916_000
WAITING_LIMIT = 20_000
"""Quotes that wait to be drained; beyond it the feeding thread lets the pump thread go first."""
QUOTES_PER_CALL = 256
GIVE_WAY_S = 0.0005


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
            {
                "symbol": f"BENCH{number:02d}",
                "digits": 5,
                "bid": 1.1 + number / 1e4,
                "ask": 1.1002 + number / 1e4,
                "high": 1.2,
                "low": 1.0,
                "lasttime": SERVER_TIME_S,
            }
        )
        for number in range(SYMBOLS)
    ]


def trade_records(change: int = 0) -> list[bytes]:
    """Return one open order for each of `ORDERS` accounts; each ``change`` has another stop loss."""
    return [
        TRADE_RECORD.pack(
            {
                "order": 1_000_000 + number,
                "login": 1_000 + number,
                "symbol": "EURUSD",
                "digits": 5,
                "volume": 100,
                "open_time": SERVER_TIME_S,
                "open_price": 1.1,
                "sl": 1.09 - change / 1e6,
                "tp": 1.12,
                "comment": "bench",
            }
        )
        for number in range(ORDERS)
    ]


def trade_changes(feed: int) -> list[bytes]:
    """Return records of which each changes its order, however often they are sent in turn, in feed 0, 1, 2, ..."""
    return trade_records(2 * feed + 1) + trade_records(2 * feed + 2)


class FeedManager:
    """The `mt4pump.mt4.manager.Manager` of a benchmark: one session, no server."""

    may_empty_tables = False

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._notify: Notify = lambda _code, _action, _data: None
        self._quotes = quote_records()
        self._trades = trade_records()
        self._feeds = 0

    def connect(self, server: str) -> None:
        """Take any server."""

    def login(self, login: int, password: str) -> None:
        """Take any account."""

    def pump(self, flags: int, notify: Notify) -> None:
        """Start at once."""
        del flags
        self._notify = notify
        notify(PumpCode.START_PUMPING, 0, b"")

    def abort(self) -> None:
        """Nothing here blocks."""

    def last_faults(self) -> str:
        """Return nothing: nothing goes wrong here."""
        return ""

    def is_connected(self) -> bool:
        """Return True: nothing here can be lost."""
        return True

    def select_symbol(self, symbol: bytes) -> None:
        """Send all symbols in any case."""

    def hide_symbol(self, symbol: bytes) -> None:
        """Send all symbols in any case."""

    def updated_quotes(self) -> bytes:
        """Return what waits, every quote of it."""
        waiting = self._waiting
        return b"".join([waiting.popleft() for _ in range(min(len(waiting), QUOTES_PER_CALL))])

    def table(self, name: str) -> bytes:
        """Return the open orders; every other table is empty."""
        return b"".join(self._trades) if name == "trades" else b""

    def request_news_body(self, key: int) -> None:
        """There are no news."""

    def news_body(self, key: int) -> None:
        """There are no news."""

    def last_mail(self) -> None:
        """There is no mail."""

    def plugin_parameters(self, position: int) -> None:
        """There are no plugins."""

    def close(self) -> None:
        """Nothing is held."""

    def feed(self, kind: str, count: int, rate: float) -> Thread:
        """Start calling back ``count`` times at ``rate`` per second; return the thread that does it."""
        work = self._feed_quotes if kind == "quote" else self._feed_trades
        thread = Thread(target=work, args=(count, rate), name="feed", daemon=True)
        thread.start()
        return thread

    def _feed_quotes(self, count: int, rate: float) -> None:
        quotes, waiting, notify, bidask = self._quotes, self._waiting, self._notify, int(PumpCode.UPDATE_BIDASK)
        for number in paced(count, rate):
            waiting.append(quotes[number % SYMBOLS])
            notify(bidask, 0, b"")
            while len(waiting) > WAITING_LIMIT:
                time.sleep(GIVE_WAY_S)

    def _feed_trades(self, count: int, rate: float) -> None:
        trades, notify, code, update = (
            trade_changes(self._feeds),
            self._notify,
            int(PumpCode.UPDATE_TRADES),
            int(Transaction.UPDATE),
        )
        self._feeds += 1
        for number in paced(count, rate):
            notify(code, update, trades[number % len(trades)])
