"""Real database servers for the archive's tests, each started and killed by them, on loopback.

ClickHouse of Debian is of 2018. The current engine comes with chdb, which is no server: `ChdbServer` puts its own HTTP
interface before it, so that the same tests run on both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import Any, ClassVar, TypeVar

import psutil
import psycopg
import pytest
from mt4pump_consumers.archive.clickhouse_http import ClickhouseConnection, ClickhouseError
from mt4pump_consumers.archive.clickhouse_store import PASSWORD_VARIABLE, ClickhouseStore
from mt4pump_consumers.archive.clickhouse_tables import COMMIT, LAST_STATE
from mt4pump_consumers.archive.postgresql_store import PostgresqlStore
from mt4pump_consumers.archive.settings import ArchiveSettings

from tests.bus import until
from tests.chaos.processes import free_ports

LIMIT_S = 90.0
ROOT = Path(__file__).parents[3]
USER, PASSWORD = "archive", "the archive's word"
FOLDERS = os.pathsep.join(str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
POSTGRES = shutil.which("postgres") or shutil.which("postgres", path=FOLDERS)
CLICKHOUSE = shutil.which("clickhouse-server") or shutil.which("clickhouse-server", path="/usr/sbin")
needs_postgresql = pytest.mark.skipif(
    POSTGRES is None, reason="PostgreSQL is not installed: apt-get install postgresql"
)
needs_clickhouse = pytest.mark.skipif(CLICKHOUSE is None, reason="apt-get install clickhouse-server")
needs_chdb = pytest.mark.skipif(find_spec("chdb") is None, reason="chdb is not installed: pip install chdb")
OPTIONS = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "max_connections=30")
"""Without fsync a killed server still has what it wrote: only the machine's end would lose it."""
CONFIG = """<yandex><logger><level>warning</level><console>1</console></logger><listen_host>127.0.0.1</listen_host>
<http_port>{http}</http_port><tcp_port>{native}</tcp_port><path>{folder}/data/</path><tmp_path>{folder}/tmp/</tmp_path>
<users_config>users.xml</users_config><default_profile>default</default_profile><timezone>UTC</timezone>
<default_database>default</default_database><mark_cache_size>100000000</mark_cache_size></yandex>"""
USERS = """<yandex><profiles><default/></profiles><quotas><default/></quotas><users><archive>
<password>{password}</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></archive></users></yandex>"""
AnyStore = PostgresqlStore | ClickhouseStore


class DatabaseServer(ABC):
    """A server with one user; `database` makes a database for one test.

    ``first_database`` is there from the start, ``last_state`` ends a query of the last state, ``password_variable``
    holds the password for ``verify``, and ``failures`` are raised while it is down or has no tables yet. ``owner`` is
    the user that it runs as, if not ours, ``own_columns`` are those that its store adds to each table.
    """

    first_database: ClassVar[str]
    last_state: ClassVar[str]
    password_variable: ClassVar[str]
    failures: ClassVar[tuple[type[Exception], ...]]
    own_columns: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mt4pump-database-"))
        self._log, self._count = self.folder / "log", 0
        self.port, self._second_port, self._third_port = free_ports(3)
        self._running: subprocess.Popen[bytes] | None = None
        self.owner: dict[str, Any] = {}
        self.prepare()

    @abstractmethod
    def prepare(self) -> None:
        """Write what it needs before its first start."""

    @property
    @abstractmethod
    def words(self) -> list[str]:
        """Return the command that runs it."""

    @property
    def working_folder(self) -> Path:
        """Return where it runs."""
        return self.folder

    @abstractmethod
    def url(self, database: str) -> str:
        """Return the address of a database."""

    @abstractmethod
    def execute(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement; return the rows of a query."""

    @abstractmethod
    def columns(self, database: str, table: str) -> set[str]:
        """Return the names of a table's columns."""

    @abstractmethod
    def store(self, database: str, *, waits: bool = True, **more: Any) -> AnyStore:
        """Open a database as the archive does; without ``waits`` the first error is raised."""

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self._running = subprocess.Popen(self.words, cwd=self.working_folder, stdout=log, stderr=log, **self.owner)
        until(self._answers, f"the server answers: {self._log.read_text(errors='replace')[-2000:]}", LIMIT_S)

    def _answers(self) -> bool:
        with suppress(*self.failures):
            return self.execute(self.first_database, "select 1") == [(1,)]
        return False

    def kill(self) -> None:
        """Kill the server and each of its processes at once."""
        if self._running is not None:
            main = psutil.Process(self._running.pid)
            main.suspend()  # so that it starts no other process meanwhile
            children = main.children(recursive=True)
            for process in (main, *children):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._running.wait(LIMIT_S)
            until(lambda: not any(map(is_running, children)), "its processes end", LIMIT_S)
            self._running = None

    @property
    def processes(self) -> list[psutil.Process]:
        """Return its processes, the main one first."""
        assert self._running is not None
        main = psutil.Process(self._running.pid)
        return [main, *main.children(recursive=True)]

    def remove(self) -> None:
        """Kill it and delete its files."""
        self.kill()
        shutil.rmtree(self.folder)

    def database(self) -> str:
        """Make an empty database; return its name."""
        self._count += 1
        name = f"test{self._count}"
        self.execute(self.first_database, f"create database {name}")
        return name

    def offsets(self, database: str) -> list[int]:
        """Return the offsets of the stored trades, in order."""
        return [row[0] for row in self.execute(database, 'select "offset" from trade order by "offset"')]

    def settings(self, database: str, **more: Any) -> ArchiveSettings:
        """Return the archive's settings for a database."""
        return ArchiveSettings(**{"store": self.url(database), "store_password": PASSWORD, **more})


class PostgresqlServer(DatabaseServer):
    """PostgreSQL, never as root."""

    first_database, last_state, password_variable = "postgres", "from archive_state", "PGPASSWORD"
    failures = (psycopg.OperationalError, psycopg.errors.UndefinedTable)

    def prepare(self) -> None:
        if os.geteuid() == 0:
            self.owner = {"user": "postgres", "group": "postgres"}
        password = self.folder / "password"
        password.write_text(PASSWORD)
        if self.owner:
            for path in (self.folder, password):
                shutil.chown(path, **self.owner)
        login = ["-U", USER, "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--locale=C"]
        data = str(self.folder / "data")
        initdb = [str(Path(str(POSTGRES)).with_name("initdb")), "-D", data, "--no-sync", *login]
        subprocess.run(initdb, check=True, capture_output=True, cwd=self.folder, timeout=LIMIT_S, **self.owner)

    @property
    def words(self) -> list[str]:
        options = [word for option in OPTIONS for word in ("-c", option)]
        return [str(POSTGRES), "-D", str(self.folder / "data"), "-p", str(self.port), *options]

    def url(self, database: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a connection that sees the archive's tables by their names alone."""
        options = "-c search_path=mt4pump,public -c timezone=UTC"
        return psycopg.connect(
            self.url(database), password=PASSWORD, autocommit=True, connect_timeout=10, options=options
        )

    def execute(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        with self.connect(database) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def columns(self, database: str, table: str) -> set[str]:
        where = f"table_name = '{table}' and table_schema = 'mt4pump'"
        found = self.execute(database, f"select column_name from information_schema.columns where {where}")  # noqa: S608
        return {row[0] for row in found}

    def store(self, database: str, *, waits: bool = True, **more: Any) -> PostgresqlStore:
        """Open a database; the server releases the lock of a store a moment after it was closed."""
        return PostgresqlStore(self.settings(database, **more), lambda wait_s: not waits or Event().wait(wait_s))


class ClickhouseServer(DatabaseServer):
    """ClickHouse of Debian."""

    first_database, last_state, password_variable = "default", LAST_STATE, PASSWORD_VARIABLE
    failures = (ClickhouseError,)
    own_columns = (COMMIT,)

    def prepare(self) -> None:
        config = CONFIG.format(http=self.port, native=self._second_port, folder=self.folder)
        (self.folder / "config.xml").write_text(config)
        (self.folder / "users.xml").write_text(USERS.format(password=PASSWORD))

    @property
    def words(self) -> list[str]:
        return [str(CLICKHOUSE), f"--config-file={self.folder / 'config.xml'}"]

    def url(self, database: str) -> str:
        return f"clickhouse://{USER}@127.0.0.1:{self.port}/{database}"

    def execute(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        connection = ClickhouseConnection(self.url(database), PASSWORD)
        try:
            if statement.lstrip().startswith(("select", "with")):
                return [tuple(row) for row in connection.rows(statement)]
            connection.execute(statement)
        finally:
            connection.close()
        return []

    def columns(self, database: str, table: str) -> set[str]:
        where = f"database = '{database}' and table = '{table}'"
        return {row[0] for row in self.execute(database, f"select name from system.columns where {where}")}  # noqa: S608

    def store(self, database: str, *, waits: bool = True, **more: Any) -> ClickhouseStore:
        return ClickhouseStore(self.settings(database, **more), lambda wait_s: not waits or Event().wait(wait_s))


class ChdbServer(ClickhouseServer):
    """The current engine of ClickHouse behind an HTTP interface of the tests."""

    @property
    def words(self) -> list[str]:
        data = str(self.folder / "data")
        return [sys.executable, "-m", "tests.consumers.archive.chdb_server", str(self.port), data]

    @property
    def working_folder(self) -> Path:
        return ROOT


AnyServer = TypeVar("AnyServer", bound=DatabaseServer)
POSTGRESQL = pytest.param(PostgresqlServer, marks=needs_postgresql, id="postgresql")
CLICKHOUSES = (
    pytest.param(ClickhouseServer, marks=needs_clickhouse, id="clickhouse-18.16"),
    pytest.param(ChdbServer, marks=needs_chdb, id="clickhouse-current"),
)


def is_running(process: psutil.Process) -> bool:
    """Return whether it has not ended: a zombie that nobody waits for has."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


@contextmanager
def running(server: AnyServer) -> Iterator[AnyServer]:
    """Start a server; remove it at the end."""
    try:
        server.start()
        yield server
    finally:
        server.remove()
