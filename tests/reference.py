"""Facts about the vendor's API that the project is built from: a folder beside it, absent from an installed copy."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[1].parent / "shared"
REQUIRE_ALL = "REQUIRE_ALL_TESTS"
"""Environment variable: set to 1, a missing reference fails the test that needs it instead of skipping it."""


def reference_path(*parts: str) -> Path:
    """Return a path below the reference folder; skip, or fail, the calling test when it is not there."""
    path = FOLDER.joinpath(*parts)
    if path.exists():
        return path
    reason = f"{path} is not here: this test compares with the reference that lies beside the project"
    if os.environ.get(REQUIRE_ALL) == "1":
        pytest.fail(f"{reason}, and {REQUIRE_ALL}=1 asks for all tests")
    pytest.skip(reason)


@functools.cache
def _loaded(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def api_layout() -> dict[str, Any]:
    """Return every struct of the API's header by name."""
    structs: dict[str, Any] = _loaded(reference_path("reference", "mt4api", "layout.json"))["structs"]
    return structs


def api_codes(enum: str) -> dict[str, int]:
    """Return names and numbers of one enumeration of the API's header."""
    enums = _loaded(reference_path("reference", "mt4api", "codes.json"))["enums"]
    (found,) = [entry for entry in enums if entry["enum"] == enum]
    return {value["name"]: value["value"] for value in found["values"]}
