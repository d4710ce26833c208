"""``python -m tests.consumers.archive.chdb_server PORT FOLDER``: chdb's engine behind an HTTP interface.

It has as much of ClickHouse's as the archive uses: statements, settings, data of an INSERT. It checks no password.
"""

from __future__ import annotations

import re
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb.session

NO_SETTINGS = frozenset({"database", "query", "query_id", "wait_end_of_query"})


class EngineHandler(BaseHTTPRequestHandler):
    """Answers one request."""

    session: Any  # of chdb, which has no types here

    def do_POST(self) -> None:
        """Run the statement."""
        values = dict(parse_qsl(urlsplit(self.path).query))
        content = self.rfile.read(int(self.headers["Content-Length"]))
        settings = ", ".join(f"{name} = '{value}'" for name, value in values.items() if name not in NO_SETTINGS)
        try:
            self.session.query(f"use {values['database']}")
            status, answer = 200, self._run(values.get("query"), content, settings)
        except Exception as error:  # noqa: BLE001 - the engine's own, which the answer has
            status, answer = 500, str(error).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _run(self, query: str | None, content: bytes, settings: str) -> bytes:
        if query is not None:
            with tempfile.NamedTemporaryFile(suffix=".native") as file:
                file.write(content)
                file.flush()
                into = query.removesuffix(" format Native")
                self.session.query(f"{into} from infile '{file.name}' settings {settings} format Native")
            return b""
        statement = content.decode()
        style = "TabSeparated"
        if found := re.search(r" format (\w+)$", statement):
            statement, style = statement[: found.start()], found[1]
        if statement.lstrip().startswith(("select", "with")) and settings:
            statement += f" settings {settings}"
        result = self.session.query(statement, style)
        return bytes(result.bytes()) if result else b""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Log nothing."""


def main() -> None:
    """Answer until killed."""
    Path(sys.argv[2]).mkdir(exist_ok=True)
    engine: Any = chdb.session
    EngineHandler.session = engine.Session(sys.argv[2])
    HTTPServer(("127.0.0.1", int(sys.argv[1])), EngineHandler).serve_forever()


if __name__ == "__main__":
    main()
