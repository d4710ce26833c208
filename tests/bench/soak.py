"""``python -m tests.bench.soak [--events N]``: does memory stay flat over ten million events?

Quotes from a native thread through the real bridge to one subscriber that counts them; the daemon's resident memory is
read every tenth of the way, after a first tenth to warm up.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time

import psutil
from rich.console import Console
from rich.table import Table

from mt4pump.cli.bench import bench_settings, until
from mt4pump.cli.bench_peers import Receiver
from mt4pump.daemon import Daemon
from tests.bench.native import NativeFeed

STEPS = 10
MIB = 1024 * 1024


def main() -> int:
    """Run and print the table; exit 1 when memory grew by more than 5 % after the first tenth."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rate", type=float, default=100_000.0, help="per second; what the subscriber can follow")
    args = parser.parse_args()
    step = args.events // STEPS
    view = Table(title=f"{args.events:,} quotes at up to {args.rate:,.0f}/s")
    for name in ("published", "events/s", "RSS MiB"):
        view.add_column(name, justify="right")
    sizes = []
    feed = NativeFeed()
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(bench_settings(folder, 100_000), feed.source)
        daemon.start()
        with Receiver(daemon.endpoint, b"quote.", step * STEPS) as receiver:
            assert receiver.ready(20.0)
            until(lambda: daemon.published("session") > 0, 20.0)
            for number in range(1, STEPS + 1):
                began_s = time.perf_counter()
                feed.feed("quote", step, args.rate)
                until(lambda goal=number * step: daemon.published("quote") >= goal, 600.0)  # type: ignore[misc]
                sizes.append(psutil.Process().memory_info().rss / MIB)
                per_second = step / (time.perf_counter() - began_s)
                view.add_row(f"{number * step:,}", f"{per_second:,.0f}", f"{sizes[-1]:.1f}")
            received = receiver.result(60.0)
        daemon.stop()
    growth = sizes[-1] / sizes[0] - 1
    view.caption = f"received {received.messages:,}; growth after the first tenth {100 * growth:+.1f} %"
    Console(width=100).print(view)
    return int(growth > 0.05)


if __name__ == "__main__":
    sys.exit(main())
