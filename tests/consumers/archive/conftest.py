"""Fixtures of the archive's tests. They import when they run: the files skip themselves where a package is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.consumers.archive.database_servers import DatabaseServer

Command = Callable[..., int]


@pytest.fixture(name="command")
def _command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run mt4pump-archive with the folder ``archive`` in this process; return the exit code."""
    from mt4pump_consumers.archive.__main__ import run  # noqa: PLC0415

    def command(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["mt4pump-archive", *words, "--path", str(tmp_path / "archive")])
        return run()

    return command


@pytest.fixture(name="both", scope="module")
def _both(server: DatabaseServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The same events, committed to a folder and to a database of ``server``, which the file gives."""
    from mt4pump_consumers.archive.folder import ArchiveFolder  # noqa: PLC0415
    from mt4pump_consumers.archive.parquet_store import ParquetStore  # noqa: PLC0415

    from tests.consumers.archive.archive_run import commit_example  # noqa: PLC0415

    path, database = tmp_path_factory.mktemp("both"), server.database()
    commit_example([ParquetStore(ArchiveFolder(path)), server.store(database)])
    return path, database


@pytest.fixture(name="database")
def _database(server: DatabaseServer) -> str:
    """Return an empty database of ``server``, which the file gives."""
    return server.database()
