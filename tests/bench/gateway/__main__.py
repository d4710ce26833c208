"""Runs the cases and prints a table: ``python -m tests.bench.gateway [--runs N] [--seconds N] [--json FILE]``.

What limits the cases in which each client gets each quote by itself: the system's ``send`` alone takes 4 to 6 of the
7 to 8 µs per message (a loop of sends to a reader over loopback), in Node as here. A third of the naive loop's 16 to
20 µs is what these calls take. Where quotes are joined, by throttling or batches, it is 0.01 to 0.09 of the naive
loop's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import NamedTuple

import psutil
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
SERVERS = ("gateway", "naive", "node")
STEADY, STEADY_LOOKS = 1.15, 30
"""Seconds that differ by no more than this factor are a steady flow."""
MOST_OF_OFFERED = 1.05


class Case(NamedTuple):
    """``rate``: quotes per second and symbol that come; ``per_s``: that go to each client (0: all).

    ``peers``: the case whose peers this one is set against; by default the one of this name.
    """

    name: str
    clients: int
    symbols: int
    rate: float
    per_s: float
    window_s: float = 0.0
    peers: str = ""

    @property
    def offered_per_s(self) -> float:
        """Return how many messages a second should arrive, over all clients."""
        return self.clients * self.symbols * min(self.rate, self.per_s or self.rate)


SPARSE, THROTTLED = "every quote, 5/s per symbol", "100/s per symbol, throttled to 10/s"
CASES = (
    Case("every quote, 1/s per symbol", 500, 20, 1, 0),
    Case(SPARSE, 500, 20, 5, 0),
    Case(THROTTLED, 500, 20, 100, 10),
)
BATCHED = (
    Case(f"{SPARSE}, batched 0.2 s", 500, 20, 5, 0, 0.2, SPARSE),
    Case(f"{THROTTLED}, batched 0.1 s", 500, 20, 100, 10, 0.1, THROTTLED),
    # Every one of a million messages a second; the peers cannot, so they stand there with what they do throttled.
    Case("every quote, 100/s per symbol, batched 0.1 s", 500, 20, 100, 0, 0.1, THROTTLED),
)


class Outcome(NamedTuple):
    """What one run gave: messages that arrived per second, CPU seconds of the server per second, µs per message."""

    per_s: float
    cpu: float
    us: float


@contextmanager
def process(*command: str, **options: object) -> Iterator[subprocess.Popen[str]]:
    """Give a started process; end it afterwards."""
    started: subprocess.Popen[str] = subprocess.Popen(command, stdout=-1, text=True, **options)  # type: ignore[call-overload]
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def line(running: subprocess.Popen[str]) -> str:
    """Return the next line it prints."""
    assert running.stdout is not None
    text = running.stdout.readline().strip()
    if not text:
        raise RuntimeError(f"{running.args!r} ended without an answer")
    return text


def serve(stack: ExitStack, server: str, case: Case, ws: Path) -> tuple[psutil.Process, int]:
    """Start a feed and ``server``; return its process and port."""
    feed = stack.enter_context(
        process(
            sys.executable,
            "-m",
            "tests.bench.gateway.feeder",
            "tcp" if server == "node" else "zmq",
            str(case.symbols),
            str(case.rate),
        )
    )
    source, *query = line(feed).split()
    if server == "naive":
        made = stack.enter_context(process(sys.executable, "-m", "tests.bench.gateway.naive", source, str(case.per_s)))
        return psutil.Process(made.pid), int(line(made))
    if server == "node":
        environment = {**os.environ, "NODE_WS": str(ws)}
        made = stack.enter_context(process("node", str(HERE / "peer.mjs"), source, str(case.per_s), env=environment))
        return psutil.Process(made.pid), int(line(made))
    limits = ["--connections-per-address", "5000", "--connections", "5000"]
    quotes = ["--quotes-per-s", str(case.per_s), "--topics", "quote.*"]
    command = [
        sys.executable,
        "-m",
        "mt4pump_consumers.gateway",
        "--endpoint",
        source,
        "--query-endpoint",
        query[0],
        "--port",
        "0",
        "--anonymous",
    ]
    path = os.pathsep.join([str(HERE.parents[2] / "consumers"), os.environ.get("PYTHONPATH", "")])
    made = stack.enter_context(process(*command, *limits, *quotes, stderr=-2, env={**os.environ, "PYTHONPATH": path}))
    while not (found := re.search(r"serves on http://127\.0\.0\.1:(\d+)", line(made))):
        pass
    return psutil.Process(made.pid), int(found[1])


def measure(server: str, case: Case, seconds: float, ws: Path) -> Outcome:
    """Return one outcome."""
    with ExitStack() as stack:
        measured, port = serve(stack, server, case, ws)
        command = [sys.executable, "-m", "tests.bench.gateway.readers", str(port), str(case.clients), str(case.symbols)]
        readers = stack.enter_context(process(*command, str(case.window_s), stdin=-1))
        line(readers)

        def count() -> tuple[int, float, float]:
            assert readers.stdin is not None
            readers.stdin.write("\n")
            readers.stdin.flush()
            messages = int(line(readers))
            cpu = measured.cpu_times()
            return messages, cpu.user + cpu.system, time.perf_counter()

        steady(lambda: count()[0])
        before = count()
        Event().wait(seconds)
        messages, cpu_s, took_s = (later - earlier for later, earlier in zip(count(), before, strict=True))
    outcome = Outcome(messages / took_s, cpu_s / took_s, 1e6 * cpu_s / max(1, messages))
    # More than was offered means that a backlog was measured: many messages in one write, and a flattering figure.
    if outcome.per_s > MOST_OF_OFFERED * case.offered_per_s:
        raise RuntimeError(
            f"{server}, {case.name}: {outcome.per_s:,.0f}/s arrived of {case.offered_per_s:,.0f}/s offered"
        )
    return outcome


def steady(count: Callable[[], int]) -> None:
    """Return once the flow of messages is even, three looks in a row; raises RuntimeError when it never is."""
    rates: list[int] = []
    before = count()
    for _ in range(STEADY_LOOKS):
        Event().wait(1.0)
        now = count()
        rates.append(now - before)
        before = now
        last = rates[-3:]
        if len(last) == 3 and min(last) > 0 and max(last) <= STEADY * min(last):
            return
    raise RuntimeError(f"messages never came evenly; per second: {rates}")


def median(outcomes: list[Outcome]) -> Outcome:
    """Return the medians."""
    return Outcome(*(statistics.median(values) for values in zip(*outcomes, strict=True)))


@contextmanager
def node_ws() -> Iterator[Path | None]:
    """Give the file of the npm package ``ws``, installed into a folder that goes again; None without Node."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [npm, "install", "--prefix", folder, "--no-audit", "--no-fund", "ws@8.21.1"],
            capture_output=True,
            check=False,
        )
        found = Path(folder) / "node_modules" / "ws" / "wrapper.mjs"
        yield found if done.returncode == 0 and found.exists() else None


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gateway")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    view = Table(
        title="CPU of the server per message that arrived (median)",
        caption=f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    )
    for name in ("case", "server", "runs", "offered/s", "arrived/s", "CPU", "µs/message", "of naive", "of node"):
        view.add_column(name, justify="left" if name in {"case", "server"} else "right")
    results: dict[str, dict[str, Outcome]] = {}
    with node_ws() as ws:
        for case in (*CASES, *BATCHED):
            servers = [name for name in SERVERS if (name != "node" or ws) and (name == "gateway" or not case.window_s)]
            outcomes: dict[str, list[Outcome]] = {name: [] for name in servers}
            for _ in range(given.runs):
                for name in servers:  # one after the other, so that a change of the machine's mood meets all
                    try:
                        outcomes[name].append(measure(name, case, given.seconds, ws or Path()))
                    except RuntimeError as error:
                        print(f"not counted: {name}, {case.name}: {error}", file=sys.stderr)
            results[case.name] = {name: median(values) for name, values in outcomes.items() if values}
            peers = results[case.peers or case.name]
            for name in results[case.name]:
                got = results[case.name][name]
                ratios = [f"{got.us / peers[peer].us:.2f}" if peer in peers else "" for peer in ("naive", "node")]
                view.add_row(
                    case.name,
                    name,
                    str(len(outcomes[name])),
                    f"{case.offered_per_s:,.0f}",
                    f"{got.per_s:,.0f}",
                    f"{got.cpu:.2f}",
                    f"{got.us:.2f}",
                    *ratios,
                )
    Console(width=150).print(view)
    if given.json:
        given.json.write_text(
            json.dumps(
                {case: {name: got._asdict() for name, got in rows.items()} for case, rows in results.items()}, indent=2
            )
        )


if __name__ == "__main__":
    main()
