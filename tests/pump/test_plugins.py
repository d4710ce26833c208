"""Plugins and, where the settings ask for them, their parameters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import PLUGIN_CFG
from tests.fake_manager import failed, lost
from tests.pump.harness import Harness, open_harness, seen
from tests.pump.test_tables import plugin

PLUGINS = PumpCode.UPDATE_PLUGINS


def delay(value: str, **more: object) -> bytes:
    return PLUGIN_CFG.pack({"name": "Delay", "value": value, **more})


def shown(value: str) -> list[dict[str, str]]:
    return [{"name": "Delay", "value": value}]


@pytest.fixture(name="harness")
def _harness() -> Iterator[Harness]:
    with open_harness() as made:
        made.start()
        yield made


@pytest.mark.parametrize(("name", "topic"), [("Virtual Dealer", "plugin.Virtual Dealer"), ("", "plugin.vd.dll")])
def test_a_plugin_is_named_as_it_names_itself_or_after_its_file(harness: Harness, name: str, topic: str) -> None:
    harness.manager.tables["plugins"] = plugin("vd.dll", name)
    (message,) = harness.events_after(PLUGINS)
    assert message.topic == topic
    assert message.body["name"] == topic.removeprefix("plugin.")
    assert "parameters" not in message.body


@pytest.fixture(name="with_parameters")
def _with_parameters() -> Iterator[Harness]:
    with open_harness(plugin_parameters=True) as made:
        made.start()
        yield made


def test_parameters_come_with_a_plugin_when_the_settings_ask(with_parameters: Harness) -> None:
    manager = with_parameters.manager
    manager.tables["plugins"] = plugin("a.dll") + plugin("b.dll")
    manager.parameters = {1: PLUGIN_CFG.pack({"name": "Delay", "value": "3"})}
    assert seen(with_parameters.events_after(PLUGINS), "parameters") == [
        ("plugin.a.dll", None),
        ("plugin.b.dll", [{"name": "Delay", "value": "3"}]),
    ]


def test_a_plugin_that_is_gone_has_no_parameters(with_parameters: Harness) -> None:
    manager = with_parameters.manager
    manager.tables["plugins"] = plugin("a.dll")
    manager.parameters = {0: PLUGIN_CFG.pack({"name": "Delay"})}
    with_parameters.events_after(PLUGINS)
    manager.tables["plugins"] = b""
    assert seen(with_parameters.events_after(PLUGINS), "action", "parameters") == [("plugin.a.dll", "delete", None)]


def test_a_plugin_whose_parameters_cannot_be_read_is_published_all_the_same_and_so_are_the_others(
    with_parameters: Harness,
) -> None:
    with_parameters.manager.tables["plugins"] = plugin("a.dll") + plugin("b.dll")
    with_parameters.manager.failures["plugin_parameters"].append(failed("PluginParamGet"))
    events = with_parameters.events_after(PLUGINS) + with_parameters.events_after(PLUGINS)
    assert sorted({message.topic for message in events}) == ["plugin.a.dll", "plugin.b.dll"]
    assert with_parameters.fault_counters.counts == {"read_error": 1}


# A change of a parameter, and of nothing else


@pytest.fixture(name="delayed")
def _delayed() -> Iterator[Harness]:
    """Give a session whose tables were read with a plugin of Delay 3 in them."""
    with open_harness(b"plugin.", plugin_parameters=True) as made:
        made.manager.tables["plugins"] = plugin("a.dll") + plugin("b.dll")
        made.manager.parameters = {0: delay("3"), 1: b""}
        assert made.start() == []
        yield made


def test_a_changed_parameter_is_published_once_though_the_row_is_the_same(delayed: Harness) -> None:
    assert delayed.events_after(PLUGINS) == []
    delayed.manager.parameters[0] = delay("9")
    assert seen(delayed.events_after(PLUGINS), "action", "parameters") == [("plugin.a.dll", "update", shown("9"))]
    assert delayed.events_after(PLUGINS) == []


def test_a_parameter_that_changed_between_two_sessions_is_published_as_inferred(delayed: Harness) -> None:
    delayed.reconnect(lambda manager: manager.parameters.update({0: delay("9"), 1: b""}))
    events = delayed.events_after(PumpCode.START_PUMPING)
    assert seen(events, "action", "parameters", "synthetic") == [("plugin.a.dll", "update", shown("9"), True)]


def test_a_plugin_and_its_parameter_that_change_together_are_published_once(delayed: Harness) -> None:
    delayed.manager.tables["plugins"] = plugin("a.dll", enabled=1) + plugin("b.dll")
    delayed.manager.parameters[0] = delay("9")
    assert seen(delayed.events_after(PLUGINS), "enabled", "parameters") == [("plugin.a.dll", 1, shown("9"))]
    assert delayed.events_after(PLUGINS) == []


def test_bytes_of_a_parameter_that_are_never_published_are_a_repeat(delayed: Harness) -> None:
    delayed.manager.parameters[0] = delay("3", reserved=[1] * 16)
    assert delayed.events_after(PLUGINS) == []


@pytest.mark.parametrize("unknown", [None, b"short"])
def test_parameters_that_cannot_be_read_are_no_change_and_cost_no_others_and_are_published_when_they_can(
    delayed: Harness, unknown: bytes | None
) -> None:
    delayed.manager.parameters = {0: unknown, 1: delay("5")}
    assert seen(delayed.events_after(PLUGINS), "action", "parameters") == [("plugin.b.dll", "update", shown("5"))]
    assert delayed.fault_counters.counts == ({"bad_record": 1} if unknown else {})
    delayed.manager.parameters[0] = delay("9")
    assert seen(delayed.events_after(PLUGINS), "action", "parameters") == [("plugin.a.dll", "update", shown("9"))]


def test_parameters_missing_from_an_event_follow_as_an_update(delayed: Harness) -> None:
    delayed.manager.tables["plugins"] = plugin("a.dll", enabled=1) + plugin("b.dll")
    delayed.manager.failures["plugin_parameters"].append(failed("PluginParamGet"))
    assert seen(delayed.events_after(PLUGINS), "action", "parameters") == [("plugin.a.dll", "update", None)]
    assert seen(delayed.events_after(PLUGINS), "action", "parameters") == [("plugin.a.dll", "update", shown("3"))]
    assert delayed.events_after(PLUGINS) == []


def test_a_plugin_that_is_gone_and_comes_back_is_published_as_new_and_not_as_changed(delayed: Harness) -> None:
    delayed.manager.tables["plugins"] = b""
    assert len(delayed.events_after(PLUGINS)) == 2
    delayed.manager.tables["plugins"] = plugin("a.dll")
    assert seen(delayed.events_after(PLUGINS), "action", "parameters") == [("plugin.a.dll", "add", shown("3"))]
    assert delayed.events_after(PLUGINS) == []


def test_a_session_that_is_lost_while_parameters_are_read_leaves_all_changes_to_the_next(delayed: Harness) -> None:
    delayed.manager.tables["plugins"] = plugin("a.dll", enabled=1) + plugin("b.dll")
    delayed.manager.failures["plugin_parameters"].append(lost("PluginParamGet"))
    assert delayed.events_after(PLUGINS) == []
    assert delayed.fault_counters.counts == {"session_gone": 1}
    delayed.reconnect(lambda manager: manager.parameters.update({0: delay("3"), 1: b""}))
    events = delayed.events_after(PumpCode.START_PUMPING)
    assert seen(events, "action", "parameters") == [("plugin.a.dll", "update", shown("3"))]


def test_parameters_are_not_taken_for_those_of_another_plugin_when_the_table_moves_between_the_reads(
    delayed: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = delayed.manager
    tables = iter([manager.tables["plugins"], plugin("b.dll")])
    with monkeypatch.context() as patched:
        patched.setattr(manager, "table", lambda _name: next(tables))
        manager.parameters = {0: b"", 1: None}
        assert delayed.events_after(PLUGINS) == []
    manager.tables["plugins"] = plugin("b.dll")
    assert seen(delayed.events_after(PLUGINS), "action") == [("plugin.a.dll", "delete")]
