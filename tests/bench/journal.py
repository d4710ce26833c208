"""``python -m tests.bench.journal [--rounds N]``: what the journal, and a replay, cost the live stream.

Each round runs every case once, with and without side by side, as a machine's mood drifts; the table shows medians.
Callbacks come from a native thread through the real bridge, subscribers and the reader of replays are other processes.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

import msgpack
import zmq
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mt4pump.cli.bench import Case, bench_settings, machine, run_case, until
from mt4pump.cli.bench_peers import Receiver
from mt4pump.daemon import Daemon
from mt4pump.journal import Journal, JournalOptions, Stored
from tests.bench.native import NativeFeed

SWITCH_INTERVAL_S = 0.0005
STORED = 300_000
BESIDE = "beside an endless replay (events/s)"
FIELDS = {f"field{number}": number * 1.1 for number in range(28)}
LIMIT_S = 120.0


class Figures(NamedTuple):
    """One measurement of one case; None for what was not measured."""

    per_second: float | None
    p50_us: float | None = None
    p99_us: float | None = None


def main() -> int:
    """Run all rounds and print the medians."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.journal", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=200_000, help="events of a flat-out case")
    args = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    found: dict[str, list[Figures]] = defaultdict(list)
    for _ in track(range(args.rounds), "measuring", console=Console(stderr=True), disable=not sys.stderr.isatty()):
        for name, run in cases(args.events):
            found[name].append(run())
    view = Table(title=f"Medians of {args.rounds} rounds", caption=machine(), caption_justify="left")
    for name in ("case", "events/s", "p50 µs", "p99 µs"):
        view.add_column(name, justify="left" if name == "case" else "right")
    for name, figures in found.items():
        view.add_row(name, *(_median([each[place] for each in figures]) for place in range(3)))
    Console(width=130).print(view)
    return 0


def cases(events: int) -> Iterator[tuple[str, Callable[[], Figures]]]:
    """Yield the cases in the order to run them."""
    for journal in (False, True):
        name = "with journal" if journal else "without journal"
        yield f"trades flat out, {name}", lambda on=journal: _case("trade", math.inf, events // 2, journal=on)  # type: ignore[misc]
    for journal in (False, True):
        name = "with journal" if journal else "without journal"
        yield f"quotes flat out, {name}", lambda on=journal: _case("quote", math.inf, events, journal=on)  # type: ignore[misc]
    for journal in (False, True):
        name = "with journal" if journal else "without journal"
        yield f"quotes 5,000/s, {name}", lambda on=journal: _case("quote", 5_000.0, 20_000, journal=on)  # type: ignore[misc]
    yield "replay of 300,000 events, nothing live", replay_alone
    yield f"quotes 5,000/s (us) {BESIDE}", lambda: live_beside_replay(gives_way=False)
    if hasattr(os, "SCHED_IDLE"):
        yield f"quotes 5,000/s (us) {BESIDE}, its reader gives way", lambda: live_beside_replay(gives_way=True)


def _case(kind: str, rate: float, events: int, *, journal: bool) -> Figures:
    outcome = run_case(Case("mt4pump", kind, rate, 1, events, journal), NativeFeed)
    got = outcome.received
    assert got.messages == events, f"{kind}: {got.messages} of {events} arrived"
    return Figures(outcome.sent_per_second, got.p50_us, got.p99_us)


def replay_alone() -> Figures:
    with filled_daemon() as (daemon, _), _replaying(daemon, endless=False) as reader:
        events, seconds = reader.recv()
        assert events >= STORED
        return Figures(events / seconds)


def live_beside_replay(*, gives_way: bool) -> Figures:
    """``gives_way``: the reader runs when a core is idle, as if on another machine: what is left is the daemon's."""
    with filled_daemon() as (daemon, feed), Receiver(daemon.endpoint, b"quote.", 20_000) as receiver:
        assert receiver.ready(20.0)
        with _replaying(daemon, endless=True, gives_way=gives_way) as reader:
            feed.feed("quote", 20_000, 5_000.0)
            got = receiver.result(LIMIT_S)
        passes = []
        with suppress(EOFError):  # it has ended
            while True:
                passes.append(reader.recv())
    return Figures(sum(events for events, _ in passes) / sum(s for _, s in passes), got.p50_us, got.p99_us)


def stored(offset: int, number: int, ts: int) -> Stored:
    """Return an event of the size of a trade, of topic ``number``."""
    body = {"epoch": 1, "seq": offset // 250 + 1, "ts": ts, "offset": offset, **FIELDS}
    return Stored(offset, ts, b"trade.%d" % (1000 + number), msgpack.packb(body))


@contextmanager
def filled_daemon(count: int = STORED) -> Iterator[tuple[Daemon, NativeFeed]]:
    """Give a daemon that pumps and has ``count`` events in its journal."""
    feed = NativeFeed()
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal.sqlite3", JournalOptions(), time.time_ns)
        for first in range(1, count + 1, 250):
            now_ns = time.time_ns()
            group = [stored(first + number, number, now_ns) for number in range(250)]
            assert journal.append(group, {})
        journal.close()
        daemon = Daemon(bench_settings(folder, 100_000), feed.source)
        daemon.start()
        try:
            until(lambda: daemon.published("session") > 0, LIMIT_S)
            yield daemon, feed
        finally:
            daemon.stop()


@contextmanager
def _replaying(
    daemon: Daemon, *, endless: bool, gives_way: bool = False
) -> Iterator[multiprocessing.connection.Connection]:
    """Have another process read the whole journal, once or until the end of the block; it prints what it got."""
    assert daemon.query_endpoint is not None
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    ending = spawn.Event()
    process = spawn.Process(target=_read, args=(there, daemon.query_endpoint, ending, endless, gives_way), daemon=True)
    process.start()
    assert here.poll(LIMIT_S), "the reader never began"
    here.recv()
    try:
        yield here
    finally:
        ending.set()
        process.join(10.0)


def _read(
    pipe: multiprocessing.connection.Connection,
    endpoint: str,
    ending: Event,
    endless: bool,  # noqa: FBT001
    gives_way: bool,  # noqa: FBT001
) -> None:
    """Run in the reader's process: ask page by page, the next one before the last one is taken apart."""
    if gives_way:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    socket = zmq.Context().socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    receive = super(zmq.Socket, socket).recv
    pipe.send("ready")
    while not ending.is_set():
        after: int | None = 0
        events, began_s = 0, time.perf_counter()
        socket.send(msgpack.packb({"op": "replay", "after": 0, "limit": 10_000}))
        while after is not None:
            head = msgpack.unpackb(receive() or receive())
            after, events = None if ending.is_set() else head["next"], events + head["count"]
            if after is not None:  # the head is enough to ask for the next page
                socket.send(msgpack.packb({"op": "replay", "after": after, "limit": 10_000}))
            for _ in range(2 * head["count"]):
                receive()
        pipe.send((events, time.perf_counter() - began_s))
        if not endless:
            return


def _median(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.median(known):,.0f}" if known else ""


if __name__ == "__main__":
    sys.exit(main())
