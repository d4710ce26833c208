"""The commands that read an archive: query, bars, gaps, verify.

Private access: the journal's id, which the builder takes from a heartbeat: these tests have events alone.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from unittest.mock import MagicMock

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

import pyarrow.parquet as pq
import zmq
from mt4pump_consumers.archive import reading
from mt4pump_consumers.archive.__main__ import run
from mt4pump_consumers.archive.folder import ArchiveFolder, State
from mt4pump_consumers.archive.parquet_store import ParquetStore
from mt4pump_consumers.archive.writer import BatchBuilder

from mt4pump.client import connection_fault
from mt4pump.client.connection_fault import CLOSED, NEEDS_KEYS, OTHER_SOCKET, TEXTS
from mt4pump.errors import EXIT_FAILED, EXIT_SETTINGS, EXIT_START, ClientError
from tests.bus import context, until
from tests.client.fake_daemon import FakeDaemon
from tests.consumers.archive.archive_run import TS, quote, trade
from tests.consumers.archive.conftest import Command

pytestmark = pytest.mark.usefixtures("path")


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    """Six quotes in three minutes, number 4 missing, and two trades."""
    folder = ArchiveFolder(tmp_path / "archive")
    builder = BatchBuilder(folder.state, Counter())
    builder._log = "L"  # as a heartbeat would set it  # noqa: SLF001
    for number, (seq, second) in enumerate([(1, 0), (2, 30), (3, 59), (5, 60), (6, 100), (7, 120)]):
        builder.add(quote(seq, ts=TS + second * 10**9 + number))
    builder.add(trade(1, ts=TS + 130 * 10**9, profit=float("nan")))
    builder.add(trade(2, ts=TS + 130 * 10**9, comment="=cmd|\x1b[2J"))
    ParquetStore(folder).commit(builder.take_batch({"log": "L", "confirmed": 2, "ahead": {}}))
    folder.close()
    return tmp_path / "archive"


def test_query_writes_csv_json_and_parquet(command: Command, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("query", "select seq, bid, ts_utc from quote order by seq limit 1", "--format", "csv") == 0
    assert capsys.readouterr().out == "seq,bid,ts_utc\n1,1.00001,2024-10-04 00:00:00.000000000Z\n"
    assert (
        command("query", 'select "offset", profit, before, conv_rates from trade order by 1', "--format", "json") == 0
    )
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {"offset": 1, "profit": None, "before": '{"sl": 1.0}', "conv_rates": None}
    assert second["offset"] == 2
    output = path.parent / "out.parquet"
    assert command("query", "from quote", "--format", "parquet", "--output", str(output)) == 0
    assert pq.read_table(output).num_rows == 6
    assert command("query", "select comment from trade") == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("times", [1, reading.ATTEMPTS])
def test_a_file_that_is_joined_while_a_query_starts_does_not_fail_it(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], times: int
) -> None:
    real, states = reading.settled_state, list[State]()

    def settled_state(path: Path) -> State:
        state = real(path)
        states.append(state)
        if len(states) > times:
            return state
        gone = {name: dataclasses.replace(file, path=f"{file.path}.gone") for name, file in state.files.items()}
        return dataclasses.replace(state, files=gone)

    monkeypatch.setattr(reading, "settled_state", settled_state)
    code = command("query", "select count(*) as n from quote", "--format", "csv")
    answer = capsys.readouterr()
    if times == 1:
        assert (code, answer.out, len(states)) == (0, "n\n6\n", 2)
    else:
        assert (code, answer.out, len(states)) == (EXIT_FAILED, "", reading.ATTEMPTS)
        assert "No files found" in answer.err


def test_the_guides_queries_run(command: Command) -> None:
    guide = (Path(__file__).parents[3] / "consumers" / "README.md").read_text(encoding="utf-8")
    queries = re.findall(r'^mt4pump-archive query "(.+)"$', guide, re.MULTILINE)
    assert queries
    assert [command("query", sql) for sql in queries] == [0] * len(queries)


def test_a_kind_without_events_is_an_empty_table(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("query", "select count(*) as n from mail", "--format", "csv") == 0
    assert capsys.readouterr().out == "n\n0\n"


def test_a_folder_without_a_commit_is_an_empty_table_with_a_note(
    command: Command, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("query", "from quote") == 0
    assert capsys.readouterr().err == ""
    shutil.rmtree(path)
    ArchiveFolder(path).close()
    assert command("query", "select bid from quote", "--format", "csv") == 0
    answer = capsys.readouterr()
    assert answer.out == "bid\n"
    assert f"nothing is committed in {path} yet: mt4pump-archive does so every commit_interval_s" in answer.err


def test_a_bar_is_final_when_a_later_event_proves_it(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("bars", "EURUSD", "1m", "--format", "json") == 0
    bars = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(bar["time"][11:19], bar["count"], bar["final"]) for bar in bars] == [
        ("00:00:00", 3, True),
        ("00:01:00", 2, True),
        ("00:02:00", 1, False),
    ]
    assert [bars[0][name] for name in ("open", "high", "low", "close")] == [1.00001, 1.00003, 1.00001, 1.00003]
    assert bars[0]["spread"] == pytest.approx(2e-5)
    assert command("bars", "EURUSD", "10s", "--price", "mid", "--format", "json") == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["open"], last["final"]) == (pytest.approx(1.00008), True)


def test_gaps_are_listed(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("gaps", "--format", "json") == 0
    (gap,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (gap["event_topic"], gap["from_seq"], gap["to_seq"], gap["missing"]) == ("quote.EURUSD", 4, 4, 1)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["query", "select nothing from quote"], "nothing"),
        (["query", "from quote", "--format", "parquet"], "parquet needs a file: give --output"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    command: Command, words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*words) == EXIT_SETTINGS
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1


def test_a_folder_that_is_none_and_a_file_that_is_gone_are_named(
    path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reading, "SETTLE_S", 0.1)
    next(path.glob("quote/*/*/*.parquet")).unlink()
    assert command("query", "from trade") == EXIT_SETTINGS
    assert "is missing: start mt4pump-archive" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["mt4pump-archive", "gaps", "--path", str(path / "none")])
    assert run() == EXIT_SETTINGS
    assert "there is no archive at" in capsys.readouterr().err


def test_a_width_that_is_none_is_refused(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("bars", "EURUSD", "1x")
    assert "'1x' is no width of a bar; write 10s, 1m, 4h or 1d" in capsys.readouterr().err


def test_another_journal_cannot_be_verified(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeDaemon() as daemon:
        assert command("verify", "--query-endpoint", daemon.query_endpoint) == EXIT_SETTINGS
    assert "is not the archive's last one (L)" in capsys.readouterr().err


def test_a_daemon_or_a_database_that_is_away_is_not_a_wrong_setting(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connection_fault, "connection_fault", lambda *_: ("", ""))
    monkeypatch.setattr(reading, "Query", MagicMock(side_effect=ClientError("timeout", "no answer")))
    assert command("verify") == EXIT_START
    assert capsys.readouterr().err == "mt4pump-archive: no answer\n"
    pytest.importorskip("psycopg")
    assert command("verify", "--store", "postgresql://127.0.0.1:1/x") == EXIT_START
    assert "127.0.0.1" in capsys.readouterr().err


def test_verify_names_what_is_wrong_with_the_connection(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can listen there
        port = nobody.getsockname()[1]
        assert command("verify", "--endpoint", f"tcp://127.0.0.1:{port}") == EXIT_START
    assert capsys.readouterr().err == f"mt4pump-archive: tcp://127.0.0.1:{port}: {TEXTS[CLOSED]}\n"
    with context() as own, own.socket(zmq.ROUTER) as needing_keys:
        needing_keys.curve_server, needing_keys.curve_secretkey = True, zmq.curve_keypair()[1]
        address = f"tcp://127.0.0.1:{needing_keys.bind_to_random_port('tcp://127.0.0.1')}"

        def is_named() -> bool:  # on a busy machine a trial may end before its reason is known
            assert command("verify", "--query-endpoint", address) == EXIT_START
            return f"{address}: {TEXTS[NEEDS_KEYS]}" in capsys.readouterr().err

        until(is_named, "the reason")


PUBLISHES, ANSWERS = "tcp://127.0.0.1:7000", "tcp://127.0.0.1:7001"


@pytest.mark.parametrize(
    ("flags", "asked"),
    [
        ((), "tcp://127.0.0.1:5557"),
        (("--endpoint", PUBLISHES), ANSWERS),
        (("--endpoint", ANSWERS), ANSWERS),
        (("--query-endpoint", ANSWERS), ANSWERS),
        (("--query-endpoint", PUBLISHES), PUBLISHES),
    ],
)
def test_verify_asks_where_the_daemon_answers_as_the_daemons_commands_do(
    flags: tuple[str, ...], asked: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault_of(endpoint: str, *_: object) -> tuple[str, str]:
        return (OTHER_SOCKET, "swapped") if endpoint == PUBLISHES else ("", "")

    query = MagicMock(side_effect=ClientError("timeout", "no answer"))
    monkeypatch.setattr(connection_fault, "connection_fault", fault_of)
    monkeypatch.setattr(reading, "Query", query)
    assert command("verify", *flags) == EXIT_START
    assert query.call_args.args == (asked, None)


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--endpoint=tcp://127.0.0.1", "'tcp://127.0.0.1' is no address of a socket: give one as tcp://127.0.0.1:5556"),
        ("--endpoint=", "'' is no address of a socket"),
        ("--query-endpoint=http://x:80", "cannot connect to http://x:80: Protocol not supported"),
    ],
)
def test_an_address_that_is_none_is_a_wrong_flag(
    command: Command, flag: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("verify", flag) == EXIT_SETTINGS
    assert text in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("style", ["csv", "json", "table"])
def test_output_that_cannot_be_written_is_a_failure(path: Path, style: str) -> None:
    command = [sys.executable, "-m", "mt4pump_consumers.archive", "query", "from quote", "--format", style]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([*command, "--path", path], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (EXIT_FAILED, 1)
    assert "No space left" in ended.stderr


def test_verify_counts_what_the_journal_has_and_the_archive_has_not(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = MagicMock()
    journal.__enter__.return_value = journal
    journal.describe.return_value = {"log": "L"}
    monkeypatch.setattr(connection_fault, "connection_fault", lambda *_: ("", ""))
    monkeypatch.setattr(reading, "Query", lambda *_: journal)
    for offsets, code, missing in (([1, 2], 0, 0), ([1, 2, 3], EXIT_FAILED, 1)):
        replay = MagicMock(whole=True)
        replay.__iter__.return_value = iter([trade(offset) for offset in offsets])
        journal.replay.return_value = replay
        assert command("verify", "--format", "json") == code
        found = {"kind": "trade", "journal": len(offsets), "archived": 2, "missing": missing, "doubled": 0}
        answer = capsys.readouterr()
        assert json.loads(answer.out) == found
        assert answer.err == "", "no progress bar where nobody sees one"


@pytest.mark.parametrize("words", [("query", "select 1"), ("bars", "EURUSD", "1m"), ("gaps",)])
def test_commands_that_read_files_say_so_when_a_database_is_named(
    command: Command, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert command(*words, "--store", "postgresql://127.0.0.1:1/x") == EXIT_SETTINGS
    assert f"{words[0]} reads the files of --path; ask a database itself, as with psql" in capsys.readouterr().err
