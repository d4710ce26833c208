"""``python -m tests.bench.big [--accounts N]``: a big server, and what its tables cost the live stream.

The compiled fake library holds the accounts, two orders each and 1,024 symbols, and calls back with 5,000 quotes and
200 trades a second. Printed for each phase (comparison after START, rest, periodic comparison, snapshot, a client that
joins): how old live quotes were when another process received them.
"""

from __future__ import annotations

import argparse
import bisect
import gc
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import msgpack
import psutil
import zmq
from rich.console import Console
from rich.table import Table

from mt4pump.cli.bench import until
from mt4pump.cli.run import prepare_collector
from mt4pump.daemon import Daemon
from mt4pump.mt4.codes import PumpCode, Transaction
from mt4pump.mt4.layout import CON_SYMBOL, SYMBOL_INFO, TRADE_RECORD, USER_RECORD
from mt4pump.settings import Settings, load
from tests.bench.native import NativeFeed

SYMBOLS = 1_024
QUOTES_PER_S, TRADES_PER_S = 5_000, 200
ORDERS_PER_ACCOUNT = 2
SERVER_TIME_S = 1_577_916_000
LIMIT_S = 300.0
REST_S = 5.0
MIB = 1024 * 1024
PHASES_S = 240
"""Events are emitted for so long at most."""


class BigFeed(NativeFeed):
    """The library with the tables of a big server."""

    def __init__(self, accounts: int) -> None:
        super().__init__()
        names = [f"SYM{number:04d}" for number in range(SYMBOLS)]
        control = self._control
        control.set_table("SymbolsGetAll", (CON_SYMBOL.pack({"symbol": name, "digits": 5}) for name in names))
        control.set_table("UsersGet", _users(accounts))
        control.set_table("TradesGet", _orders(accounts))
        control.set_quotes(_quotes(names))

    def run(self) -> None:
        """Begin to call back."""
        updates = b"".join(_orders(500, change=1)) + b"".join(_orders(500, change=2))
        code, action = PumpCode.UPDATE_TRADES, Transaction.UPDATE
        self._control.run_quotes(PHASES_S * QUOTES_PER_S, SYMBOLS, pace_s=1 / QUOTES_PER_S, worker=0)
        self._control.emit_many(
            code, action, updates, TRADE_RECORD.size, PHASES_S * TRADES_PER_S, pace_s=1 / TRADES_PER_S, worker=1
        )

    def end(self) -> None:
        """Call back no more."""
        self._control.reset()


def _users(accounts: int) -> Iterator[bytes]:
    fields = {"group": "real-std", "country": "Germany", "city": "Berlin", "leverage": 100, "enable": 1}
    for number in range(accounts):
        name = {"name": f"Trader {number}", "email": f"trader{number}@mail.example"}
        yield USER_RECORD.pack({**fields, **name, "login": 1_000 + number, "balance": 1_000.0 + number})


def _orders(accounts: int, change: int = 0) -> Iterator[bytes]:
    fields = {"symbol": "SYM0001", "digits": 5, "volume": 100, "open_time": SERVER_TIME_S, "open_price": 1.1}
    for number in range(ORDERS_PER_ACCOUNT * accounts):
        order = {"order": 1_000_000 + number, "login": 1_000 + number // ORDERS_PER_ACCOUNT, "sl": 1.0 + change / 1e5}
        yield TRADE_RECORD.pack({**fields, **order, "comment": "big"})


def _quotes(names: list[str]) -> Iterator[bytes]:
    for name in names:
        prices = {"bid": 1.1, "ask": 1.1002, "high": 1.2, "low": 1.0, "lasttime": SERVER_TIME_S}
        yield SYMBOL_INFO.pack({"symbol": name, "digits": 5, **prices})


class Listener:
    """A process that notes when each live quote came and how old it was."""

    def __init__(self, endpoint: str) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, there = multiprocessing.Pipe()
        self._process = spawn.Process(target=_listen, args=(there, endpoint), daemon=True)
        self._process.start()
        self._pipe.recv()
        self._seen: list[tuple[int, int]] = []

    def stop(self) -> None:
        """End the process and keep what it noted."""
        self._pipe.send("stop")
        self._seen = self._pipe.recv()
        self._process.join()

    def ages_ms(self, since_ns: int, until_ns: int) -> list[float]:
        """Return the sorted ages of the quotes that came in that time."""
        first = bisect.bisect_left(self._seen, (since_ns, 0))
        last = bisect.bisect_left(self._seen, (until_ns, 0))
        return sorted(age / 1e6 for _, age in self._seen[first:last])


def _listen(pipe: Connection, endpoint: str) -> None:
    """Run in the listener's process."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.connect(endpoint)
    socket.subscribe(b"quote.")
    pipe.send("ready")
    seen: list[tuple[int, int]] = []
    gc.disable()
    while not pipe.poll():
        if not socket.poll(50):
            continue
        while socket.poll(0):
            socket.recv()
            body = socket.recv()
            now_ns = time.time_ns()
            seen.append((now_ns, now_ns - int.from_bytes(body[-8:], "big")))
    pipe.send(seen)
    socket.close(0)
    context.term()


def _read_snapshot(pipe: Connection, endpoint: str) -> None:
    """Run in a client's process: page through a whole snapshot; send rows and seconds."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.connect(endpoint)
    began_s, rows, cursor = time.perf_counter(), 0, None
    while True:
        socket.send(msgpack.packb({"op": "snapshot", "limit": 10_000, **({"cursor": cursor} if cursor else {})}))
        head, *frames = socket.recv_multipart()
        fields = msgpack.unpackb(head)
        if not fields["ok"]:
            time.sleep(0.2)
            continue
        rows += len(frames) // 2
        cursor = fields["cursor"]
        if cursor is None:
            break
    pipe.send((rows, time.perf_counter() - began_s))
    socket.close(0)
    context.term()


def _join(pipe: Connection, pub: str, query: str, rows: int) -> None:
    """Run in a client's process: receive the snapshot's ``rows`` through the client; send rows and seconds."""
    from mt4pump.client import Subscriber  # noqa: PLC0415 - for the other processes it would be a long import

    began_s, count = time.perf_counter(), 0
    with Subscriber(pub, topics=["user.*", "trade.*"], query_endpoint=query) as events:
        for event in events:
            count += bool(getattr(event, "snapshot", False))
            if count >= rows:
                break
    pipe.send((count, time.perf_counter() - began_s))


def _in_process(target: object, *arguments: object) -> tuple[int, float]:
    spawn = multiprocessing.get_context("spawn")
    pipe, there = multiprocessing.Pipe()
    process = spawn.Process(target=target, args=(there, *arguments), daemon=True)  # type: ignore[arg-type]
    process.start()
    try:
        if not pipe.poll(LIMIT_S):
            raise TimeoutError(f"no result within {LIMIT_S} s")
        result: tuple[int, float] = pipe.recv()
    finally:
        process.terminate()
        process.join()
    return result


class Phases:
    """Notes when each phase ran."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, int, int, str]] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[list[str]]:
        """Note a phase; the caller appends what else there is to say."""
        began_ns, notes = time.time_ns(), list[str]()
        yield notes
        self.phases.append((name, began_ns, time.time_ns(), ", ".join(notes)))


def _run(accounts: int, phases: Phases, library_mib: float, feed: BigFeed, folder: str) -> Listener:
    port = "tcp://127.0.0.1:*"
    flags = {"source": "simulator", "pub_endpoint": port, "query_endpoint": port, "sndhwm": 1_000_000}
    given = {**flags, "data_dir": folder, "heartbeat_interval_s": 1.0, "reconcile_interval_s": 0.0}
    daemon = Daemon(load(given, environ={}, config=None), feed.source)
    # No message says when a large table is being compared.
    dispatcher = daemon._dispatcher  # noqa: SLF001
    listener = Listener(daemon.endpoint)
    rows = accounts * (1 + ORDERS_PER_ACCOUNT)

    def settled() -> bool:
        return not dispatcher.work.is_busy and not dispatcher.is_reading_baseline

    prepare_collector()
    daemon.start()
    try:
        with phases.phase("comparison after START") as notes:
            until(lambda: daemon.published("session") > 0, LIMIT_S)
            feed.run()
            until(settled, LIMIT_S)
            notes.append(f"{len(dispatcher.trades.orders.open):,} orders")
        gc.freeze()  # as `mt4pump run` does once all tables are known
        with phases.phase("rest"):
            time.sleep(REST_S)
        with phases.phase("periodic comparison"):
            # By the setting there would be a comparison in every phase, or in none.
            daemon._pump._reconcile_interval_s, daemon._pump._reconcile_at_s = 1e9, 0.0  # noqa: SLF001
            until(lambda: dispatcher.work.is_busy, LIMIT_S)
            until(settled, LIMIT_S)
        with phases.phase("snapshot") as notes:
            count, seconds = _in_process(_read_snapshot, daemon.query_endpoint)
            notes.append(f"{count:,} rows in {seconds:.1f} s")
        with phases.phase("client joins") as notes:
            count, seconds = _in_process(_join, daemon.endpoint, daemon.query_endpoint, rows)
            notes.append(f"{count:,} rows in {seconds:.1f} s")
        with phases.phase("rest again") as notes:
            time.sleep(REST_S)
            notes.append(f"RSS {psutil.Process().memory_info().rss / MIB - library_mib:,.0f} MiB beyond the library")
    finally:
        listener.stop()
        feed.end()
        daemon.stop()
    return listener


def main() -> int:
    """Run the phases and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.big", description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    args = parser.parse_args()
    sys.setswitchinterval(Settings.model_fields["switch_interval_s"].default)
    phases, feed = Phases(), BigFeed(args.accounts)
    library_mib = psutil.Process().memory_info().rss / MIB
    with tempfile.TemporaryDirectory() as folder:
        listener = _run(args.accounts, phases, library_mib, feed, folder)
    view = Table(title=f"{args.accounts:,} accounts, {QUOTES_PER_S:,} quotes/s, {TRADES_PER_S} trades/s")
    for name in ("phase", "s", "quotes", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "note"):
        view.add_column(name, justify="left" if name in {"phase", "note"} else "right")
    for name, began_ns, ended_ns, note in phases.phases:
        ages = listener.ages_ms(began_ns, ended_ns)
        permille = statistics.quantiles(ages, n=1000, method="inclusive") if len(ages) > 1 else [0.0] * 999
        shown = (permille[499], permille[989], permille[998], ages[-1] if ages else 0.0)
        seconds = (ended_ns - began_ns) / 1e9
        view.add_row(name, f"{seconds:.1f}", f"{len(ages):,}", *(f"{value:.1f}" for value in shown), note)
    Console(width=140).print(view)
    return 0


if __name__ == "__main__":
    sys.exit(main())
