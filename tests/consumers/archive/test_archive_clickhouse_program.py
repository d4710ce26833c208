"""The archive as a process beside a real daemon and a real ClickHouse server, all of which are killed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

from tests.bus import until
from tests.consumers.archive.archive_run import answer
from tests.consumers.archive.clickhouse_run import LIMIT_S, ClickhouseServer, needs_server, running
from tests.consumers.archive.clickhouse_world import ClickhouseWorld

pytestmark = [needs_server, pytest.mark.timeout(600)]


@pytest.fixture(name="server", scope="module")
def _server() -> Iterator[ClickhouseServer]:
    with running(ClickhouseServer()) as server:
        yield server


@pytest.fixture(name="world")
def _world(tmp_path: Path, server: ClickhouseServer) -> Iterator[ClickhouseWorld]:
    with ClickhouseWorld(tmp_path, server).running() as world:
        yield world


def test_kills_of_archive_daemon_and_database_lose_and_double_nothing(
    world: ClickhouseWorld, server: ClickhouseServer
) -> None:
    """`python -m tests.consumers.archive.archive_kills --clickhouse` does the same with more kills and events."""
    chance = random.Random(3)  # noqa: S311 - the same kills each time
    for victim in (world.archive, server, world.archive, world.daemon, server, world.archive):
        world.reaches(world.confirmed + chance.randrange(1, 60))
        victim.kill()
        victim.start()
    world.check(least=50)


def test_while_the_database_is_away_reading_stops_and_all_is_read_again_later(
    tmp_path: Path, server: ClickhouseServer
) -> None:
    world = ClickhouseWorld(tmp_path, server, rate=3_000)
    flags = ("--metrics-port", str(world.metrics_port), "--buffer-events", "1000")
    world.archive = world.new_archive(*flags)
    with world.running():
        world.reaches(5)
        server.kill()
        until(lambda: "reading stops until it can be written" in world.archive.text, "the buffer is full", LIMIT_S)
        health = f"http://127.0.0.1:{world.metrics_port}/healthz"
        until(lambda: "cannot be written" in answer(health), "the program says so", LIMIT_S)
        server.start()
        until(lambda: "can be written again" in world.archive.text, "the archive reconnects", LIMIT_S)
        until(lambda: answer(health) == "ok\n", "the program is healthy again", LIMIT_S)
        metrics = answer(f"http://127.0.0.1:{world.metrics_port}/metrics")
        assert "mt4pump_archive_reconnects_total 1.0" in metrics
        assert "mt4pump_archive_failures_total 0.0" not in metrics
        world.check(least=5)


def test_verify_counts_what_is_missing_in_the_database(world: ClickhouseWorld, server: ClickhouseServer) -> None:
    world.reaches(5)
    world.archive.kill()
    world.verify()
    server.execute(world.database, 'alter table session delete where "offset" = 1')
    until(
        lambda: server.execute(world.database, 'select 1 from session where "offset" = 1') == [], "it is gone", LIMIT_S
    )
    with pytest.raises(AssertionError, match="missing"):
        world.verify()
