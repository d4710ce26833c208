"""The archive as a process beside a real daemon and a real database server, all of which are killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")
pytest.importorskip("psycopg")

from mt4pump.errors import CONSTRAINTS_PLACE
from tests.bus import until
from tests.consumers.archive.archive_run import answer
from tests.consumers.archive.database_programs import DatabasePrograms
from tests.consumers.archive.database_servers import CLICKHOUSES, LIMIT_S, POSTGRESQL, DatabaseServer, running
from tests.consumers.nats_bridge.nats_run import environment

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(name="server", scope="module", params=[POSTGRESQL, CLICKHOUSES[0]])
def _server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    server = request.param()
    with running(server):
        yield server


@pytest.fixture(name="programs")
def _programs(tmp_path: Path, server: DatabaseServer) -> Iterator[DatabasePrograms]:
    with DatabasePrograms(tmp_path, server).running() as programs:
        yield programs


def test_while_the_database_is_away_reading_stops_and_all_is_read_again_later(
    tmp_path: Path, server: DatabaseServer
) -> None:
    programs = DatabasePrograms(tmp_path, server, rate=3_000)
    flags = ("--metrics-port", str(programs.metrics_port), "--buffer-events", "1000")
    programs.archive = programs.new_archive(*flags)
    with programs.running():
        programs.reaches(5)
        server.kill()
        until(lambda: "reading stops until it can be written" in programs.archive.text, "the buffer is full", LIMIT_S)
        health = f"http://127.0.0.1:{programs.metrics_port}/healthz"
        until(lambda: "cannot be written" in answer(health), "the program says so", LIMIT_S)
        server.start()
        until(lambda: "can be written again" in programs.archive.text, "the archive reconnects", LIMIT_S)
        until(lambda: answer(health) == "ok\n", "the program is healthy again", LIMIT_S)
        metrics = answer(f"http://127.0.0.1:{programs.metrics_port}/metrics")
        assert "mt4pump_archive_reconnects_total 1.0" in metrics
        assert "mt4pump_archive_failures_total 0.0" not in metrics
        programs.check(least=5)


def test_verify_counts_what_is_missing_in_the_database(programs: DatabasePrograms, server: DatabaseServer) -> None:
    programs.reaches(5)
    programs.archive.kill()
    programs.verify()
    delete = "alter table session delete" if server.own_columns else "delete from session"
    server.execute(programs.database, f'{delete} where "offset" = 1')
    first = 'select 1 from session where "offset" = 1'
    until(lambda: server.execute(programs.database, first) == [], "it is gone", LIMIT_S)
    with pytest.raises(AssertionError, match="missing"):
        programs.verify()


def test_an_archive_that_finds_another_ones_commit_ends_and_goes_on_after_a_restart(
    programs: DatabasePrograms, server: DatabaseServer
) -> None:
    programs.reaches(5)
    if server.own_columns:
        server.store(programs.database).close()  # the archive that began last may write
    else:
        server.execute(programs.database, "update archive_state set last_commit = 'of somebody else'")
    assert programs.archive.running is not None
    assert programs.archive.running.wait(LIMIT_S) == 1
    assert "is not as this archive left it: another one wrote to it" in programs.archive.text
    programs.archive.start()
    programs.check(least=5)


def test_without_psycopg_the_program_names_the_extra(tmp_path: Path) -> None:
    flags = "'--store', 'postgresql://127.0.0.1:1/x', '--metrics-port', '0'"
    start = "from mt4pump_consumers.archive.__main__ import run; sys.exit(run())"
    hidden = f"import sys; sys.modules['psycopg'] = None; sys.argv[1:] = [{flags}]; {start}"
    done = subprocess.run(
        [sys.executable, "-c", hidden],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert done.returncode == 3
    assert "the library psycopg is not installed" in done.stderr
    assert f"pip install -c deploy/constraints.txt 'mt4pump[postgresql]' ({CONSTRAINTS_PLACE})" in done.stderr
