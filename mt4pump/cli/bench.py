"""``mt4pump bench``: measures the pipeline on this machine, beside a bare loop and a naive pipeline.

`run_case` starts one path, waits for its subscribers, feeds it, and collects what they received. Ours is fed by a
Manager that holds ready-made records in memory and calls back from a thread of its own at any rate.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

import zmq
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mt4pump import __version__
from mt4pump.cli.bench_peers import READY_LIMIT_S, BareLoop, NaivePipeline, Received, Receiver, paced
from mt4pump.cli.format import StdoutConsole
from mt4pump.daemon import Daemon
from mt4pump.mt4.codes import PumpCode, Transaction
from mt4pump.mt4.layout import SYMBOL_INFO, TRADE_RECORD
from mt4pump.mt4.manager import Manager, Notify
from mt4pump.pump.quotes import QuoteStream
from mt4pump.session_source import Source
from mt4pump.settings import Settings, load
from mt4pump.wire import Encoder

SYMBOLS = 25
ORDERS = 1_000
SERVER_TIME_S = 1_577_916_000
WAITING_LIMIT = 20_000
"""Quotes that wait to be read; beyond it the feeding thread yields to the pump thread."""
QUOTES_PER_CALL = 256
YIELD_S = 0.0005
QUOTE = {"digits": 5, "high": 1.2, "low": 1.0, "lasttime": SERVER_TIME_S}
ORDER = {"symbol": "EURUSD", "digits": 5, "volume": 100, "open_time": SERVER_TIME_S, "open_price": 1.1, "tp": 1.12}
RUN_LIMIT_S = 300.0
POLL_S = 0.0005
PROBE_EVERY_S = 0.02


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


class Case(NamedTuple):
    """What to run: ``path`` (mt4pump, bare, naive), ``kind`` (quote, trade), ``rate`` per second.

    ``journal`` says whether the daemon has one.
    """

    path: str
    kind: str
    rate: float
    subscribers: int
    events: int
    journal: bool = True


class Outcome(NamedTuple):
    """``sent_per_second`` until the socket had the last message, and what the slowest subscriber received."""

    case: Case
    sent_per_second: float
    received: Received
    note: str = ""


class Feed(Protocol):
    """A source of records for a daemon: `FeedManager` here, a native library in the tests."""

    source: Source

    def feed(self, kind: str, count: int, rate: float) -> None:
        """Start feeding and return."""

    def note(self) -> str:
        """Return what the source measured itself."""


def run_case(case: Case, make_feed: Callable[[], Feed]) -> Outcome:
    """Run ``case`` and return its outcome; ``received.messages`` shows a subscriber that missed some."""
    if case.path == "bare":
        topic, body = _quote_frames()
        return _run_peer(case, BareLoop(topic, body, 2 * case.events))
    if case.path == "naive":
        return _run_peer(case, NaivePipeline(quote_records()[0], 2 * case.events))
    return _run_daemon(case, make_feed())


def bench_settings(folder: str, count: int, *, journal: bool = True) -> Settings:
    """Return the default settings, but for free ports and queues that hold every message."""
    port = "tcp://127.0.0.1:*"
    flags = {"source": "simulator", "pub_endpoint": port, "query_endpoint": port, "sndhwm": 2 * count + 100_000}
    return load({**flags, "journal": journal, "data_dir": folder, "heartbeat_interval_s": 0.1}, environ={}, config=None)


def _run_daemon(case: Case, feed: Feed) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(bench_settings(folder, case.events, journal=case.journal), feed.source)
        daemon.start()
        try:
            with _subscribers(daemon.endpoint, case, lambda: None) as receivers:  # the heartbeat is probe enough
                until(lambda: daemon.published("session") > 0, READY_LIMIT_S)
                before, began_s = daemon.published(case.kind), time.perf_counter()
                feed.feed(case.kind, case.events, case.rate)
                until(lambda: daemon.published(case.kind) >= before + case.events, RUN_LIMIT_S)
                seconds = time.perf_counter() - began_s
                slowest = _slowest(receivers)
        finally:
            daemon.stop()
    return Outcome(case, case.events / seconds, slowest, feed.note())


def _run_peer(case: Case, peer: BareLoop | NaivePipeline) -> Outcome:
    with _subscribers(peer.endpoint, case, peer.probe) as receivers:
        seconds = peer.run(case.events, case.rate)
        slowest = _slowest(receivers)
    peer.close()
    return Outcome(case, case.events / seconds, slowest)


def _quote_frames() -> list[bytes]:
    """Return topic and body of a quote as the daemon sends them."""
    frames: list[bytes] = []
    outlet: Any = SimpleNamespace(send_frame=lambda frame, _flags=0: frames.append(frame), full=BlockingIOError)
    QuoteStream(Encoder(1), "cp1252", lambda _topic: True).publish(quote_records()[0], time.time_ns(), outlet)
    return frames


@contextmanager
def _subscribers(endpoint: str, case: Case, probe: Callable[[], None]) -> Iterator[list[Receiver]]:
    """Start the subscriber processes; yield them once each has received a message of the publisher."""
    topic = f"{case.kind}.".encode()
    with ExitStack() as stack:
        receivers = [stack.enter_context(Receiver(endpoint, topic, case.events)) for _ in range(case.subscribers)]
        deadline_s = time.monotonic() + READY_LIMIT_S
        for receiver in receivers:
            while not receiver.ready(PROBE_EVERY_S):
                probe()
                if time.monotonic() > deadline_s:
                    raise TimeoutError("a subscriber process received nothing from the publisher")
        yield receivers


def _slowest(receivers: list[Receiver]) -> Received:
    """Return the result of the subscriber that received least, or latest."""
    return min((receiver.result() for receiver in receivers), key=lambda got: (got.messages, got.per_second))


def until(condition: Callable[[], bool], limit_s: float) -> None:
    """Return when ``condition`` holds; raises TimeoutError after ``limit_s``."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not done within {limit_s} s")
        time.sleep(POLL_S)


EPILOG = """
Three paths run one after the other, each with a subscriber in a process of its own: mt4pump's pipeline (fed from
memory, no DLL), a bare pyzmq loop that sends the same bytes, and a naive pipeline (lock, run_coroutine_threadsafe,
asyncio.Queue). Compare the ratios; the absolute figures depend on the machine and its load.

  mt4pump bench --events 50000 --subscribers 4     a short run with four readers
"""
LATENCY_RATE = 5_000.0
"""Events per second of the latency cases: a busy hour of a broker."""
NAMES = {"mt4pump": "mt4pump", "bare": "bare pyzmq loop", "naive": "naive asyncio"}


def bench_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.epilog = EPILOG
    parser.add_argument("--events", type=int, default=200_000, metavar="N", help="events flat out (default 200000)")
    parser.add_argument("--subscribers", type=int, default=1, metavar="N", help="subscriber processes (default 1)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def bench_command(args: argparse.Namespace) -> int:
    """Run the cases and print the outcomes."""
    sys.setswitchinterval(Settings.model_fields["switch_interval_s"].default)  # as in the daemon

    count, subscribers = max(1_000, args.events), max(1, args.subscribers)
    cases = [
        Case("bare", "quote", math.inf, subscribers, count),
        Case("mt4pump", "quote", math.inf, subscribers, count),
        Case("naive", "quote", math.inf, subscribers, max(1_000, count // 10)),
        Case("mt4pump", "trade", math.inf, subscribers, count // 2),
        *(
            Case(path, "quote", LATENCY_RATE, subscribers, min(count, 2 * int(LATENCY_RATE)))
            for path in ("bare", "mt4pump", "naive")
        ),
    ]
    steps = track(cases, "measuring", console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    outcomes = [run_case(case, FeedManager) for case in steps]
    if args.json:
        print(as_json(outcomes))
    else:
        StdoutConsole().print(table(outcomes))
    return 0


def machine() -> str:
    """Return what the figures were measured on, and when."""
    cpu = platform.processor() or platform.machine()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return (
        f"mt4pump {__version__}, {time.strftime('%Y-%m-%d')}, {platform.system()} {cpu}, {os.cpu_count()} cores, "
        f"{python}, pyzmq {zmq.__version__}, libzmq {zmq.zmq_version()}"
    )


def table(outcomes: Iterable[Outcome]) -> Table:
    """Return one row per outcome; ratios are to the other paths at the same rate with as many subscribers."""
    outcomes = list(outcomes)
    view = Table(title="One-way, callback to subscriber in another process", caption=machine(), caption_justify="left")
    for name in ("events", "pace", "subscribers", "path"):
        view.add_column(name)
    for name in ("sent/s", "of bare", "x naive", "received/s", "lost", "p50 µs", "p99 µs", "p99.9 µs"):
        view.add_column(name, justify="right")
    view.add_column("note")
    for outcome in outcomes:
        case, received = outcome.case, outcome.received
        latencies = (received.p50_us, received.p99_us, received.p999_us)
        bare, naive = (_ratio(outcome, outcomes, path) for path in ("bare", "naive"))
        view.add_row(
            case.kind,
            "flat out" if math.isinf(case.rate) else f"{case.rate:,.0f}/s",
            str(case.subscribers),
            NAMES[case.path],
            f"{outcome.sent_per_second:,.0f}",
            f"{100 * bare:.0f} %" if bare else "",
            f"{naive:.1f}" if naive else "",
            f"{received.per_second:,.0f}",
            f"{case.events - received.messages:,}",
            # flat out they show the length of the queue
            *("-" if math.isinf(case.rate) else f"{value:,.0f}" for value in latencies),
            outcome.note,
        )
    return view


def _ratio(outcome: Outcome, outcomes: list[Outcome], path: str) -> float | None:
    """Return how fast ``outcome`` sent compared with ``path`` flat out; the peers send quotes, whatever ours sends."""
    case = outcome.case
    if case.path == path or not math.isinf(case.rate):
        return None
    for peer in outcomes:
        if peer.case.path == path and (peer.case.rate, peer.case.subscribers) == (case.rate, case.subscribers):
            return outcome.sent_per_second / peer.sent_per_second
    return None


def as_json(outcomes: Iterable[Outcome]) -> str:
    """Return the outcomes as JSON, with the machine."""
    rows = [
        {
            **outcome.case._asdict(),
            "rate": None if math.isinf(outcome.case.rate) else outcome.case.rate,
            "sent_per_second": outcome.sent_per_second,
            "note": outcome.note,
            **outcome.received._asdict(),
        }
        for outcome in outcomes
    ]
    return json.dumps({"machine": machine(), "python": sys.version, "outcomes": rows}, indent=2)
