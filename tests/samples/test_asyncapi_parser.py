"""The AsyncAPI document as the AsyncAPI project's own parser reads it."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mt4pump.protocol.contract import contract, gateway_messages
from mt4pump.protocol.documents import asyncapi
from mt4pump.wire import KINDS, PROTOCOL
from tests.cli.commands import finish
from tests.samples.languages import environment

CHECKER = Path(__file__).parent / "check_asyncapi.js"
LIMIT_S = 110
ERROR = 0
NEWER_FORM = "asyncapi-latest-version"
"""Says only that there is a newer version of AsyncAPI, which fewer tools read."""


@pytest.fixture(scope="module", autouse=True)
def parser() -> None:
    """Skip where the parser is missing."""
    try:
        done = subprocess.run(
            ["node", "-e", "require('@asyncapi/parser')"],  # noqa: S607 - node by name
            env=environment(),
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("node is not installed")
    if done.returncode:
        pytest.skip("@asyncapi/parser is not installed (npm, in consumers/samples: npm install)")


def parsed(document: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        ["node", str(CHECKER)],  # noqa: S607 - node by name
        input=json.dumps(document).encode(),
        env=environment(),
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_parser_finds_nothing_wrong_and_every_topic_query_and_gateway_message() -> None:
    found = parsed(asyncapi())
    assert found["valid"]
    assert [each for each in found["diagnostics"] if each["code"] != NEWER_FORM] == []
    assert set(found["channels"]) == {*KINDS, "query", "answers", "gateway"}
    assert {*contract().requests, *(f"gateway_{action}" for action in gateway_messages().requests)} <= set(
        found["operations"]
    )


@pytest.mark.parametrize("path", [("operations", "replay", "action"), ("info",)])
def test_the_parser_refuses_a_document_that_lacks_a_part(path: tuple[str, ...]) -> None:
    document = copy.deepcopy(asyncapi())
    place: dict[str, Any] = document
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    found = parsed(document)
    assert not found["valid"]
    assert any(each["severity"] == ERROR for each in found["diagnostics"])


def test_the_command_prints_the_same_document_versioned_with_the_protocol() -> None:
    code, out, error = finish("describe", "--asyncapi")
    assert (code, error) == (0, "")
    assert json.loads(out) == asyncapi()
    assert json.loads(out)["info"]["version"] == f"{PROTOCOL}.0.0"
