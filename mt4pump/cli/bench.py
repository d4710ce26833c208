"""``mt4pump bench``: measures the pipeline on this machine, beside a bare loop and a naive pipeline."""

from __future__ import annotations

import argparse
import math
import sys

from rich.console import Console
from rich.progress import track

from mt4pump.cli.format import StdoutConsole

EPILOG = """
Three paths run one after the other, each with a subscriber in a process of its own: mt4pump's pipeline (fed from
memory, no DLL), a bare pyzmq loop that sends the same bytes, and a naive pipeline (lock, run_coroutine_threadsafe,
asyncio.Queue). Compare the ratios; the absolute figures depend on the machine and its load.

  mt4pump bench --events 50000 --subscribers 4     a short run with four readers
"""


LATENCY_RATE = 5_000.0
"""Events per second of the latency cases: a busy hour of a broker."""


def bench_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.epilog = EPILOG
    parser.add_argument("--events", type=int, default=200_000, metavar="N", help="events flat out (default 200000)")
    parser.add_argument("--subscribers", type=int, default=1, metavar="N", help="subscriber processes (default 1)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def bench_command(args: argparse.Namespace) -> int:
    """Run the cases and print the outcomes."""
    from mt4pump.bench.feed import FeedManager  # noqa: PLC0415 - a long import that no other command needs
    from mt4pump.bench.report import as_json, table  # noqa: PLC0415
    from mt4pump.bench.runs import Case, run_case  # noqa: PLC0415
    from mt4pump.settings import Settings  # noqa: PLC0415

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
