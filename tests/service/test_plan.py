"""The parameters that NSSM gets: quoting, restarts, stop, order."""

from __future__ import annotations

import tomllib

import pytest

from mt4pump.service.plan import (
    PROGRAMS,
    Placement,
    ServiceError,
    chosen,
    dependents,
    own_rights,
    parameters,
    restrict,
    template,
)
from tests.service.fake_nssm import KNOWN

PLACE = Placement(r"C:\Program Files\Python 313\python.exe", r"D:\a b\mt4pump")
DAEMON = PROGRAMS["daemon"]


def nssm_values(name: str) -> dict[str, tuple[str, ...]]:
    """Return the parameters of a program; AppExit by its code."""
    found = {}
    for parameter, *values in parameters(PROGRAMS[name], PLACE):
        key = f"{parameter} {values.pop(0)}" if parameter == "AppExit" else parameter
        assert key not in found
        found[key] = tuple(values)
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_only_parameters_that_both_versions_know(name: str) -> None:
    assert {key.split(maxsplit=1)[0] for key in nssm_values(name)} <= KNOWN


def test_parameters_are_one_argument_with_quotes_around_what_has_spaces() -> None:
    assert nssm_values("daemon")["Application"] == (PLACE.python,)
    assert nssm_values("daemon")["AppParameters"] == (
        r'-X utf8 -u -m mt4pump run --config "D:\a b\mt4pump\daemon\mt4pump.toml"',
    )


def test_each_program_has_a_folder_of_its_own_with_settings_and_log() -> None:
    for name in PROGRAMS:
        about = nssm_values(name)
        assert about["AppDirectory"] == (rf"D:\a b\mt4pump\{name}",)
        assert about["AppStdout"] == about["AppStderr"] == (rf"D:\a b\mt4pump\{name}\logs\{name}.log",)
    assert nssm_values("metrics")["AppParameters"][0].endswith(
        r'--config "D:\a b\mt4pump\metrics\mt4pump-metrics.toml"'
    )


def test_logs_rotate_while_the_program_runs() -> None:
    about = nssm_values("daemon")
    assert (about["AppRotateFiles"], about["AppRotateOnline"]) == (("1",), ("1",))
    assert int(about["AppRotateBytes"][0]) > 0


def test_wrong_settings_end_it_everything_else_restarts_it_after_a_delay() -> None:
    about = nssm_values("daemon")
    assert (about["AppExit 2"], about["AppExit Default"]) == (("Exit",), ("Restart",))
    assert int(about["AppRestartDelay"][0]) >= 1000


def test_ctrl_c_gets_time_and_nothing_comes_between_it_and_the_end() -> None:
    assert nssm_values("daemon")["AppStopMethodConsole"] == ("15000",)
    assert nssm_values("daemon")["AppStopMethodSkip"] == ("6",)


def test_consumers_need_the_daemon_and_the_daemon_nobody() -> None:
    assert {name: program.needs for name, program in PROGRAMS.items()} == {
        name: () if name == "daemon" else ("daemon",) for name in PROGRAMS
    }


def test_no_secret_and_no_environment_goes_into_the_registry() -> None:
    assert not any("Environment" in key for key in nssm_values("daemon"))


def test_starting_order_is_kept_whatever_the_order_of_names() -> None:
    assert [program.name for program in chosen(["metrics", "daemon", "metrics"])] == ["daemon", "metrics"]
    assert [program.name for program in dependents([DAEMON])] == ["gateway", "monitor", "metrics", "archive", "nats"]
    assert dependents(PROGRAMS.values()) == []


def test_unknown_program_is_named_with_those_there_are() -> None:
    with pytest.raises(ServiceError, match=r"no program deamon; there are daemon, gateway"):
        chosen(["deamon"])


@pytest.mark.parametrize("root", [r"C:\100%\x", 'C:\\a"b'])
def test_path_that_nssm_would_change_is_refused(root: str) -> None:
    with pytest.raises(ServiceError, match="without % and quotes"):
        Placement(PLACE.python, root).check()
    Placement(PLACE.python, PLACE.root).check()


def test_folder_is_left_to_system_and_administrators_by_number() -> None:
    assert restrict(PLACE.root) == [
        *("icacls", r"D:\a b\mt4pump", "/inheritance:r", "/grant:r"),
        *("*S-1-5-18:(OI)(CI)F", "*S-1-5-32-544:(OI)(CI)F"),
    ]


def test_account_of_its_own_may_use_its_own_folder_only() -> None:
    assert own_rights(PROGRAMS["metrics"], PLACE) == [
        ["sc.exe", "config", "mt4pump-metrics", "obj=", r"NT SERVICE\mt4pump-metrics"],
        ["icacls", r"D:\a b\mt4pump\metrics", "/grant", r"NT SERVICE\mt4pump-metrics:(OI)(CI)M"],
    ]


@pytest.mark.parametrize("name", PROGRAMS)
def test_fresh_settings_are_toml_and_keep_data_in_the_folder(name: str) -> None:
    settings = tomllib.loads(template(PROGRAMS[name], PLACE))
    assert settings == ({"data_dir": r"D:\a b\mt4pump\daemon\data"} if name == "daemon" else {})
