"""``deploy/grafana``: the dashboard is whole, and bound to no data source of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from typing import Any

from tests.consumers.metrics.metrics_run import DASHBOARD

Panel = dict[str, Any]
VARIABLE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return read


def panels() -> Iterator[Panel]:
    """Yield every panel, those inside collapsed rows included."""
    for panel in dashboard()["panels"]:
        yield panel
        yield from panel.get("panels", [])


def test_it_is_of_a_current_schema_and_can_be_imported_anywhere() -> None:
    board = dashboard()
    assert board["schemaVersion"] >= 39
    assert "id" not in board
    assert board["uid"] == board["title"] == "mt4pump"
    assert "__inputs" not in board


def test_every_query_goes_to_the_data_source_that_the_reader_chooses() -> None:
    (source,) = [variable for variable in dashboard()["templating"]["list"] if variable["type"] == "datasource"]
    assert (source["name"], source["query"]) == ("datasource", "prometheus")
    for panel in panels():
        if panel["type"] != "row":
            assert panel["datasource"] == VARIABLE, panel["title"]
        for target in panel.get("targets", []):
            assert target["datasource"] == VARIABLE, panel["title"]
    for variable in dashboard()["templating"]["list"]:
        assert variable is source or variable["type"] == "datasource" or variable["datasource"] == VARIABLE


def test_every_panel_says_what_it_shows_in_which_unit() -> None:
    for panel in panels():
        assert panel["title"]
        if panel["type"] != "row":
            assert panel["description"].endswith("."), panel["title"]
            assert panel["targets"]
            assert panel["fieldConfig"]["defaults"]["unit"]


def test_panels_have_their_own_number_and_place() -> None:
    numbers = [panel["id"] for panel in panels()]
    assert len(numbers) == len(set(numbers))
    places = [panel["gridPos"] for panel in panels()]
    for place in places:
        assert place["x"] + place["w"] <= COLUMNS
    for one, other in combinations(places, 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )


def test_every_query_keeps_to_the_chosen_job_and_exporter() -> None:
    for panel in panels():
        for target in panel.get("targets", []):
            expression = target["expr"]
            assert expression.count("{") == expression.count('{job=~"$job", instance=~"$instance"'), expression
