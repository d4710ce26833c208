"""``mt4pump bench`` runs its three paths for real, and its table says what came out."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from mt4pump.cli.bench import Case, Outcome, as_json, table
from mt4pump.cli.bench_peers import Received, paced
from tests.bus import until
from tests.cli.commands import environment


def outcome(path: str, sent_per_second: float, rate: float = math.inf, messages: int = 1_000) -> Outcome:
    return Outcome(Case(path, "quote", rate, 1, 1_000), sent_per_second, Received(messages, 2.0, 50.4, 99.0, 1_999.6))


def text_of(outcomes: list[Outcome]) -> list[str]:
    console = Console(width=200, record=True, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(table(outcomes))
    return console.export_text().splitlines()


def line(lines: list[str], path: str, pace: str) -> list[str]:
    """Return the cells of the row of ``path`` at ``pace``."""
    (row,) = [
        cells for text in lines if path in (cells := [cell.strip() for cell in text.split("│")]) and pace in cells
    ]
    return row


def test_ratios_are_against_the_peers_of_the_same_run() -> None:
    lines = text_of([outcome("bare", 200_000), outcome("mt4pump", 100_000), outcome("naive", 5_000)])
    cells = line(lines, "mt4pump", "flat out")
    assert "50 %" in cells
    assert "20.0" in cells


def test_latencies_are_shown_for_a_pace_only_and_losses_always() -> None:
    lines = text_of([outcome("mt4pump", 1.0, 5_000.0), outcome("bare", 1.0, messages=990)])
    assert line(lines, "mt4pump", "5,000/s")[-5:-2] == ["50", "99", "2,000"]
    assert line(lines, "bare pyzmq loop", "flat out")[-6:-2] == ["10", "-", "-", "-"]


def test_json_has_no_infinity() -> None:
    received = json.loads(as_json([outcome("mt4pump", 1.0)]), parse_constant=lambda name: 1 / 0 if name else None)
    assert received["outcomes"][0]["rate"] is None


def test_a_pace_yields_every_number_once() -> None:
    assert list(paced(5, math.inf)) == list(paced(5, 100_000.0)) == [0, 1, 2, 3, 4]


def test_the_command_runs_all_paths_and_loses_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mt4pump", "bench", "--events", "1000", "--json"],
        cwd=tmp_path,
        env=environment(),
        check=True,
        capture_output=True,
        text=True,
        timeout=110,
    )
    outcomes = json.loads(done.stdout)["outcomes"]
    assert {row["path"] for row in outcomes} == {"mt4pump", "bare", "naive"}
    assert all(row["messages"] == row["events"] for row in outcomes)
    assert all(row["sent_per_second"] > 0 for row in outcomes)


@pytest.mark.skipif(sys.platform == "win32", reason="a test cannot send Ctrl-C to a group of processes there")
def test_ctrl_c_ends_it_without_a_traceback_while_a_subscriber_process_begins(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "mt4pump", "bench", "--events", "10000000"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as bench:
        try:
            until(lambda: has_subscriber(psutil.Process(bench.pid)), "a subscriber process begins")
            os.killpg(bench.pid, signal.SIGINT)  # as a terminal does
            _, errors = bench.communicate(timeout=60)
        finally:
            bench.kill()
    assert "Traceback" not in errors


def has_subscriber(process: psutil.Process) -> bool:
    try:
        return any("spawn_main" in " ".join(each.cmdline()) for each in process.children())
    except psutil.NoSuchProcess:  # it ended between the two calls
        return False
