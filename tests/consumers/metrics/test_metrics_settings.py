"""`mt4pump_consumers.metrics.settings`: what is refused, and why."""

from __future__ import annotations

import pytest
from mt4pump_consumers.metrics.settings import MetricsSettings

from mt4pump.errors import SettingsError
from mt4pump.process.program import settings_of
from mt4pump.process.values import is_loopback


def settings(*flags: str) -> MetricsSettings:
    return settings_of(MetricsSettings, list(flags)).settings


def test_by_default_nobody_else_can_read_and_no_symbol_has_series() -> None:
    made = settings()
    assert (made.host, made.port, made.symbols, made.topics, made.stream) == ("127.0.0.1", 9564, (), ("*",), True)


def test_a_variable_of_the_environment_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MT4PUMP_METRICS_PORT", "1234")
    assert settings().port == 1234
    assert settings("--port", "99").port == 99


def test_a_list_is_given_with_commas_or_repeated_flags() -> None:
    assert settings("--symbols", "EURUSD,GBP*").symbols == ("EURUSD", "GBP*")
    assert settings("--symbols", "EURUSD", "--symbols", "GBP*").symbols == ("EURUSD", "GBP*")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--host", "0.0.0.0"], "open to other machines"),  # noqa: S104 - what must be refused
        (["--host", "metrics.example.com"], "open to other machines"),
        (["--tls-key", "k.pem"], "go together"),
        (["--tls-certificate", "c.pem"], "go together"),
        (["--symbols", "*", "--no-stream"], "leave symbols out, or stream on"),
        (["--symbols-limit", "5001"], "'5001' is not a whole number from 1 to 5000"),
        (["--silence-s", "0"], "'0' is not a number of seconds above 0 and at most 300"),
        (["--port", "65536"], "'65536' is not a whole number from 0 to 65535"),
    ],
)
def test_what_would_be_unsafe_or_senseless_is_refused_with_what_to_do(flags: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        settings(*flags)


@pytest.mark.parametrize(
    "flags",
    [
        ["--host", "::1"],
        ["--host", "localhost"],
        ["--host", "0.0.0.0", "--allow-plaintext"],  # noqa: S104 - allowed when it is meant
        ["--host", "0.0.0.0", "--tls-certificate", "c.pem", "--tls-key", "k.pem"],  # noqa: S104
    ],
)
def test_what_is_meant_so_is_allowed(flags: list[str]) -> None:
    assert settings(*flags).host == flags[1]


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("10.0.0.1", False)],
)
def test_which_addresses_are_this_machines_own(host: str, *, local: bool) -> None:
    assert is_loopback(host) is local
