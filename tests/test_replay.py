"""Real ticks: file → simulator → daemon → a plain pyzmq SUB in another process, none missing, none out of order."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from mt4pump.daemon import Daemon
from mt4pump.session_source import source_of
from mt4pump.settings import load
from tests.bus import ANY_PORT
from tests.reference import reference_path

ROOT = Path(__file__).resolve().parent.parent
FILES = ("EURUSD-2020-01-01-histdata.csv", "GBPJPY-2012-12-03-dukascopy.csv", "USDJPY-2013-01-01-truefx.csv")


@contextmanager
def collected(endpoint: str, count: int) -> Iterator[IO[str]]:
    """Give the lines that a subscriber process prints; it printed that it is ready."""
    command = [sys.executable, "-m", "tests.collector", endpoint, "quote.", str(count)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process.stdout
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def expected_ticks(files: list[Path]) -> list[tuple[int, str, str, str]]:
    """Return time_ms, symbol, bid, ask of all files, merged by time as the text says them."""
    rows = [row for file in files for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines())]
    ticks = [(int(row["time_ms"]), row["symbol"], row["bid"], row["ask"]) for row in rows]
    return sorted(ticks, key=lambda tick: tick[0])


@pytest.mark.parametrize(
    "names", [*((name,) for name in FILES), FILES], ids=lambda names: "+".join(n[:6] for n in names)
)
def test_every_tick_of_a_file_arrives_in_order_with_its_digits_and_no_gap(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    files = [reference_path("data", "ticks", name) for name in names]
    ticks = expected_ticks(files)
    flags = {"source": "simulator", "ticks": tuple(files), "speed": "max", "sndhwm": 2 * len(ticks)}
    given = {"pub_endpoint": ANY_PORT, "query_endpoint": ANY_PORT, "data_dir": tmp_path, "heartbeat_interval_s": 0.1}
    settings = load({**flags, **given}, environ={})
    daemon = Daemon(settings, source_of(settings))
    daemon.start(session=False)
    try:
        with collected(daemon.endpoint, len(ticks)) as lines:
            daemon.start_session()
            seqs: Counter[str] = Counter()
            arrived = []
            for line in lines:
                topic, body = json.loads(line)
                seqs[topic] += 1
                assert body["seq"] == seqs[topic]
                assert topic == f"quote.{body['symbol']}"
                digits = body["digits"]
                arrived.append((body["symbol"], f"{body['bid']:.{digits}f}", f"{body['ask']:.{digits}f}"))
    finally:
        daemon.stop()
    assert len(arrived) == len(ticks)
    for symbol in {tick[1] for tick in ticks}:
        result = [(bid, ask) for name, bid, ask in arrived if name == symbol]
        assert result == [(bid, ask) for _, name, bid, ask in ticks if name == symbol]
    assert [symbol for symbol, _, _ in arrived] == [symbol for _, symbol, _, _ in ticks]
