"""``mt4pump service`` with a fake NSSM: every action twice, in order, and what goes wrong in words."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mt4pump.cli import main
from mt4pump.service import commands, control, nssm
from mt4pump.service import registry as notes
from mt4pump.service.programs import PROGRAMS
from tests.service import fake_nssm
from tests.service.fake_nssm import PAUSED, RUNNING, START_PENDING, STOPPED
from tests.service.test_guide import LINES

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the fakes are scripts; there, the real NSSM is driven")


class Desk:
    """The command with a fake NSSM, and what that was told."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a root"
        self.notes: dict[str, str] = {}
        self._state = folder / "state.json"
        self.programs = folder / "bin"
        self.programs.mkdir()
        for name in ("nssm", "icacls", "sc.exe"):
            script = self.programs / name
            words = f'"{sys.executable}" "{fake_nssm.__file__}" "{self._state}" {name} "$@"'
            script.write_text(f"#!/bin/sh\nexec {words}\n", encoding="utf-8")
            script.chmod(0o755)

    def __call__(self, *words: str) -> int:
        """Run ``mt4pump service`` and return its exit code."""
        return main(["service", *words, "--root", str(self.root), "--python", "/opt/py thon"])

    def run(self, command: Sequence[str]) -> commands.CommandResult:
        """Answer in this process, in place of `mt4pump.service.commands.run`: twenty times as fast."""
        program, *words = command
        return commands.CommandResult(*fake_nssm.answered(self._state, Path(program).name, words))

    @property
    def state(self) -> dict[str, Any]:
        """Return what the fake keeps."""
        found: dict[str, Any] = json.loads(self._state.read_text(encoding="utf-8")) if self._state.exists() else {}
        return found

    def set(self, **knobs: Any) -> None:
        """Turn knobs of the fake."""
        self._state.write_text(json.dumps({**self.state, **knobs}), encoding="utf-8")

    def states(self) -> dict[str, str]:
        """Return each installed service's state."""
        return {name: service["state"] for name, service in self.state.get("services", {}).items()}

    def done(self) -> list[str]:
        """Return what was done to services since the last time, in order."""
        acts = {"install", "start", "stop", "remove"}
        done = [" ".join(call[1:3]) for call in self.state["calls"] if call[1] in acts]
        self.set(calls=[])
        return done


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Return the command with the fakes first on PATH, as programs."""
    made = Desk(tmp_path)
    monkeypatch.setenv("PATH", f"{made.programs}:/usr/bin:/bin")
    monkeypatch.setattr(control, "POLL_S", 0.001)
    monkeypatch.setattr(notes, "read", made.notes.get)
    monkeypatch.setattr(notes, "write", made.notes.__setitem__)
    return made


@pytest.fixture
def desk(real: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Return the command with the fakes answering in this process."""
    monkeypatch.setattr(commands, "run", real.run)
    return real


def test_words_reach_real_programs_whole_and_their_answers_are_understood(real: Desk) -> None:
    assert real("install") == 0
    parameters = real.state["services"]["mt4pump"]["set"]["AppParameters"]
    assert parameters == f'-X utf8 -u -m mt4pump run --config "{real.root}/daemon/mt4pump.toml"'
    assert real("status", "daemon") == 1
    assert real("start") == 0
    assert real("status", "daemon") == 0


def test_install_twice_ends_in_the_same_state(desk: Desk) -> None:
    assert desk("install", "daemon", "metrics") == 0
    first = desk.state["services"]
    assert list(first) == ["mt4pump", "mt4pump-metrics"]
    assert first["mt4pump"]["set"]["Application"] == "/opt/py thon"
    assert first["mt4pump"]["set"]["AppParameters"].endswith(f'--config "{desk.root}/daemon/mt4pump.toml"')
    settings = desk.root / "daemon" / "mt4pump.toml"
    settings.write_text("login = 5\n", encoding="utf-8")
    assert desk("install", "daemon", "metrics") == 0
    assert desk.state["services"] == first
    assert settings.read_text(encoding="utf-8") == "login = 5\n", "settings that are there are never overwritten"


def test_install_restricts_the_folder_before_settings_are_in_it(desk: Desk) -> None:
    assert desk("install") == 0
    assert desk.state["calls"][0][:2] == ["icacls", str(desk.root)]
    assert (desk.root / "daemon" / "logs").is_dir()
    assert "data_dir" in (desk.root / "daemon" / "mt4pump.toml").read_text(encoding="utf-8")


def test_own_account_is_set_after_the_service_exists(desk: Desk) -> None:
    assert desk("install", "--own-account") == 0
    calls = desk.state["calls"]
    config = next(number for number, call in enumerate(calls) if call[0] == "sc.exe")
    assert calls[config][1:] == ["config", "mt4pump", "obj=", r"NT SERVICE\mt4pump"]
    assert any(call[1] == "install" for call in calls[:config])
    assert calls[config + 1][0] == "icacls"


def test_windows_waits_for_the_daemon_only_where_that_is_a_service(desk: Desk) -> None:
    def needed() -> str | None:
        """Return what Windows starts first."""
        found: str | None = desk.state["services"]["mt4pump-gateway"]["set"].get("DependOnService")
        return found

    assert desk("install", "gateway") == 0
    assert needed() is None, "the daemon is on another machine: Windows would refuse the start"
    assert desk("install", "daemon") == 0
    assert needed() == "mt4pump", "it came later"
    assert desk("remove", "daemon") == 0
    assert needed() is None
    assert desk("install", "gateway", "daemon") == 0
    assert needed() == "mt4pump"


def test_start_and_stop_twice_in_order(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk("install", *PROGRAMS)
    desk.done()
    assert desk("start") == 0
    services = [program.service for program in PROGRAMS.values()]
    assert desk.done() == [f"start {service}" for service in services]
    assert desk("start") == 0
    assert desk.done() == []
    assert capsys.readouterr().out.count("runs already") == len(services)
    assert desk("stop") == 0
    assert desk.done() == [f"stop {service}" for service in reversed(services)]
    assert set(desk.states().values()) == {STOPPED}
    assert desk("stop") == 0
    assert desk.done() == []


def test_stopping_the_daemon_stops_first_what_needs_it(desk: Desk) -> None:
    desk("install", "daemon", "gateway", "metrics")
    desk("start", "daemon", "metrics")
    desk.done()
    assert desk("stop", "daemon") == 0
    assert desk.done() == ["stop mt4pump-metrics", "stop mt4pump"]


def test_remove_stops_first_keeps_the_folder_and_may_be_repeated(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk("install", "daemon", "metrics")
    desk("start")
    desk.done()
    assert desk("remove") == 0
    assert desk.done() == ["stop mt4pump-metrics", "remove mt4pump-metrics", "stop mt4pump", "remove mt4pump"]
    assert (desk.root / "daemon" / "mt4pump.toml").is_file()
    assert desk("remove", "daemon") == 0
    assert "mt4pump: is not installed" in capsys.readouterr().out
    assert desk.done() == []


def test_status_is_0_only_when_all_that_is_installed_runs(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk("status") == 1
    desk("install", "daemon", "metrics")
    desk("start", "daemon")
    capsys.readouterr()
    assert desk("status") == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1) for line in lines[:2]] == [
        ["mt4pump", RUNNING],
        ["mt4pump-gateway", "not installed"],
    ]
    assert desk("status", "daemon") == 0
    desk("start", "metrics")
    assert desk("status") == 0


def test_program_that_ends_at_once_is_an_error_with_the_end_of_its_log(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk("install")
    desk.set(dies=["mt4pump"])
    (desk.root / "daemon" / "logs" / "daemon.log").write_text("cannot start: no such file x.dll\n", encoding="utf-8")
    assert desk("start") == 1
    error = capsys.readouterr().err
    for part in ("did not stay up (paused", "cannot start: no such file x.dll", "Unexpected status SERVICE_PAUSED"):
        assert part in error
    assert desk.states() == {"mt4pump": PAUSED}
    desk.set(dies=[])
    assert desk("start") == 0, "what is paused is stopped and started"
    assert desk.states() == {"mt4pump": RUNNING}


def test_program_that_speaks_late_and_then_ends_is_an_error(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a slow machine: NSSM takes it for started before it has read its settings."""
    monkeypatch.setattr(control, "POLL_S", 0.01)
    monkeypatch.setattr(control, "LAST_WORD_S", 30.0)
    desk("install")
    desk.set(slow=["mt4pump"])
    assert desk("start") == 1
    error = capsys.readouterr().err
    assert "did not stay up (SERVICE_STOPPED" in error
    assert "settings are wrong" in error


def test_program_that_writes_no_log_is_started_after_a_while(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(control, "FIRST_WORD_S", 0.1)
    monkeypatch.setattr(control, "LAST_WORD_S", 0.1)
    desk("install")
    desk.set(mute=["mt4pump"])
    assert desk("start") == 0
    assert "mt4pump: started" in capsys.readouterr().out


def test_service_that_is_just_starting_is_left_to_it(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk("install")
    services = desk.state["services"]
    services["mt4pump"]["state"] = START_PENDING
    desk.set(services=services, calls=[])
    assert desk("start") == 0
    assert desk.done() == []
    assert "runs already" in capsys.readouterr().out


def test_service_that_does_not_stop_is_an_error(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    desk("install")
    desk("start")
    desk.set(stuck=["mt4pump"])
    monkeypatch.setattr(control, "STOP_WAIT_S", 0.1)
    assert desk("stop") == 1
    assert "did not stop within 0.1 s (SERVICE_STOP_PENDING)" in capsys.readouterr().err


def test_what_nssm_refuses_is_told_in_its_words_with_the_command(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.set(denied=True)
    assert desk("install") == 1
    error = capsys.readouterr().err
    for part in ("install mt4pump", "exit code 5", "Administrator access is needed", "Run as administrator"):
        assert part in error


def test_a_parameter_that_is_refused_once_is_set_again_and_one_that_always_is_ends_the_install(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nssm, "SET_PAUSE_S", 0.0)
    desk.set(busy=nssm.SET_TRIES - 1)
    assert desk("install", "daemon") == 0
    assert desk.state["services"]["mt4pump"]["set"]["Application"] == "/opt/py thon"
    desk.set(busy=nssm.SET_TRIES)
    assert desk("install", "daemon") == 1
    assert "exit code 1: Internal error." in capsys.readouterr().err


@pytest.mark.parametrize("action", ["start", "stop", "remove"])
def test_without_services_actions_on_all_say_what_to_do(
    desk: Desk, action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk(action) == 1
    assert "nothing is installed: mt4pump service install" in capsys.readouterr().err


def test_starting_what_is_not_installed_says_how(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk("start", "metrics") == 1
    assert "mt4pump-metrics is not installed: mt4pump service install metrics" in capsys.readouterr().err


def test_without_nssm_it_is_3_and_says_where_to_get_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert desk("status") == 3
    assert "nssm.exe is not on PATH" in capsys.readouterr().err
    assert desk("status", "--nssm", "/no/such/nssm.exe") == 3
    assert "there is no file" in capsys.readouterr().err


def test_where_nssm_is_needs_to_be_said_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    program = str(desk.programs / "nssm")
    monkeypatch.setenv("PATH", "/nowhere")
    assert desk("install", "--nssm", program) == 0
    for action, code in (("install", 0), ("start", 0), ("status", 0), ("stop", 0), ("remove", 0), ("status", 1)):
        assert desk(action) == code, action
    (desk.programs / "nssm").unlink()
    assert desk("status") == 3, "it is not there any more"


def test_the_guides_commands_work_one_after_the_other_without_nssm_on_the_path(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    lines = [line for line in LINES if line.startswith("mt4pump service")]
    assert {line.split()[2] for line in lines} >= {"install", "start", "stop", "status"}
    for line in lines:
        words = [str(desk.programs / "nssm") if word.endswith("nssm.exe") else word for word in line.split()[2:]]
        assert desk(*words) == 0, line


def test_a_folder_that_somebody_else_may_have_made_gets_no_service(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = desk.root / "daemon" / "mt4pump.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("dll_path = 'theirs.dll'\n", encoding="utf-8")
    assert desk("install") == 1
    assert f"Settings files in it: {settings}" in capsys.readouterr().err
    assert desk.state == {}, "no service, no access rights"


def test_what_was_removed_is_installed_again_in_its_folder(desk: Desk) -> None:
    desk("install")
    settings = desk.root / "daemon" / "mt4pump.toml"
    settings.write_text("login = 5\n", encoding="utf-8")
    assert [desk(action) for action in ("remove", "install", "start")] == [0, 0, 0]
    assert settings.read_text(encoding="utf-8") == "login = 5\n"


def test_dry_run_prints_exactly_what_an_install_runs_and_changes_nothing(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("install", "daemon", "nats", "--own-account", "--nssm", str(desk.programs / "nssm"))
    assert desk(*flags, "--dry-run") == 0
    shown = capsys.readouterr().out.splitlines()
    assert desk.state == {}
    assert not desk.root.exists()
    assert desk(*flags) == 0
    ran = [call for call in desk.state["calls"] if call[1] != "status"]
    assert len(shown) == len(ran)
    for line, (_, *words) in zip(shown, ran, strict=True):
        assert all(word.replace('"', '\\"') in line for word in words)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("start", ["start mt4pump", "start mt4pump-metrics"]),
        ("stop", ["stop mt4pump-metrics", "stop mt4pump"]),
        ("status", ["status mt4pump", "status mt4pump-metrics"]),
        (
            "remove",
            ["stop mt4pump-metrics", "remove mt4pump-metrics confirm", "stop mt4pump", "remove mt4pump confirm"],
        ),
    ],
)
def test_dry_run_of_the_other_actions_needs_no_nssm(
    desk: Desk, action: str, expected: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert desk(action, "metrics", "daemon", "--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [f"nssm {line}" for line in expected]
