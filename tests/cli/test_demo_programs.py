"""The programs of the demo."""

from __future__ import annotations

import os

import pytest

from mt4pump.cli.demo import Ports, consumers, daemon, environment, missing

REQUIREMENTS = [
    "pyzmq>=26",
    'websockets>=14.0; extra == "consumers"',
    "PyJWT[crypto]>=2.9; extra == 'consumers'",
    'ruff; extra == "test"',
]


def test_packages_of_the_extra_that_are_not_there_are_named_without_their_versions() -> None:
    assert missing(REQUIREMENTS, lambda _name: False) == ["websockets", "PyJWT"]


def test_nothing_is_missing_when_all_of_the_extra_is_there() -> None:
    assert missing(REQUIREMENTS, lambda name: name in {"websockets", "PyJWT"}) == []


def test_the_programs_get_none_of_our_settings_and_find_the_modules_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MT4PUMP_SOURCE", "dll"), ("mt4pump_password", "x"), ("KEPT", "y")):
        monkeypatch.setenv(name, value)
    made = environment(["/a", "/b", "/a"])
    assert not [name for name in made if name.upper().startswith("MT4PUMP_")]
    assert (made["KEPT"], made["PYTHONPATH"]) == ("y", os.pathsep.join(["/a", "/b"]))


def test_every_program_is_on_loopback_and_on_the_requested_ports() -> None:
    ports = Ports(1, 2, 3, 4)
    parts = (daemon(ports, "folder", 50), *consumers(ports))
    assert [part.arguments[part.arguments.index("--port") + 1] for part in parts[1:]] == ["3", "4"]
    for part in parts:
        assert "tcp://127.0.0.1:1" in part.arguments
        assert "tcp://127.0.0.1:2" in part.arguments
    assert not any("0.0.0.0" in word for part in parts for word in part.arguments)  # noqa: S104 - what must not be
