"""A real PostgreSQL server for the archive's tests: started and killed by them, on loopback, never as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import psycopg
import pytest
from mt4pump_consumers.archive.postgresql_store import PostgresqlStore
from mt4pump_consumers.archive.settings import ArchiveSettings

from tests.bus import until
from tests.chaos.processes import free_ports

LIMIT_S = 90.0
USER, PASSWORD = "archive", "the archive's word"
FOLDERS = os.pathsep.join(str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
POSTGRES = shutil.which("postgres") or shutil.which("postgres", path=FOLDERS)
needs_server = pytest.mark.skipif(POSTGRES is None, reason="PostgreSQL is not installed: apt-get install postgresql")
OPTIONS = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "max_connections=30")
"""Without fsync a killed server still has what it wrote: only the machine's end would lose it."""


class Server:
    """A server with one user; `database` makes a database for one test."""

    def __init__(self) -> None:
        self._owner: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        self.folder = Path(tempfile.mkdtemp(prefix="mt4pump-postgresql-"))
        (self.port,) = free_ports(1)
        self._data, self._log = self.folder / "data", self.folder / "log"
        self._count = 0
        self._running: subprocess.Popen[bytes] | None = None
        password = self.folder / "password"
        password.write_text(PASSWORD)
        if self._owner:
            for path in (self.folder, password):
                shutil.chown(path, **self._owner)
        login = ["-U", USER, "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--locale=C"]
        initdb = [str(Path(str(POSTGRES)).with_name("initdb")), "-D", str(self._data), "--no-sync", *login]
        subprocess.run(initdb, check=True, capture_output=True, cwd=self.folder, timeout=LIMIT_S, **self._owner)

    def start(self) -> None:
        """Start it and wait until it answers."""
        words = [str(POSTGRES), "-D", str(self._data), "-p", str(self.port)]
        words += [word for option in OPTIONS for word in ("-c", option)]
        with self._log.open("ab") as log:
            self._running = subprocess.Popen(words, cwd=self.folder, stdout=log, stderr=log, **self._owner)
        until(self._answers, f"the server answers: {self._log.read_text()[-2000:]}", LIMIT_S)

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError):
            self.execute("postgres", "select 1")
            return True
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

    def remove(self) -> None:
        """Kill it and delete its files."""
        self.kill()
        shutil.rmtree(self.folder)

    def database(self) -> str:
        """Make an empty database; return its name."""
        self._count += 1
        name = f"test{self._count}"
        self.execute("postgres", f"create database {name}")
        return name

    def url(self, database: str) -> str:
        """Return the address of a database."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a connection that sees the archive's tables by their names alone."""
        options = "-c search_path=mt4pump,public -c timezone=UTC"
        return psycopg.connect(
            self.url(database), password=PASSWORD, autocommit=True, connect_timeout=10, options=options
        )

    def execute(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement; return its rows."""
        with self.connect(database) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def settings(self, database: str, **more: Any) -> ArchiveSettings:
        """Return the archive's settings for a database."""
        return ArchiveSettings(**{"store": self.url(database), "store_password": PASSWORD, **more})

    def store(self, database: str, *, waits: bool = True, **more: Any) -> PostgresqlStore:
        """Open a database as the archive does; without ``waits`` the first error is raised.

        The server releases the lock of a store a moment after it was closed.
        """
        return PostgresqlStore(self.settings(database, **more), lambda wait_s: not waits or Event().wait(wait_s))


def is_running(process: psutil.Process) -> bool:
    """Return whether it has not ended: a zombie that nobody waits for has."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


@contextmanager
def running_server() -> Iterator[Server]:
    """Give a server that is started; remove it at the end."""
    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.remove()
