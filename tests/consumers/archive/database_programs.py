"""A daemon, and an archive that stores in a database, each a process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mt4pump_consumers.archive.database import KINDS

from tests.consumers.archive.database_servers import PASSWORD, DatabaseServer
from tests.consumers.archive.test_archive_program import ArchivePrograms


class DatabasePrograms(ArchivePrograms):
    """`ArchivePrograms` with a database of ``server``; while the server is down, nothing counts as stored."""

    def __init__(self, folder: Path, server: DatabaseServer, rate: int = 500) -> None:
        self.server, self.database = server, server.database()
        (folder / ".env").write_text(f'MT4PUMP_ARCHIVE_STORE_PASSWORD="{PASSWORD}"\n')
        (folder / ".env").chmod(0o600)
        super().__init__(folder, rate)
        self.verify_environment = {server.password_variable: PASSWORD}

    @property
    def store(self) -> list[str]:
        return ["--store", self.server.url(self.database)]

    def _value(self, statement: str) -> Any:
        try:
            rows = self.server.execute(self.database, statement)
        except self.server.failures:  # it is down, or the tables are not made yet
            return None
        return rows[0][0] if rows else None

    @property
    def confirmed(self) -> int:
        position = json.loads(self._value(f"select position {self.server.last_state}") or "{}")
        return int(position.get("confirmed", 0))

    @property
    def last_commit(self) -> object:
        return self._value(f"select last_commit {self.server.last_state}") or ""

    @property
    def events(self) -> int:
        return sum(int(self._value(f'select count(*) from "{kind}"') or 0) for kind in KINDS if kind != "gaps")  # noqa: S608

    def rows(self, kind: str, columns: str) -> list[tuple[Any, ...]]:
        return self.server.execute(self.database, f'select {columns} from "{kind}"')  # noqa: S608 - a test's own words
