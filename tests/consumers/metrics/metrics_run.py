"""A real exporter over a real daemon with the simulator, each in a process of its own on free ports; and promtool."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TypeVar
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.programs import Program, program

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "mt4pump.json"
LIMIT_S = 60.0
ANY = "tcp://127.0.0.1:*"

Labels = frozenset[tuple[str, str]]
Samples = dict[tuple[str, Labels], float]
Found = TypeVar("Found")


def tool(name: str) -> str:
    """Return the path of a program of Debian's package ``prometheus``; skip the calling test without it."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed: it comes with Debian's package prometheus")
    return path


def promtool(*arguments: str | Path, text: str = "") -> tuple[int, str]:
    """Run promtool; return its exit code and all that it printed."""
    command = [tool("promtool"), *map(str, arguments)]
    ended = subprocess.run(
        command, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=100
    )
    return ended.returncode, ended.stdout


def environment(**extra: str) -> dict[str, str]:
    """Return the environment of the programs: none of ours but the way to the consumers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MT4PUMP_")}
    path = os.pathsep.join([str(ROOT / "consumers"), str(ROOT), kept.get("PYTHONPATH", "")])
    return {**kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **extra}


def started(folder: Path, *command: str, **extra: str) -> subprocess.Popen[str]:
    """Return a started program whose log lines can be read."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=environment(**extra),
    )


class Daemon:
    """A daemon and where it is."""

    def __init__(self, run: Program) -> None:
        self.program = run
        self.endpoint, self.query_endpoint = run.endpoint(), run.endpoint("queries are answered on ")


@contextmanager
def daemon(folder: Path, endpoint: str = ANY, query_endpoint: str = ANY, rate: int = 200) -> Iterator[Daemon]:
    """Run a daemon that makes ``rate`` quotes a second."""
    flags = ["run", "--source", "simulator", "--rate", str(rate), "--log-format", "json"]
    flags += ["--heartbeat-interval-s", "0.2"]
    where = ["--pub-endpoint", endpoint, "--query-endpoint", query_endpoint, "--data-dir", str(folder / "data")]
    with program(started(folder, sys.executable, "-m", "mt4pump", *flags, *where)) as run:
        yield Daemon(run)


class Exporter:
    """An exporter and where it serves."""

    def __init__(self, run: Program) -> None:
        self.program = run
        found = re.search(r"served on (https?://127\.0\.0\.1:(\d+)/metrics)", run.line("served on "))
        assert found
        self.url, self.port = found[1], int(found[2])

    def text(self) -> str:
        """Return what a scrape brings."""
        with urlopen(self.url, timeout=LIMIT_S) as reply:  # noqa: S310 - the address is the exporter's own
            text: str = reply.read().decode()
        return text

    def samples(self) -> Samples:
        """Return what a scrape brings, by name and labels."""
        return samples(self.text())


@contextmanager
def exporter(folder: Path, source: Daemon, *flags: str) -> Iterator[Exporter]:
    """Run an exporter on a free port."""
    where = [
        "--endpoint",
        source.endpoint,
        "--query-endpoint",
        source.query_endpoint,
        "--port",
        "0",
        "--silence-s",
        "2",
    ]
    command = [sys.executable, "-m", "mt4pump_consumers.metrics", *where, *flags]
    with program(started(folder, *command)) as run:
        yield Exporter(run)


def samples(text: str) -> Samples:
    """Return the samples of a text, each once."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def value(of: Samples, name: str, **labels: str) -> float | None:
    """Return one sample; None when it is not there."""
    return of.get((name, frozenset(labels.items())))


def until(look: Callable[[], Found | None], what: str, limit_s: float = LIMIT_S, pause_s: float = 0.1) -> Found:
    """Return what ``look`` finds, once it finds something; fail with ``what`` when it never does."""
    deadline_s, pause = time.monotonic() + limit_s, Event()
    while not (found := look()):
        assert time.monotonic() < deadline_s, f"never: {what}"
        pause.wait(pause_s)
    return found
