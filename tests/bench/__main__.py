"""``python -m tests.bench [--events N] [--quick] [--json FILE]``: the table that the README shows.

Quotes and trades from a native thread, 1 and 4 subscribers, paced and flat out, each beside the bare pyzmq loop and the
naive asyncio pipeline in the same run. Takes some minutes.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import track

from mt4pump.cli.bench import Case, as_json, run_case, table
from tests.bench.native import NativeFeed

SWITCH_INTERVAL_S = 0.0005
"""As the daemon sets it, by default."""
PACED_S = 4
"""Seconds that each paced case lasts."""


def cases(events: int, *, quick: bool) -> Iterator[Case]:
    """Yield the cases; peers next to what they are compared with, as a machine's mood drifts."""
    for subscribers in (1,) if quick else (1, 4):
        yield Case("bare", "quote", math.inf, subscribers, events)
        yield Case("mt4pump", "quote", math.inf, subscribers, events)
        yield Case("naive", "quote", math.inf, subscribers, max(1_000, events // 15))
        yield Case("mt4pump", "trade", math.inf, subscribers, events // 3)
        for rate in (5_000.0,) if quick else (1_000.0, 5_000.0, 50_000.0):
            count = int(rate) * PACED_S
            yield Case("bare", "quote", rate, subscribers, count)
            yield Case("mt4pump", "quote", rate, subscribers, count)
            yield Case("mt4pump", "trade", rate, subscribers, count)
            if rate < 10_000:
                yield Case("naive", "quote", rate, subscribers, count)


def main() -> int:
    """Run all cases and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000, help="events of a flat-out case (default 300000)")
    parser.add_argument("--quick", action="store_true", help="one subscriber, one pace")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    planned = list(cases(args.events, quick=args.quick))
    steps = track(planned, "measuring", console=Console(stderr=True), disable=not sys.stderr.isatty())
    outcomes = [run_case(case, NativeFeed) for case in steps]
    Console(width=170).print(table(outcomes))
    if args.json:
        args.json.write_text(as_json(outcomes), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
