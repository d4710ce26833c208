"""One loader for all programs: names, sources, lists, help and messages are the same in each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mt4pump_consumers.archive.settings import ArchiveSettings
from mt4pump_consumers.gateway.settings import GatewaySettings
from mt4pump_consumers.metrics.settings import MetricsSettings
from mt4pump_consumers.monitor.settings import MonitorSettings
from mt4pump_consumers.nats_bridge.settings import NatsSettings

from mt4pump.cli import main
from mt4pump.errors import SettingsError
from mt4pump.process.arguments import ProgramParser, add_settings
from mt4pump.process.program import settings_of
from mt4pump.process.settings import ProgramSettings, SettingsClass, expected, extra_of, is_list, is_secret, read
from mt4pump.process.sources import flag_name
from mt4pump.settings import Settings
from tests.isolation import nothing_set

__all__ = ["nothing_set"]

PROGRAMS: dict[type[ProgramSettings], dict[str, object]] = {
    Settings: {"source": "simulator"},
    GatewaySettings: {"anonymous": True},
    MetricsSettings: {},
    MonitorSettings: {},
    NatsSettings: {},
    ArchiveSettings: {},
}
LISTS = [
    (schema, name)
    for schema in PROGRAMS
    for name in schema.model_fields
    if is_list(schema, name) and expected(schema, name, item=True) == "text"
]
FREE_LISTS = [pair for pair in LISTS if pair[1] in {"symbols", "topics", "origins", "anonymous_topics"}]


def loaded(schema: SettingsClass, environ: dict[str, str], **flags: object) -> Any:
    return read(schema, {**PROGRAMS[schema], **flags}, environ).settings


def problems(schema: SettingsClass, environ: dict[str, str], **flags: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(schema, {**PROGRAMS[schema], **flags}, environ)
    head, *lines = str(caught.value).splitlines()
    assert head == "settings are wrong:"
    return [line.strip() for line in lines]


@pytest.mark.parametrize(("schema", "name"), FREE_LISTS)
@pytest.mark.parametrize("text", ['["EUR*", "!EURX"]', "EUR*,!EURX", " EUR* , !EURX ,", '  [ "EUR*","!EURX"]'])
@pytest.mark.parametrize("source", ["environment", "flag", "toml", ".env"])
def test_a_list_is_written_with_commas_or_as_json_in_every_source(
    schema: SettingsClass, name: str, text: str, source: str
) -> None:
    variable = schema.naming().variable(name)
    if source == "toml":
        schema.naming().file.write_text(f"{name} = '{text}'", encoding="utf-8")
    if source == ".env":
        Path(".env").write_text(f"{variable}='{text}'", encoding="utf-8")
    environ = {variable: text} if source == "environment" else {}
    flags = {name: text} if source == "flag" else {}
    assert getattr(loaded(schema, environ, **flags), name) == ("EUR*", "!EURX")


def test_a_symbol_or_a_server_in_brackets_is_no_json() -> None:
    environ = {"MT4PUMP_SYMBOLS": "[DJI30],EUR*", "MT4PUMP_SERVERS": "[::1]:443,a"}
    found = loaded(Settings, environ)
    assert (found.symbols, found.servers) == (("[DJI30]", "EUR*"), ("[::1]:443", "a"))
    assert loaded(Settings, {"MT4PUMP_SYMBOLS": "[]"}).symbols == ()


def test_a_list_that_begins_as_json_and_is_none_is_refused() -> None:
    (line,) = problems(Settings, {"MT4PUMP_SYMBOLS": '["EUR*"'})
    assert line.endswith('begins as a JSON array and is none; write ["a", "b"], or a,b')
    assert problems(MetricsSettings, {"MT4PUMP_METRICS_TOPICS": '["a", 1]'})


CONSUMERS = [
    "MT4PUMP_ARCHIVE_PATH",
    "MT4PUMP_GATEWAY_PORT",
    "MT4PUMP_METRICS_HOST",
    "MT4PUMP_MONITOR_ENDPOINT",
    "MT4PUMP_NATS_STREAM",
]
KUBERNETES = {
    "MT4PUMP_SERVICE_HOST": "10.96.0.12",
    "MT4PUMP_SERVICE_PORT": "5556",
    "MT4PUMP_SERVICE_PORT_PUB": "5556",
    "MT4PUMP_PORT": "tcp://10.96.0.12:5556",
    "MT4PUMP_PORT_5556_TCP": "tcp://10.96.0.12:5556",
    "MT4PUMP_PORT_5556_TCP_PROTO": "tcp",
    "MT4PUMP_PORT_5556_TCP_PORT": "5556",
    "MT4PUMP_PORT_5556_TCP_ADDR": "10.96.0.12",
    "MT4PUMP_GATEWAY_SERVICE_HOST": "10.96.0.13",
    "MT4PUMP_GATEWAY_PORT": "tcp://10.96.0.13:8765",
    "MT4PUMP_GATEWAY_PORT_8765_TCP_PORT": "8765",
    "MT4PUMP_PUB_PORT": "tcp://10.96.0.14:5556",
    "MT4PUMP_ARCHIVE_SERVICE_HOST": "10.96.0.15",
    "MT4PUMP_ARCHIVE_SERVICE_PORT_METRICS": "9567",
    "MT4PUMP_ARCHIVE_PORT": "tcp://10.96.0.15:9567",
    "MT4PUMP_ARCHIVE_PORT_9567_TCP_ADDR": "10.96.0.15",
    "MT4PUMP_ARCHIVE_METRICS_PORT": "tcp://10.96.0.16:9567",
}


@pytest.mark.parametrize("schema", PROGRAMS)
@pytest.mark.parametrize("source", ["environment", ".env"])
def test_variables_of_other_programs_and_of_kubernetes_do_not_matter(schema: SettingsClass, source: str) -> None:
    environ = {**dict.fromkeys(CONSUMERS, "x"), **KUBERNETES}
    own = schema.naming().prefix
    environ = {name: text for name, text in environ.items() if own == "MT4PUMP_" or not name.startswith(own)}
    environ |= {name: text for name, text in KUBERNETES.items() if name.startswith(own)}
    if own != "MT4PUMP_":
        environ["MT4PUMP_LOGIN"] = "x"
    if source == ".env":
        Path(".env").write_text("".join(f"{name}={text}\n" for name, text in environ.items()), encoding="utf-8")
        environ = {}
    assert loaded(schema, environ) == loaded(schema, {})


def test_an_address_of_kubernetes_in_place_of_a_port_is_noted_and_not_used() -> None:
    found = read(GatewaySettings, {"anonymous": True}, {"MT4PUMP_GATEWAY_PORT": "tcp://10.96.0.13:8765"})
    assert found.settings.port == 8765
    assert found.origins["port"].kind == "default"
    assert found.notes == (
        "MT4PUMP_GATEWAY_PORT is ignored: tcp://10.96.0.13:8765 is what Kubernetes sets for a service of that name",
    )
    (line,) = problems(GatewaySettings, {"MT4PUMP_GATEWAY_PORT": "tcp:10.96.0.13"})
    assert "is not a whole number from 0 to 65535" in line


@pytest.mark.parametrize(
    ("schema", "name", "cure"),
    [
        (Settings, "MT4PUMP_PORT", "remove it (mt4pump run --help lists all)"),
        (Settings, "MT4PUMP_GATWAY_PORT", "remove it (mt4pump run --help lists all)"),
        (Settings, "MT4PUMP_SEVERS", "did you mean MT4PUMP_SERVERS?"),
        (GatewaySettings, "MT4PUMP_GATEWAY_PROT", "did you mean MT4PUMP_GATEWAY_PORT?"),
        (ArchiveSettings, "MT4PUMP_ARCHIVE_STOER", "did you mean MT4PUMP_ARCHIVE_STORE?"),
        (NatsSettings, "MT4PUMP_NATS_ZZZZZZZ", "remove it (mt4pump-nats --help lists all)"),
    ],
)
def test_a_mistyped_name_of_the_programs_own_stops_it(schema: SettingsClass, name: str, cure: str) -> None:
    assert problems(schema, {name: "5556"}) == [f"{name} (environment): no such setting; {cure}"]
    schema.naming().file.write_text("\nprot = 1\n", encoding="utf-8")
    assert problems(schema, {})[0].startswith(f"prot ({schema.naming().file} line 2): no such setting; ")


def test_a_consumer_ignores_names_and_faults_of_an_env_file_that_may_not_be_its_own() -> None:
    Path(".env").write_text("DJANGO_KEY=1\nexport\nMT4PUMP_GATEWAY_QUEUE=20\n", encoding="utf-8")
    found = read(GatewaySettings, {"anonymous": True}, {})
    assert found.settings.queue == 20
    assert found.notes == (".env line 2: is not NAME=value; write that, or # before a comment",)


@pytest.mark.parametrize("schema", [GatewaySettings, NatsSettings])
def test_none_unsets_a_setting_of_a_consumer(schema: SettingsClass) -> None:
    naming = schema.naming()
    naming.file.write_text('query_endpoint = "tcp://h:1"', encoding="utf-8")
    assert loaded(schema, {naming.variable("query_endpoint"): "none"}).query_endpoint is None


@pytest.mark.parametrize("schema", PROGRAMS)
def test_the_help_has_groups_plain_values_and_every_setting(
    schema: SettingsClass, capsys: pytest.CaptureFixture[str]
) -> None:
    if schema is Settings:
        assert main(["run", "--help"]) == 0
    else:
        with pytest.raises(SystemExit):
            settings_of(schema, ["--help"], "What it is.")  # type: ignore[type-var]
    text = capsys.readouterr().out
    for odd in ("tuple[", "SecretStr", "('", "{dll", "Annotated", "NoneType", "default: "):
        assert odd not in text
    plain = " ".join(text.split())
    for name in schema.model_fields:
        assert f"[{schema.naming().variable(name)}" in plain
        assert f"\n{extra_of(schema, name)['group']}:\n" in text


@pytest.mark.parametrize("schema", PROGRAMS)
def test_every_setting_has_a_description_a_group_and_an_expectation(schema: SettingsClass) -> None:
    parser = ProgramParser("x", None)
    add_settings(parser, schema)
    for name, field in schema.model_fields.items():
        assert field.description
        assert extra_of(schema, name)["group"]
        assert expected(schema, name)
        assert parser.parse_known_args([flag_name(name), "a"])


@pytest.mark.parametrize("schema", PROGRAMS)
def test_a_secret_is_never_shown(schema: SettingsClass) -> None:
    for name in schema.model_fields:
        if is_secret(schema, name):
            (line, *_) = problems(schema, {schema.naming().variable(name): "canary"}, log_level="x")
            assert "canary" not in line
            assert all("canary" not in each for each in problems(schema, {}, **{name: ["canary"]}))
