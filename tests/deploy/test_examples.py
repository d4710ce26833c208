"""Every file in deploy/examples is taken by the program that it is for."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from mt4pump_consumers.archive.settings import ArchiveSettings
from mt4pump_consumers.gateway.settings import GatewaySettings
from mt4pump_consumers.gateway.tokens import TokenFile
from mt4pump_consumers.metrics.settings import MetricsSettings
from mt4pump_consumers.monitor.rules import load_rules
from mt4pump_consumers.monitor.settings import MonitorSettings
from mt4pump_consumers.nats_bridge.settings import NatsSettings

from mt4pump.process.program import ConsumerSettings, settings_of
from mt4pump.process.settings import read
from mt4pump.settings import Settings, load

EXAMPLES = Path(__file__).resolve().parents[2] / "deploy" / "examples"
CONSUMERS: dict[str, type[ConsumerSettings]] = {
    "mt4pump-archive.toml": ArchiveSettings,
    "mt4pump-gateway.toml": GatewaySettings,
    "mt4pump-metrics.toml": MetricsSettings,
    "mt4pump-monitor.toml": MonitorSettings,
    "mt4pump-nats.toml": NatsSettings,
}
DAEMON = {"mt4pump.toml", "mt4pump-simulator.toml"}
OTHERS = {"secrets.env", "tokens.toml", "rules.toml"}


@pytest.fixture(autouse=True)
def beside_the_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in a copy of the folder: relative paths in it mean the working folder."""
    for file in EXAMPLES.iterdir():
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)


def test_every_example_is_known_to_these_tests() -> None:
    assert {file.name for file in EXAMPLES.iterdir()} == {*CONSUMERS, *DAEMON, *OTHERS}


def test_the_daemon_accepts_its_example_with_the_password_of_the_environment_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes((EXAMPLES / "secrets.env").read_bytes())
    loaded = read(Settings, environ={}, config=Path("mt4pump.toml"))
    assert loaded.settings.password is not None
    assert loaded.origins["password"].kind == ".env"
    assert loaded.settings.curve_clients is not None
    assert not loaded.settings.allow_plaintext


def test_the_daemon_accepts_the_example_with_the_simulator() -> None:
    settings = load(environ={}, config=Path("mt4pump-simulator.toml"))
    assert (settings.source, settings.journal) == ("simulator", True)


@pytest.mark.parametrize("name", CONSUMERS)
def test_a_consumer_accepts_its_example(name: str) -> None:
    settings = settings_of(CONSUMERS[name], ["--config", name]).settings
    assert settings.endpoint.startswith("tcp://")
    assert settings.model_fields_set


def test_the_monitor_accepts_the_rules_which_show_every_kind() -> None:
    assert {rule.when for rule in load_rules(Path("rules.toml"))} == {
        *("volume", "loss", "account", "quick_close", "margin_call", "feed_silent")
    }


def test_the_gateway_accepts_the_tokens(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tokens = TokenFile(Path("tokens.toml"))
    assert not tokens.reload()
    assert caplog.text == ""


def test_no_example_holds_a_password() -> None:
    for file in EXAMPLES.iterdir():
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if "password" in line.lower()]
        assert [line for line in lines if not line.startswith("#") and "change-me" not in line] == []
