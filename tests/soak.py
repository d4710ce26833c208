"""``python -m tests.soak [--hours H]``: does the memory of any program grow while all of them run for hours?

A simulated market of 5,000 quotes a second with journal; gateway with WebSocket clients, metrics, monitor with store,
and the NATS bridge where `nats-server` is installed, each as a process of its own. Printed are the resident MiB of each
program every minute, and at the end the slope after the first part, and how many events the client of this program
missed. Exits with 1 when it missed one or a program grows faster than ``--limit`` MiB an hour.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread

import psutil
from rich.console import Console
from rich.table import Table
from websockets.sync.client import connect

from mt4pump.cli.demo import DemoProgram, Ports, ProcessGroup, consumers, daemon, environment
from mt4pump.client import Notice, Subscriber

ROOT = Path(__file__).resolve().parents[1]
MIB = 1024 * 1024
MINUTE_S = 60.0
WAIT_S = 0.5
SUBSCRIBE = '{"action": "subscribe", "symbols": ["*"]}'


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Losses(Thread):
    """Follows the whole stream with the client; counts ``events``, ``trades`` of them, and ``lost`` ones.

    A gap of quotes is final: it counts as lost.
    """

    def __init__(self, ports: Ports) -> None:
        super().__init__(name="losses", daemon=True)
        self.events = self.trades = self.lost = 0
        topics = ["quote.*", "trade.*"]
        self._subscriber = Subscriber(ports.endpoint, topics=topics, query_endpoint=ports.query_endpoint)

    def run(self) -> None:
        """Count until closed."""
        with self._subscriber as events:
            for event in events:
                if not isinstance(event, Notice):
                    self.events += 1
                    self.trades += event.topic.startswith("trade.")
                elif event.kind == "lost" or (event.kind == "gap" and event.topic.startswith("quote.")):
                    self.lost += max(1, event.count)


class WebSocketReader(Thread):
    """Reads all quotes from the gateway."""

    def __init__(self, port: int) -> None:
        super().__init__(name="websocket", daemon=True)
        self._url = f"ws://127.0.0.1:{port}"

    def run(self) -> None:
        """Read until the gateway ends."""
        with connect(self._url) as connection:
            connection.send(SUBSCRIBE)
            for _ in connection:
                pass


@contextmanager
def nats_server(folder: Path) -> Iterator[tuple[int, int] | None]:
    """Run a NATS server; yield its port and process id, None where there is none."""
    program = shutil.which("nats-server")
    if program is None:
        yield None
        return
    port = free_port()
    words = [program, "-js", "-sd", str(folder / "nats"), "-a", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def programs_beside(ports: Ports, folder: Path, nats_port: int | None) -> Iterator[DemoProgram]:
    """Yield all programs but the daemon."""
    stream = ("--endpoint", ports.endpoint, "--query-endpoint", ports.query_endpoint)
    yield from consumers(ports)
    store = ("--view", "log", "--store", str(folder / "monitor.sqlite3"))
    yield DemoProgram("monitor", "mt4pump_consumers.monitor", (*stream, *store), "")
    if nats_port is not None:
        servers = ("--servers", f"nats://127.0.0.1:{nats_port}")
        yield DemoProgram("nats", "mt4pump_consumers.nats_bridge", (*stream, *servers), "")


def slope_per_hour(samples: list[tuple[float, float]]) -> float:
    """Return MiB per hour of ``samples``: seconds and MiB."""
    if len(samples) < 2:
        return 0.0
    times, sizes = zip(*samples, strict=True)
    return 3600.0 * statistics.linear_regression(times, sizes).slope


class Record:
    """The resident memory of each program over time."""

    def __init__(self, processes: dict[str, psutil.Process]) -> None:
        self._processes = processes
        self._began_s = time.monotonic()
        self.samples: dict[str, list[tuple[float, float]]] = {name: [] for name in processes}

    def sample(self) -> str:
        """Note the memory now; return it as one line."""
        passed_s = time.monotonic() - self._began_s
        for name, process in self._processes.items():
            tree = [process, *process.children(recursive=True)]
            self.samples[name].append((passed_s, sum(each.memory_info().rss for each in tree) / MIB))
        sizes = (f"{name} {samples[-1][1]:7.1f}" for name, samples in self.samples.items())
        return f"{passed_s / MINUTE_S:6.1f} min  " + "  ".join(sizes)

    def slopes(self, warm_up_s: float) -> dict[str, float]:
        """Return MiB per hour of each program after the first ``warm_up_s``."""
        return {
            name: slope_per_hour([(at_s, size) for at_s, size in samples if at_s >= warm_up_s])
            for name, samples in self.samples.items()
        }


def soak(args: argparse.Namespace, folder: Path, show: Callable[[str], None]) -> tuple[Record, Losses]:
    """Run everything for the given time."""
    ports = Ports(*(free_port() for _ in range(4)))
    paths = (str(ROOT), str(ROOT / "consumers"))
    with ExitStack() as stack:
        nats = stack.enter_context(nats_server(folder))
        group = ProcessGroup(folder, environment(paths), lambda _name, _line: None)
        stack.callback(group.end)
        quiet = daemon(ports, str(folder / "data"), args.rate)._replace(module="tests.quiet_traders")
        group.start((quiet,), Event())
        group.start(tuple(programs_beside(ports, folder, nats[0] if nats else None)), Event())
        losses = Losses(ports)
        for thread in (losses, *(WebSocketReader(ports.gateway) for _ in range(args.clients))):
            thread.start()
        processes = {child.program.name: psutil.Process(child.process.pid) for child in group.children}
        record = Record(processes)
        until_s = time.monotonic() + 3600.0 * args.hours
        next_s = time.monotonic()
        while time.monotonic() < until_s:
            group.check()
            if time.monotonic() >= next_s:
                next_s += args.every_s
                show(record.sample())
            time.sleep(WAIT_S)
        show(record.sample())
    return record, losses


def main() -> int:
    """Run and print the slopes."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=5_000.0, help="quotes per second (default 5000)")
    parser.add_argument("--clients", type=int, default=4, help="WebSocket clients (default 4)")
    parser.add_argument("--every-s", type=float, default=MINUTE_S, help="seconds between two lines (default 60)")
    parser.add_argument("--warm-up", type=float, default=0.25, help="part of the time before the slope (default 0.25)")
    parser.add_argument("--limit", type=float, default=8.0, help="MiB an hour that a program may grow (default 8)")
    args = parser.parse_args()
    console = Console(width=140, highlight=False)
    with tempfile.TemporaryDirectory(prefix="mt4pump-soak-", ignore_cleanup_errors=True) as folder:
        record, losses = soak(args, Path(folder), console.print)
    slopes = record.slopes(args.warm_up * 3600.0 * args.hours)
    seen = f"{losses.events:,} events, {losses.trades:,} of them trades, {losses.lost} lost"
    view = Table(title=f"{args.hours:g} h at {args.rate:,.0f} quotes/s; {seen}")
    for name in ("program", "MiB at first", "MiB at last", "MiB/h after the first part"):
        view.add_column(name, justify="left" if name == "program" else "right")
    for name, slope in slopes.items():
        samples = record.samples[name]
        view.add_row(name, f"{samples[0][1]:.1f}", f"{samples[-1][1]:.1f}", f"{slope:+.1f}")
    console.print(view)
    return int(losses.lost > 0 or max(slopes.values()) > args.limit)


if __name__ == "__main__":
    sys.exit(main())
