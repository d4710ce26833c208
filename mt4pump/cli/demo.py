"""``mt4pump demo``: daemon with a simulated market, gateway and metrics, all at once."""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import metadata
from pathlib import Path
from threading import Event

from rich.console import Console
from rich.markup import escape
from rich.table import Table

import mt4pump
from mt4pump.cli.arguments import count, port
from mt4pump.cli.format import StdoutConsole
from mt4pump.demo import ChildEnded, Ports, ProcessGroup, check_free, consumers, daemon, environment, missing
from mt4pump.errors import EXIT_FAILED, EXIT_OK, EXIT_START, SettingsError, StartError
from mt4pump.process.signals import asked_to_end

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
    parser.add_argument("--verbose", action="store_true", help="show the logs of all parts")


def demo_command(args: argparse.Namespace) -> int:
    """Run until asked to end. Returns 0 after that, 3 when a part cannot start, 1 when a part ends by itself."""
    ports = Ports(**{name: getattr(args, name) for name in PORT_FLAGS})
    flags: dict[int, str] = {}
    for name, (flag, _) in PORT_FLAGS.items():
        if (number := getattr(ports, name)) in flags:
            raise SettingsError(f"{flags[number]} and {flag} are both {number}: give two ports")
        flags[number] = flag
    lacking = lacking_packages()
    check_free(dict(list(flags.items())[:2]) if lacking else flags)
    with asked_to_end() as asked, data_folder(args.data_dir) as folder:
        return _run(args, ports, folder, lacking, asked)


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

    group = ProcessGroup(folder, environment(os.environ, _paths(), os.pathsep), on_line)
    try:
        with nullcontext() if args.verbose else console.status("starting a simulated market …"):
            group.start((daemon(ports, str(folder), args.rate),), asked)
            if not lacking:
                group.start(consumers(ports), asked)
        if not asked.is_set():
            console.print(_overview(ports, folder, lacking, is_kept=args.data_dir is not None))
            if lacking:
                how = "pip install 'mt4pump\\[consumers]', in its own folder: pip install '.\\[consumers]'"
                errors.print(f"[yellow]without gateway, page and metrics[/]: they need {', '.join(lacking)}. {how}")
        group.run(asked)
        console.print("\nending all parts …")
    except ChildEnded as ended:
        errors.print(f"[bold red]mt4pump demo:[/] {escape(str(ended))}")
        return EXIT_START if ended.code == EXIT_START else EXIT_FAILED
    finally:
        for name in group.end():
            errors.print(f"mt4pump demo: {name} did not end by itself and was killed")
    console.print("all parts have ended")
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
    """Yield the folders of our packages, because the parts start in a different working folder."""
    yield str(Path(mt4pump.__file__).resolve().parents[1])
    found = importlib.util.find_spec("mt4pump_consumers")
    if found is not None and found.origin is not None:
        yield str(Path(found.origin).resolve().parents[1])
    yield from (str(Path(each).resolve()) for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each)


@contextmanager
def data_folder(chosen: Path | None) -> Iterator[Path]:
    """Yield the chosen folder, or a new one that is removed at the end; raises StartError."""
    try:
        if chosen is None:
            made = tempfile.TemporaryDirectory(prefix="mt4pump-demo-", ignore_cleanup_errors=True)
        else:
            chosen.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"the folder {chosen}" if chosen else "a folder for temporary files"
        raise StartError(f"{what} cannot be made ({error.strerror or error}); give another with --data-dir") from error
    with nullcontext(chosen.resolve()) if chosen else made as folder:
        yield Path(folder)
