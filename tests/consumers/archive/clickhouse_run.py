"""Real ClickHouse servers for the archive's tests, each a process of its own on loopback.

Debian's server is of 2018. The current engine comes with chdb, which is no server: `ChdbServer` puts its own HTTP
interface before it, so that the same tests run on both.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from mt4pump_consumers.archive.clickhouse_http import ClickhouseConnection, ClickhouseError
from mt4pump_consumers.archive.clickhouse_store import ClickhouseStore
from mt4pump_consumers.archive.settings import ArchiveSettings

from tests.bus import until
from tests.chaos.processes import free_ports

LIMIT_S = 90.0
ROOT = Path(__file__).parents[3]
PASSWORD = "the archive's word"  # noqa: S105 - of a server that lives as long as a test
CLICKHOUSE = shutil.which("clickhouse-server") or shutil.which("clickhouse-server", path="/usr/sbin")
needs_server = pytest.mark.skipif(CLICKHOUSE is None, reason="apt-get install clickhouse-server")
needs_chdb = pytest.mark.skipif(find_spec("chdb") is None, reason="chdb is not installed: pip install chdb")
CONFIG = """<yandex><logger><level>warning</level><console>1</console></logger><listen_host>127.0.0.1</listen_host>
<http_port>{http}</http_port><tcp_port>{native}</tcp_port><path>{folder}/data/</path><tmp_path>{folder}/tmp/</tmp_path>
<users_config>users.xml</users_config><default_profile>default</default_profile><timezone>UTC</timezone>
<default_database>default</default_database><mark_cache_size>100000000</mark_cache_size></yandex>"""
USERS = """<yandex><profiles><default/></profiles><quotas><default/></quotas><users><archive>
<password>{password}</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></archive></users></yandex>"""


class ClickhouseServer:
    """Debian's server with one user; `database` makes a database for one test."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mt4pump-clickhouse-"))
        self.port, native = free_ports(2)
        self._log, self._count = self.folder / "log", 0
        self._running: subprocess.Popen[bytes] | None = None
        (self.folder / "config.xml").write_text(CONFIG.format(http=self.port, native=native, folder=self.folder))
        (self.folder / "users.xml").write_text(USERS.format(password=PASSWORD))

    @property
    def words(self) -> list[str]:
        """Return the command that runs it."""
        return [str(CLICKHOUSE), f"--config-file={self.folder / 'config.xml'}"]

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self._running = subprocess.Popen(self.words, cwd=ROOT, stdout=log, stderr=log)
        until(self._answers, f"the server answers: {self._log.read_text(errors='replace')[-2000:]}", LIMIT_S)

    def _answers(self) -> bool:
        with suppress(ClickhouseError):
            return self.execute("default", "select 1") == [[1]]
        return False

    def kill(self) -> None:
        """Kill it at once."""
        if self._running is not None:
            self._running.kill()
            self._running.wait(LIMIT_S)
            self._running = None

    def remove(self) -> None:
        """Kill it and delete its files."""
        self.kill()
        shutil.rmtree(self.folder)

    def database(self) -> str:
        """Make an empty database; return its name."""
        self._count += 1
        name = f"test{self._count}"
        self.execute("default", f"create database {name}")
        return name

    def url(self, database: str) -> str:
        """Return the address of a database."""
        return f"clickhouse://archive@127.0.0.1:{self.port}/{database}"

    def execute(self, database: str, statement: str) -> list[list[Any]]:
        """Run a statement; return the rows of a query."""
        connection = ClickhouseConnection(self.url(database), PASSWORD)
        try:
            if statement.lstrip().startswith(("select", "with")):
                return connection.rows(statement)
            connection.execute(statement)
        finally:
            connection.close()
        return []

    def settings(self, database: str, **more: Any) -> ArchiveSettings:
        """Return the archive's settings for a database."""
        return ArchiveSettings(**{"store": self.url(database), "store_password": PASSWORD, **more})

    def store(self, database: str, *, waits: bool = True, **more: Any) -> ClickhouseStore:
        """Open a database as the archive does; without ``waits`` the first error is raised."""
        return ClickhouseStore(self.settings(database, **more), lambda wait_s: not waits or Event().wait(wait_s))


class ChdbServer(ClickhouseServer):
    """The current engine behind an HTTP interface of the tests."""

    @property
    def words(self) -> list[str]:
        data = str(self.folder / "data")
        return [sys.executable, "-m", "tests.consumers.archive.chdb_server", str(self.port), data]


@contextmanager
def running(server: ClickhouseServer) -> Iterator[ClickhouseServer]:
    """Start a server; remove it at the end."""
    try:
        server.start()
        yield server
    finally:
        server.remove()
