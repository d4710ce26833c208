"""``mt4pump check``: effective settings and findings, as a table and as JSON."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from mt4pump.cli import main

FREE = ["--pub-endpoint=tcp://127.0.0.1:*", "--query-endpoint=tcp://127.0.0.1:*", "--data-dir=data"]
WHAT = ["settings", "library", "data_dir", "journal", "pub_endpoint", "query_endpoint"]
SIMULATOR = ["check", "--source=simulator", *FREE]


def report_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main([*arguments, "--json"])
    shown = capsys.readouterr()
    assert not shown.err
    report: dict[str, Any] = json.loads(shown.out)
    return code, report


def test_all_well_is_0_and_every_line_is_ok(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SIMULATOR) == 0
    lines = capsys.readouterr().out.splitlines()
    findings = [line.split()[:2] for line in lines if line.startswith(("ok ", "not ok "))]
    assert findings == [["ok", what] for what in WHAT]
    assert not Path("data").exists()


def test_the_table_has_every_setting_with_value_and_origin(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MT4PUMP_RATE", "max")
    Path("mt4pump.toml").write_text('symbols = ["EUR*", "!EURX"]\npassword = "canary"\n', encoding="utf-8")
    main([*SIMULATOR, "--no-mail"])
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "rate max environment variable MT4PUMP_RATE" in rows
    assert "symbols EUR*,!EURX mt4pump.toml, key symbols" in rows
    assert "password ******** mt4pump.toml, key password" in rows
    assert "mail off flag --mail" in rows
    assert "login - default" in rows
    assert "sndhwm 100000 default" in rows
    assert "journal_max_bytes 4GiB default" in rows
    assert "topic_suffix none default" in rows


def test_json_has_settings_with_their_types_and_the_findings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MT4PUMP_PASSWORD", "canary")
    code, report = report_of(capsys, *SIMULATOR, "--symbols=EUR*", "--rate=max")
    settings = report["settings"]
    assert (code, report["ok"]) == (0, True)
    assert settings["symbols"] == {"value": ["EUR*"], "from": "flag --symbols"}
    assert settings["password"] == {"value": "********", "from": "environment variable MT4PUMP_PASSWORD"}
    assert settings["rate"]["value"] == "max"
    assert settings["login"] == {"value": None, "from": "default"}
    assert settings["ipv6"]["value"] is False
    assert [each["what"] for each in report["checks"]] == WHAT


def test_wrong_settings_are_2_with_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--source=simulator", "--seed=x", "--rate=-1"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("(")[0].split() for line in lines] == [
        ["not", "ok", "settings", "rate"],
        ["not", "ok", "settings", "seed"],
    ]
    code, report = report_of(capsys, "check", "--source=simulator", "--seed=x")
    assert (code, report["ok"], report["settings"], len(report["checks"])) == (2, False, None, 1)


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS shows sockets of other processes to root only")
@pytest.mark.not_under_wine(
    "asks psutil whose a socket or a process is: Wine 8 does not know, or searches the whole host for minutes"
)
def test_a_taken_address_is_3_and_names_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        code, report = report_of(capsys, *SIMULATOR, f"--pub-endpoint={endpoint}")
    (finding,) = [each for each in report["checks"] if not each["ok"]]
    holder = f"{psutil.Process().name()} (pid {psutil.Process().pid})"
    assert code == 3
    assert finding["text"] == f"{endpoint} is taken by {holder}: stop it, or publish on another address"


def test_with_source_dll_library_and_servers_are_tried(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        account = [f"--servers=127.0.0.1:{port}", "--login=5", "--password=canary", "--dll-path=missing.dll"]
        code, report = report_of(capsys, "check", *account, *FREE)
    findings = {each["what"]: each for each in report["checks"]}
    assert code == 3
    assert not findings["library"]["ok"]
    assert "missing.dll" in findings["library"]["text"]
    assert findings["server"] == {
        "what": "server",
        "ok": True,
        "text": f"127.0.0.1:{port} answers at 127.0.0.1 port {port}",
    }
