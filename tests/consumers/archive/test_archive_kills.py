"""Archive, daemon and store under kills and faults at random moments: nothing is missing, nothing is there twice."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")
pytest.importorskip("psycopg")

from tests.consumers.archive.archive_kills import kill_run
from tests.consumers.archive.database_servers import needs_clickhouse, needs_postgresql


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "store",
    [
        "parquet",
        pytest.param("postgresql", marks=needs_postgresql),
        pytest.param("clickhouse", marks=needs_clickhouse),
    ],
)
def test_kills_and_faults_lose_and_double_nothing(store: str, tmp_path: Path) -> None:
    """`python -m tests.consumers.archive.archive_kills` does the same with 104 kills and a million events."""
    line = kill_run(tmp_path, store, kills=8, events=4_000, rate=500)
    assert "missing 0; twice 0" in line
    assert "kill of the daemon 1" in line
    assert ("kill of the database" in line) is (store != "parquet")
