"""The archive against hostile texts, folders and addresses: tables, CSV, rights, and what a message may not have."""

from __future__ import annotations

import base64
import csv
import io
import json
import logging
import re
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

from mt4pump_consumers.archive.clickhouse_http import ClickhouseConnection, ClickhouseError
from mt4pump_consumers.archive.clickhouse_store import ClickhouseStore
from mt4pump_consumers.archive.folder import ArchiveFolder, FolderError
from mt4pump_consumers.archive.parquet_store import ParquetStore
from mt4pump_consumers.archive.settings import ArchiveSettings
from mt4pump_consumers.archive.store import StoreError
from mt4pump_consumers.archive.writer import BatchBuilder

from mt4pump.errors import EXIT_SETTINGS, SettingsError
from mt4pump.process.program import settings_of
from tests.consumers.archive.archive_run import trade
from tests.consumers.archive.conftest import Command
from tests.consumers.monitor.test_monitor_csv import BEFORE, FORMULAS, STARTS, cells_of
from tests.hostile import HOSTILE, is_harmless

SECRET = "a-secret-word"  # noqa: S105 - of no database
MARKUP = ("[/x]", "[red]not red[/red]", "[link=http://evil.example]good[/link]", ":smile:", "a[b")
NUMBER = re.compile(r'-[0-9.]+(?:["}\]].*)?')
"""A negative number; one of JSON has more behind it, and so is no formula."""
ODD_PASSWORDS = ("two\nlines", "\r\nX-Evil: 1", "é€", "a:b", " blank ", "nul\0byte", "\x1b[7m")


def comments(folder: Path, *texts: str) -> None:
    """Commit a trade with each of ``texts`` as its comment."""
    archive = ArchiveFolder(folder)
    builder = BatchBuilder(archive.state, Counter())
    for number, text in enumerate(texts, 1):
        builder.add(trade(number, comment=text, before={"comment": text, "sl": -1.5}))
    ParquetStore(archive).commit(builder.take_batch({"log": "L", "confirmed": len(texts), "ahead": {}}))
    archive.close()


def test_foreign_text_in_a_table_is_neither_markup_nor_control_characters(
    tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [*MARKUP, *(text for text in HOSTILE.values() if "\x00" not in text)]
    comments(tmp_path / "archive", *texts)
    assert command("query", 'select comment as "[/y]" from trade order by "offset"') == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(map(is_harmless, lines))
    assert [line.strip() for line in lines[: 1 + len(MARKUP)]] == ["[/y]", *MARKUP]


def test_no_cell_of_a_csv_is_a_formula_whatever_parts_its_cells(
    tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [before + formula for before in BEFORE for formula in FORMULAS]
    comments(tmp_path / "archive", *texts)
    sql = """select comment, before, -1.5 as number, -2::decimal(9, 1) as exact, [comment] as list, 1 as "=1+1"
    from trade order by trade."offset" """
    assert command("query", sql, "--format", "csv") == 0
    out = capsys.readouterr().out
    for line in out.splitlines():
        for separator in ",;|\t":
            for cell in cells_of(line, separator):
                assert not cell.startswith(STARTS) or NUMBER.fullmatch(cell), (separator, line)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [json.loads(row["before"]) for row in rows] == [{"comment": text, "sl": -1.5} for text in texts]
    assert [json.loads(row["list"]) for row in rows] == [[text] for text in texts]
    assert {(row["number"], row["exact"]) for row in rows} == {("-1.5", "-2.0")}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has ACLs instead of modes")
def test_what_the_archive_makes_is_for_its_user_alone(tmp_path: Path, command: Command) -> None:
    comments(tmp_path / "archive", "a")
    assert stat.S_IMODE((tmp_path / "archive").stat().st_mode) == 0o700
    for style in ("csv", "json", "table", "parquet"):
        output = tmp_path / style
        assert command("query", "from trade", "--format", style, "--output", str(output)) == 0
        assert stat.S_IMODE(output.stat().st_mode) == 0o600


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has ACLs instead of modes")
@pytest.mark.parametrize("bits", [0o777, 0o1777, 0o702])
def test_a_folder_that_everybody_may_write_to_is_refused(tmp_path: Path, bits: int) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive").chmod(bits)
    with pytest.raises(FolderError, match="may be written to by every user of this machine: chmod o-w"):
        ArchiveFolder(tmp_path / "archive")
    assert list((tmp_path / "archive").iterdir()) == []


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://me:{SECRET}@127.0.0.1/x",
        f"postgresql://127.0.0.1/x?user=me&password={SECRET}",
        f"postgresql://127.0.0.1/x?user=me&p%61ssword={SECRET}",
        f"postgresql://127.0.0.1/x?sslpassword={SECRET}",
        f"postgresql://127.0.0.1/x#?password={SECRET}",
        f"host=127.0.0.1 user=me password={SECRET}",
        f"clickhouse://me:{SECRET}@127.0.0.1/x",
        f"clickhouse://127.0.0.1/x?PASSWORD={SECRET}",
    ],
)
def test_an_address_with_a_password_is_refused_and_not_repeated(
    command: Command, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        command("verify", "--store", address)
    assert ended.value.code == EXIT_SETTINGS
    with pytest.raises(SettingsError, match=r"write the store as|a password does not belong") as raised:
        settings_of(ArchiveSettings, ["--store", address])
    assert SECRET not in capsys.readouterr().err + str(raised.value)


@pytest.fixture(name="asked", scope="module")
def _asked() -> Iterator[tuple[int, list[str]]]:
    """A server that refuses everything: its port, and the logins that came."""
    logins: list[str] = []

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            logins.append(self.headers["Authorization"])
            text = b"Code: 516, \x1b[2J Authentication failed\nforged line"
            self.send_response(403)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1], logins
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("password", ODD_PASSWORDS, ids=repr)
def test_no_password_of_clickhouse_is_in_an_error_or_the_log(
    asked: tuple[int, list[str]], caplog: pytest.LogCaptureFixture, password: str
) -> None:
    port, logins = asked
    with (
        caplog.at_level(logging.DEBUG),
        closing(ClickhouseConnection(f"clickhouse://me@127.0.0.1:{port}/x", password)) as connection,
        pytest.raises(ClickhouseError, match="Authentication failed") as raised,
    ):
        connection.execute("select 1")
    assert base64.b64decode(logins[-1].removeprefix("Basic ")).decode() == f"me:{password}"
    assert password not in caplog.text + str(raised.value)
    assert "HTTP Request" not in caplog.text  # a line for each statement


def test_foreign_text_of_a_database_is_one_harmless_line(asked: tuple[int, list[str]]) -> None:
    settings = ArchiveSettings(store=f"clickhouse://127.0.0.1:{asked[0]}/x")
    with pytest.raises(StoreError, match="Authentication failed") as raised:
        ClickhouseStore(settings, lambda _: True)
    assert is_harmless(str(raised.value))


@pytest.mark.parametrize("host", ["ü..x", "é" * 70])
def test_a_host_that_is_none_is_an_error_of_the_store(host: str) -> None:
    settings = ArchiveSettings(store=f"clickhouse://{host}/x")
    with pytest.raises(StoreError):
        ClickhouseStore(settings, lambda _: True)
