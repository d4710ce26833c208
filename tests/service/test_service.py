"""``mt4pump service`` with a fake NSSM: every action twice, in order, and what goes wrong in words."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mt4pump.cli import main
from mt4pump.service import control, windows
from mt4pump.service.plan import PROGRAMS
from tests.service import fake_nssm
from tests.service.fake_nssm import PAUSED, RUNNING, START_PENDING, STOPPED
from tests.service.test_guide import LINES

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the fakes are scripts; there, the real NSSM is driven")


class Fakes:
    """The command with a fake NSSM, and the calls that it received."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a root"
        self.registry: dict[str, str] = {}
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

    def run(self, command: Sequence[str]) -> windows.CommandResult:
        """Answer in this process, in place of `mt4pump.service.windows.run`: twenty times as fast."""
        program, *words = command
        return windows.CommandResult(*fake_nssm.answered(self._state, Path(program).name, words))

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
        """Return the actions on services since the last call, in order."""
        acts = {"install", "start", "stop", "remove"}
        done = [" ".join(call[1:3]) for call in self.state["calls"] if call[1] in acts]
        self.set(calls=[])
        return done


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    """Return the command with the fakes first on PATH, as programs."""
    made = Fakes(tmp_path)
    monkeypatch.setenv("PATH", f"{made.programs}:/usr/bin:/bin")
    monkeypatch.setattr(control, "POLL_S", 0.001)
    monkeypatch.setattr(windows, "read_value", made.registry.get)
    monkeypatch.setattr(windows, "write_value", made.registry.__setitem__)
    return made


@pytest.fixture
def command(real: Fakes, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    """Return the command with the fakes answering in this process."""
    monkeypatch.setattr(windows, "run", real.run)
    return real


def test_words_reach_real_programs_whole_and_their_answers_are_understood(real: Fakes) -> None:
    assert real("install") == 0
    parameters = real.state["services"]["mt4pump"]["set"]["AppParameters"]
    assert parameters == f'-X utf8 -u -m mt4pump run --config "{real.root}/daemon/mt4pump.toml"'
    assert real("status", "daemon") == 1
    assert real("start") == 0
    assert real("status", "daemon") == 0


def test_install_twice_ends_in_the_same_state(command: Fakes) -> None:
    assert command("install", "daemon", "metrics") == 0
    first = command.state["services"]
    assert list(first) == ["mt4pump", "mt4pump-metrics"]
    assert first["mt4pump"]["set"]["Application"] == "/opt/py thon"
    assert first["mt4pump"]["set"]["AppParameters"].endswith(f'--config "{command.root}/daemon/mt4pump.toml"')
    settings = command.root / "daemon" / "mt4pump.toml"
    settings.write_text("login = 5\n", encoding="utf-8")
    assert command("install", "daemon", "metrics") == 0
    assert command.state["services"] == first
    assert settings.read_text(encoding="utf-8") == "login = 5\n", "settings that are there are never overwritten"


def test_install_restricts_the_folder_before_settings_are_in_it(command: Fakes) -> None:
    assert command("install") == 0
    assert command.state["calls"][0][:2] == ["icacls", str(command.root)]
    assert (command.root / "daemon" / "logs").is_dir()
    assert "data_dir" in (command.root / "daemon" / "mt4pump.toml").read_text(encoding="utf-8")


def test_own_account_is_set_after_the_service_exists(command: Fakes) -> None:
    assert command("install", "--own-account") == 0
    calls = command.state["calls"]
    config = next(number for number, call in enumerate(calls) if call[0] == "sc.exe")
    assert calls[config][1:] == ["config", "mt4pump", "obj=", r"NT SERVICE\mt4pump"]
    assert any(call[1] == "install" for call in calls[:config])
    assert calls[config + 1][0] == "icacls"


def test_windows_waits_for_the_daemon_only_where_that_is_a_service(command: Fakes) -> None:
    def needed() -> str | None:
        """Return what Windows starts first."""
        found: str | None = command.state["services"]["mt4pump-gateway"]["set"].get("DependOnService")
        return found

    assert command("install", "gateway") == 0
    assert needed() is None, "the daemon is on another machine: Windows would refuse the start"
    assert command("install", "daemon") == 0
    assert needed() == "mt4pump", "it came later"
    assert command("remove", "daemon") == 0
    assert needed() is None
    assert command("install", "gateway", "daemon") == 0
    assert needed() == "mt4pump"


def test_start_and_stop_twice_in_order(command: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    command("install", *PROGRAMS)
    command.done()
    assert command("start") == 0
    services = [program.service for program in PROGRAMS.values()]
    assert command.done() == [f"start {service}" for service in services]
    assert command("start") == 0
    assert command.done() == []
    assert capsys.readouterr().out.count("runs already") == len(services)
    assert command("stop") == 0
    assert command.done() == [f"stop {service}" for service in reversed(services)]
    assert set(command.states().values()) == {STOPPED}
    assert command("stop") == 0
    assert command.done() == []


def test_stopping_the_daemon_stops_first_what_needs_it(command: Fakes) -> None:
    command("install", "daemon", "gateway", "metrics")
    command("start", "daemon", "metrics")
    command.done()
    assert command("stop", "daemon") == 0
    assert command.done() == ["stop mt4pump-metrics", "stop mt4pump"]


def test_remove_stops_first_keeps_the_folder_and_may_be_repeated(
    command: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    command("install", "daemon", "metrics")
    command("start")
    command.done()
    assert command("remove") == 0
    assert command.done() == ["stop mt4pump-metrics", "remove mt4pump-metrics", "stop mt4pump", "remove mt4pump"]
    assert (command.root / "daemon" / "mt4pump.toml").is_file()
    assert command("remove", "daemon") == 0
    assert "mt4pump: is not installed" in capsys.readouterr().out
    assert command.done() == []


def test_status_is_0_only_when_all_that_is_installed_runs(command: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("status") == 1
    command("install", "daemon", "metrics")
    command("start", "daemon")
    capsys.readouterr()
    assert command("status") == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1) for line in lines[:2]] == [
        ["mt4pump", RUNNING],
        ["mt4pump-gateway", "not installed"],
    ]
    assert command("status", "daemon") == 0
    command("start", "metrics")
    assert command("status") == 0


def test_program_that_ends_at_once_is_an_error_with_the_end_of_its_log(
    command: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    command("install")
    command.set(dies=["mt4pump"])
    (command.root / "daemon" / "logs" / "daemon.log").write_text("cannot start: no such file x.dll\n", encoding="utf-8")
    assert command("start") == 1
    error = capsys.readouterr().err
    for part in ("did not stay up (paused", "cannot start: no such file x.dll", "Unexpected status SERVICE_PAUSED"):
        assert part in error
    assert command.states() == {"mt4pump": PAUSED}
    command.set(dies=[])
    assert command("start") == 0, "what is paused is stopped and started"
    assert command.states() == {"mt4pump": RUNNING}


def test_a_program_that_logs_late_and_then_ends_is_an_error(
    command: Fakes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a slow machine: NSSM takes it for started before it has read its settings."""
    monkeypatch.setattr(control, "POLL_S", 0.01)
    monkeypatch.setattr(control, "LAST_LINE_S", 30.0)
    command("install")
    command.set(slow=["mt4pump"])
    assert command("start") == 1
    error = capsys.readouterr().err
    assert "did not stay up (SERVICE_STOPPED" in error
    assert "settings are wrong" in error


def test_program_that_writes_no_log_is_started_after_a_while(
    command: Fakes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(control, "FIRST_LINE_S", 0.1)
    monkeypatch.setattr(control, "LAST_LINE_S", 0.1)
    command("install")
    command.set(mute=["mt4pump"])
    assert command("start") == 0
    assert "mt4pump: started" in capsys.readouterr().out


def test_service_that_is_just_starting_is_left_to_it(command: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    command("install")
    services = command.state["services"]
    services["mt4pump"]["state"] = START_PENDING
    command.set(services=services, calls=[])
    assert command("start") == 0
    assert command.done() == []
    assert "runs already" in capsys.readouterr().out


def test_service_that_does_not_stop_is_an_error(
    command: Fakes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command("install")
    command("start")
    command.set(stuck=["mt4pump"])
    monkeypatch.setattr(control, "STOP_WAIT_S", 0.1)
    assert command("stop") == 1
    assert "did not stop within 0.1 s (SERVICE_STOP_PENDING)" in capsys.readouterr().err


def test_what_nssm_refuses_is_reported_in_its_words_with_the_command(
    command: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    command.set(denied=True)
    assert command("install") == 1
    error = capsys.readouterr().err
    for part in ("install mt4pump", "exit code 5", "Administrator access is needed", "Run as administrator"):
        assert part in error


def test_a_parameter_that_is_refused_once_is_set_again_and_one_that_always_is_ends_the_install(
    command: Fakes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "PAUSE_S", 0.0)
    command.set(busy=windows.TRIES - 1)
    assert command("install", "daemon") == 0
    assert command.state["services"]["mt4pump"]["set"]["Application"] == "/opt/py thon"
    command.set(busy=windows.TRIES)
    assert command("install", "daemon") == 1
    assert "exit code 1: Internal error." in capsys.readouterr().err


@pytest.mark.parametrize("action", ["start", "stop", "remove"])
def test_without_services_actions_on_all_say_what_to_do(
    command: Fakes, action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(action) == 1
    assert "nothing is installed: mt4pump service install" in capsys.readouterr().err


def test_starting_what_is_not_installed_says_how(command: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("start", "metrics") == 1
    assert "mt4pump-metrics is not installed: mt4pump service install metrics" in capsys.readouterr().err


def test_without_nssm_it_is_3_and_says_where_to_get_it(
    command: Fakes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert command("status") == 3
    assert "nssm.exe is not on PATH" in capsys.readouterr().err
    assert command("status", "--nssm", "/no/such/nssm.exe") == 3
    assert "there is no file" in capsys.readouterr().err


def test_the_path_of_nssm_is_given_once(command: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    program = str(command.programs / "nssm")
    monkeypatch.setenv("PATH", "/nowhere")
    assert command("install", "--nssm", program) == 0
    for action, code in (("install", 0), ("start", 0), ("status", 0), ("stop", 0), ("remove", 0), ("status", 1)):
        assert command(action) == code, action
    (command.programs / "nssm").unlink()
    assert command("status") == 3, "it is not there any more"


def test_the_guides_commands_work_one_after_the_other_without_nssm_on_the_path(
    command: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    lines = [line for line in LINES if line.startswith("mt4pump service")]
    assert {line.split()[2] for line in lines} >= {"install", "start", "stop", "status"}
    for line in lines:
        words = [str(command.programs / "nssm") if word.endswith("nssm.exe") else word for word in line.split()[2:]]
        assert command(*words) == 0, line


def test_a_folder_that_somebody_else_may_have_made_gets_no_service(
    command: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = command.root / "daemon" / "mt4pump.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("dll_path = 'theirs.dll'\n", encoding="utf-8")
    assert command("install") == 1
    assert f"Settings files in it: {settings}" in capsys.readouterr().err
    assert command.state == {}, "no service, no access rights"


def test_what_was_removed_is_installed_again_in_its_folder(command: Fakes) -> None:
    command("install")
    settings = command.root / "daemon" / "mt4pump.toml"
    settings.write_text("login = 5\n", encoding="utf-8")
    assert [command(action) for action in ("remove", "install", "start")] == [0, 0, 0]
    assert settings.read_text(encoding="utf-8") == "login = 5\n"


def test_dry_run_prints_exactly_what_an_install_runs_and_changes_nothing(
    command: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("install", "daemon", "nats", "--own-account", "--nssm", str(command.programs / "nssm"))
    assert command(*flags, "--dry-run") == 0
    shown = capsys.readouterr().out.splitlines()
    assert command.state == {}
    assert not command.root.exists()
    assert command(*flags) == 0
    ran = [call for call in command.state["calls"] if call[1] != "status"]
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
    command: Fakes,
    action: str,
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert command(action, "metrics", "daemon", "--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [f"nssm {line}" for line in expected]
