"""The bridge calls each method at the reference's index, with the reference's types, and only what a pump may call."""

from __future__ import annotations

import ctypes
import json
from ctypes import POINTER, c_char_p, c_int, c_void_p
from typing import Any

import pytest

from mt4pump.bridge.interface import METHODS, NOTIFY_EX, POINTER_BYTES, TABLE_METHODS, WORD_BITS
from mt4pump.mt4.manager import TABLES
from tests.reference import reference_path
from tests.vendor.control import Vendor

NAMED_TYPES = {"None": None, "c_int": c_int, "c_char_p": c_char_p, "c_void_p": c_void_p, "NOTIFY_EX": NOTIFY_EX}


def reference() -> dict[str, dict[str, Any]]:
    """Return the vendor's methods by name."""
    text = reference_path("reference", "mt4api", "vtable.json").read_text(encoding="utf-8")
    return {method["name"]: method for method in json.loads(text)["methods"]}


def matches(ours: Any, theirs: str) -> bool:
    """Return whether a ctypes type passes what the reference's type names; any pointer may go as c_void_p."""
    if theirs.startswith("POINTER"):
        return ours is c_void_p or (theirs == "POINTER(c_int)" and ours is POINTER(c_int))
    return ours is NAMED_TYPES[theirs] or (theirs == "c_char_p" and ours is c_void_p)


@pytest.mark.parametrize("name", METHODS)
def test_method_has_the_reference_index_and_types(name: str) -> None:
    ours, theirs = METHODS[name], reference()[name]
    assert ours.slot == theirs["index"]
    assert len(ours.arguments) == len(theirs["args"])
    kinds = [c_void_p, *ours.arguments]
    for kind, expected in zip(kinds, theirs["ctypes_argtypes"], strict=True):
        assert matches(kind, expected), (kind, expected)
    if theirs.get("free_with_MemFree"):
        assert ours.result is c_void_p, "c_char_p would lose the address that MemFree needs"
    else:
        assert ours.result is NAMED_TYPES[theirs["ctypes_restype"]]


@pytest.mark.parametrize("name", METHODS)
def test_no_method_is_one_that_ends_the_pump(name: str) -> None:
    assert reference()[name]["mode"] in {"both", "pumping_only", "switch"}


@pytest.mark.parametrize("table", TABLES)
def test_each_table_is_read_by_a_method_of_its_record(table: str) -> None:
    assert reference()[TABLE_METHODS[table]]["returns"] == f"{TABLES[table]} *"


@pytest.mark.parametrize("name", METHODS)
def test_the_fake_library_implements_every_method_that_the_bridge_calls(name: str, vendor: Vendor) -> None:
    assert vendor.methods[name].slot == METHODS[name].slot


def test_word_size_is_this_python_s() -> None:
    assert ctypes.sizeof(c_void_p) == POINTER_BYTES
    assert 8 * POINTER_BYTES == WORD_BITS
