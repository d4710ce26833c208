"""``mt4pump demo``: daemon with a simulated market, gateway and metrics, all at once, watched and ended together.

The daemon is first, and ends last. Every program ignores the settings of this machine, so that the demo is the same
everywhere and never uses a real session's password or journal.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

import mt4pump
from mt4pump.cli.arguments import bind_error, count, port
from mt4pump.cli.format import StdoutConsole
from mt4pump.errors import CONSTRAINTS_PLACE, EXIT_FAILED, EXIT_OK, EXIT_START, SettingsError, StartError
from mt4pump.log import one_line
from mt4pump.process.signals import asked_to_end
from mt4pump.process.sources import PREFIX
from mt4pump.publisher.binding import holder_of

HOST = "127.0.0.1"
REQUIREMENT = re.compile(r"""([A-Za-z0-9._-]+).*extra\s*==\s*["']consumers["']""")
LINES = 200
"""Log lines kept of each child."""
SHOWN_LINES = 15
READY_LIMIT_S = 60.0
"""Of each step, daemon and consumers; a start takes a second, on a busy machine many."""
END_LIMIT_S = 5.0
KILL_LIMIT_S = 2.0
SLICE_S = 0.1
WIDTH = 110
PORT_FLAGS = {
    "publish": ("--pub-port", "the stream"),
    "query": ("--query-port", "queries"),
    "gateway": ("--gateway-port", "the page and its WebSocket"),
    "metrics": ("--metrics-port", "the metrics"),
}
"""Flag of each port, those of the daemon first, and what listens there."""
EPILOG = """\
  mt4pump demo                                  everything, on the usual ports
  mt4pump demo --rate 500 --gateway-port 9000   more events, the page on another port

Starts the daemon with a simulated market, the WebSocket gateway with its page, and the metrics, each as a process of
its own that only this machine can reach, and prints their addresses. Ctrl-C ends all of them. Settings in the
environment and in files are ignored, and the journal is in a folder that is removed at the end."""
OnLine = Callable[[str, str], None]
"""Is called with a child's name and each line of its log, on a thread of its own."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of the programs, all on loopback."""

    publish: int = 5556
    query: int = 5557
    gateway: int = 8765
    metrics: int = 9564

    @property
    def endpoint(self) -> str:
        """Return the address of the stream."""
        return f"tcp://{HOST}:{self.publish}"

    @property
    def query_endpoint(self) -> str:
        """Return the address for queries."""
        return f"tcp://{HOST}:{self.query}"


class DemoProgram(NamedTuple):
    """``python -m`` ``module`` ``arguments``; ``ready`` is part of the line that it logs once it serves, or nothing.

    Who listens on a port is not asked of the system: some take seconds for each answer.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    ready: str


def daemon(ports: Ports, data_dir: str, rate: float) -> DemoProgram:
    """Return the daemon with the simulator, ``rate`` events a second."""
    where = ("--pub-endpoint", ports.endpoint, "--query-endpoint", ports.query_endpoint, "--data-dir", data_dir)
    arguments = ("run", "--source", "simulator", "--rate", f"{rate:g}", *where, "--log-format", "human")
    return DemoProgram("daemon", "mt4pump", arguments, f"queries are answered on {ports.query_endpoint}")


def consumers(ports: Ports) -> tuple[DemoProgram, ...]:
    """Return the gateway, open to everybody on this machine, and the metrics."""
    stream = ("--endpoint", ports.endpoint, "--query-endpoint", ports.query_endpoint)
    gateway = (*stream, "--port", str(ports.gateway), "--anonymous", "--anonymous-topics", "*")
    metrics = (*stream, "--port", str(ports.metrics))
    return (
        DemoProgram("gateway", "mt4pump_consumers.gateway", gateway, f"serves on http://{HOST}:{ports.gateway}/"),
        DemoProgram("metrics", "mt4pump_consumers.metrics", metrics, "metrics are served on "),
    )


def environment(paths: Iterable[str]) -> dict[str, str]:
    """Return the environment of every program: without our settings; ``paths`` are where its modules are found."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    return {**kept, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}


def missing(requirements: Iterable[str], is_installed: Callable[[str], bool]) -> list[str]:
    """Return the packages of the extra ``consumers`` that are not installed."""
    found = filter(None, map(REQUIREMENT.match, requirements))
    return [match[1] for match in found if not is_installed(match[1])]


class DemoChild:
    """A running program. ``lines`` are the last lines of its log, ``is_ready`` is set once it serves.

    It ends when its standard input is closed.
    """

    def __init__(self, program: DemoProgram, folder: Path, environment: Mapping[str, str], on_line: OnLine) -> None:
        self.program = program
        self.lines: deque[str] = deque(maxlen=LINES)
        self.is_ready = not program.ready
        self._on_line = on_line
        self.process = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, "-m", "mt4pump.process.signals", program.module, *program.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            encoding="utf-8",
            errors="replace",
            # Ctrl-C must reach only this program, which ends the consumers before the daemon.
            start_new_session=sys.platform != "win32",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._reader = Thread(target=self._read_log, name=f"log of {program.name}", daemon=True)
        self._reader.start()

    def ask_to_end(self) -> None:
        """Close its standard input."""
        if self.process.stdin is not None:
            with suppress(OSError):  # it has ended already
                self.process.stdin.close()

    def end(self) -> bool:
        """Ask it to end and wait; kill it when that takes too long. Return whether it ended by itself."""
        self.ask_to_end()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(END_LIMIT_S)
        by_itself = self.process.returncode is not None
        if not by_itself:
            self.process.kill()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(KILL_LIMIT_S)
        self.drain()
        if self.process.stdout is not None and not self._reader.is_alive():
            self.process.stdout.close()
        return by_itself

    def drain(self) -> None:
        """Wait, within a bound, until everything that it wrote before its end is in ``lines``."""
        self._reader.join(KILL_LIMIT_S)

    def _read_log(self) -> None:
        for line in self.process.stdout or ():
            text = one_line(line.rstrip())
            self.lines.append(text)
            self.is_ready = self.is_ready or self.program.ready in text
            self._on_line(self.program.name, text)


class ChildFault(Exception):
    """A child ended that should run (``code`` is its exit code), or does not serve; the text has the end of its log."""

    def __init__(self, child: DemoChild, fault: str, code: int) -> None:
        self.code = code
        last = "\n".join(f"  {line}" for line in list(child.lines)[-SHOWN_LINES:] or ["(it wrote nothing)"])
        super().__init__(f"{child.program.name} {fault}; the end of its log:\n{last}")


class ProcessGroup:
    """Starts, watches and ends the children."""

    def __init__(self, folder: Path, environment: Mapping[str, str], on_line: OnLine) -> None:
        self.children: list[DemoChild] = []
        self._start = lambda program: DemoChild(program, folder, environment, on_line)

    def start(self, programs: tuple[DemoProgram, ...], asked: Event) -> None:
        """Start programs, and return when all serve or the end is ``asked`` for; raises ChildFault."""
        started = list(map(self._start, programs))
        self.children += started
        left_s = READY_LIMIT_S
        while not asked.is_set():
            self.check()
            waiting = [child for child in started if not child.is_ready]
            if not waiting:
                return
            if left_s <= 0:
                raise ChildFault(waiting[0], f"does not serve after {READY_LIMIT_S:g} s", EXIT_START)
            asked.wait(SLICE_S)
            left_s -= SLICE_S

    def run(self, asked: Event) -> None:
        """Return when the end is ``asked`` for; raises ChildFault."""
        while not asked.wait(SLICE_S):
            self.check()

    def check(self) -> None:
        """Raise ChildFault if a child ended."""
        for child in self.children:
            if (code := child.process.poll()) is not None:
                child.drain()
                raise ChildFault(child, f"ended with code {code}", code)

    def end(self) -> list[str]:
        """End all, the daemon last; return the names of those that had to be killed."""
        first, others = self.children[:1], self.children[1:]
        for child in others:
            child.ask_to_end()
        return [child.program.name for child in (*others, *first) if not child.end()]


def check_free(names: Mapping[int, str]) -> None:
    """Raise StartError that names every port that is taken, and by whom. ``names``: port to the flag that sets it."""
    taken = []
    for number, flag in names.items():
        endpoint = f"tcp://{HOST}:{number}"
        if bind_error(endpoint):
            holder = holder_of(endpoint) or "another program"
            taken.append(f"port {number} is taken by {holder}: end it, or give another one with {flag}")
    if taken:
        raise StartError("; ".join(taken))


def demo_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.epilog = EPILOG
    for name, (flag, what) in PORT_FLAGS.items():
        default = getattr(Ports(), name)
        help_text = f"for {what} [{default}]"
        parser.add_argument(flag, dest=name, type=port, default=default, metavar="PORT", help=help_text)
    parser.add_argument("--rate", type=count, default=50, metavar="N", help="simulated events per second [50]")
    folder = "keep the journal in this folder [a new one, removed at the end]"
    parser.add_argument("--data-dir", type=Path, metavar="FOLDER", help=folder)
    parser.add_argument("--verbose", action="store_true", help="show the logs of all programs")


def demo_command(args: argparse.Namespace) -> int:
    """Run until asked to end. Returns 0 after that, 3 when a program cannot start, 1 when one ends by itself."""
    ports = Ports(**{name: getattr(args, name) for name in PORT_FLAGS})
    flags: dict[int, str] = {}
    for name, (flag, _) in PORT_FLAGS.items():
        if (number := getattr(ports, name)) in flags:
            raise SettingsError(f"{flags[number]} and {flag} are both {number}: give two ports")
        flags[number] = flag
    lacking = lacking_packages()
    check_free(dict(list(flags.items())[:2]) if lacking else flags)
    with asked_to_end() as asked, data_folder(args.data_dir) as folder:
        return _run(args, ports, Path(folder), lacking, asked)


def lacking_packages() -> list[str]:
    """Return the packages that the consumers need and that are not installed."""
    if importlib.util.find_spec("mt4pump_consumers") is None:
        return ["mt4pump_consumers"]
    try:
        return missing(metadata.requires("mt4pump") or [], _is_installed)
    except metadata.PackageNotFoundError:  # runs from its folder: a missing package will report itself
        return []


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _run(args: argparse.Namespace, ports: Ports, folder: Path, lacking: list[str], asked: Event) -> int:
    console = StdoutConsole(WIDTH)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)

    def on_line(name: str, line: str) -> None:
        if args.verbose:
            errors.print(f"[dim]{name:>7}[/] {escape(line)}")

    group = ProcessGroup(folder, environment(_paths()), on_line)
    try:
        with nullcontext() if args.verbose else console.status("starting a simulated market …"):
            group.start((daemon(ports, str(folder), args.rate),), asked)
            if not lacking:
                group.start(consumers(ports), asked)
        if not asked.is_set():
            console.print(_overview(ports, folder, lacking, is_kept=args.data_dir is not None))
            if lacking:
                how = "pip install -c deploy/constraints.txt 'mt4pump\\[consumers]'"
                text = f"[yellow]without gateway, page and metrics[/]: they need {', '.join(lacking)}. {how}"
                errors.print(f"{text} ({CONSTRAINTS_PLACE})")
        group.run(asked)
        console.print("\nending all programs …")
    except ChildFault as fault:
        errors.print(f"[bold red]mt4pump demo:[/] {escape(str(fault))}")
        return EXIT_START if fault.code == EXIT_START else EXIT_FAILED
    finally:
        for name in group.end():
            errors.print(f"mt4pump demo: {name} did not end by itself and was killed")
    console.print("all programs have ended")
    return EXIT_OK


def _overview(ports: Ports, folder: Path, lacking: list[str], *, is_kept: bool) -> Table:
    usual = Ports()
    stream = "" if ports.publish == usual.publish else f" --endpoint {ports.endpoint}"
    query = "" if ports.query == usual.query else f" --endpoint {ports.query_endpoint}"
    table = Table(
        title="mt4pump demo: a simulated market on this machine; nothing of it is real",
        caption="Ctrl-C ends all of it",
        title_justify="left",
        caption_justify="left",
        title_style="bold",
    )
    table.add_column("what", no_wrap=True, style="bold")
    table.add_column("where", no_wrap=True, style="cyan")
    table.add_column("try", overflow="fold")
    if not lacking:
        subscribe = '{"action": "subscribe", "symbols": ["EURUSD"]}'
        table.add_row("page", f"http://127.0.0.1:{ports.gateway}/", "in a browser: live quotes and trades")
        table.add_row("WebSocket", f"ws://127.0.0.1:{ports.gateway}", subscribe)
    table.add_row("stream", ports.endpoint, f"mt4pump tail{stream}")
    table.add_row("queries", ports.query_endpoint, f"mt4pump snapshot{query}")
    if not lacking:
        table.add_row("metrics", f"http://127.0.0.1:{ports.metrics}/metrics", "for Prometheus, or in a browser")
    table.add_row("journal", str(folder), "is kept" if is_kept else "is removed at the end")
    return table


def _paths() -> Iterator[str]:
    """Yield the folders of our packages, because the programs start in a different working folder."""
    yield str(Path(mt4pump.__file__).resolve().parents[1])
    found = importlib.util.find_spec("mt4pump_consumers")
    if found is not None and found.origin is not None:
        yield str(Path(found.origin).resolve().parents[1])
    yield from (str(Path(each).resolve()) for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each)


def data_folder(chosen: Path | None) -> AbstractContextManager[str]:
    """Return a context with the chosen folder, or with a new one that is removed at the end; raises StartError."""
    try:
        if chosen is None:
            return tempfile.TemporaryDirectory(prefix="mt4pump-demo-", ignore_cleanup_errors=True)
        chosen.mkdir(parents=True, exist_ok=True)
        return nullcontext(str(chosen.resolve()))
    except OSError as error:
        what = f"the folder {chosen}" if chosen else "a folder for temporary files"
        raise StartError(f"{what} cannot be made ({error.strerror or error}); give another with --data-dir") from error
