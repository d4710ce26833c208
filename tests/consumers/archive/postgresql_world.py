"""A daemon, and an archive that stores in PostgreSQL, each a process."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import psycopg
from mt4pump_consumers.archive.database import KINDS

from tests.consumers.archive.postgresql_run import PASSWORD, Server
from tests.consumers.archive.test_archive_program import World


class PostgresqlWorld(World):
    """`World` with a database of ``server``; what is asked while the server is down is as if nothing was stored."""

    verify_environment: ClassVar[dict[str, str]] = {"PGPASSWORD": PASSWORD}

    def __init__(self, folder: Path, server: Server, rate: int = 500) -> None:
        self.server, self.database = server, server.database()
        (folder / ".env").write_text(f'MT4PUMP_ARCHIVE_STORE_PASSWORD="{PASSWORD}"\n')
        (folder / ".env").chmod(0o600)
        super().__init__(folder, rate)

    @property
    def store(self) -> list[str]:
        return ["--store", self.server.url(self.database)]

    def _value(self, statement: str) -> Any:
        try:
            return self.server.execute(self.database, statement)[0][0]
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
            return None

    @property
    def confirmed(self) -> int:
        return int(self._value("select (position::json ->> 'confirmed')::bigint from archive_state") or 0)

    @property
    def last_commit(self) -> object:
        return self._value("select last_commit from archive_state") or ""

    @property
    def events(self) -> int:
        counts = " + ".join(f'(select count(*) from "{kind}")' for kind in KINDS if kind != "gaps")  # noqa: S608
        return int(self._value(f"select {counts}") or 0)

    def rows(self, kind: str, columns: str) -> list[tuple[Any, ...]]:
        return self.server.execute(self.database, f'select {columns} from "{kind}"')  # noqa: S608 - a test's own words
