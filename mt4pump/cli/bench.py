"""``mt4pump bench``: measures the pipeline on this machine, beside a bare loop and a naive pipeline."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterable

import zmq
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mt4pump import __version__
from mt4pump.bench.runs import Case, FeedManager, Outcome, run_case
from mt4pump.cli.format import StdoutConsole
from mt4pump.settings import Settings

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
