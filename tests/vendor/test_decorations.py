"""The 32-bit ABI, as far as it can be seen without running it: names that the compiler decorates.

On x86 ``_name@8`` is stdcall and cleans 8 bytes of stack, ``_name`` is cdecl. Methods and the trampolines that the
bridge calls them through must be stdcall, the two exports cdecl, as in the vendor's DLL.
"""

from __future__ import annotations

import pytest

from mt4pump.bridge.interface import METHODS
from tests.vendor.compile import WINDOWS_32, compile_objects
from tests.vendor.control import Vendor
from tests.vendor.pe import coff_symbols

WORD_BYTES = 4


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return every name in the 32-bit objects."""
    folder = tmp_path_factory.mktemp("objects")
    return {name for file in compile_objects(folder, WINDOWS_32) for name in coff_symbols(file)}


def test_exports_and_controls_are_cdecl(names: set[str]) -> None:
    assert {"_MtManVersion", "_MtManCreate", "_fake_reset"} <= names
    assert not [name for name in names if name.startswith(("_MtMan", "_fake_")) and "@" in name]


def test_methods_are_stdcall_and_clean_this_and_their_arguments(names: set[str], vendor: Vendor) -> None:
    for name, method in vendor.methods.items():
        assert f"_{name}@{WORD_BYTES * (1 + method.words)}" in names, name


def test_traps_clean_what_the_real_method_would(names: set[str], vendor: Vendor) -> None:
    traps = {slot: vendor.trap_words(slot) for slot in range(195) if vendor.trap_words(slot) >= 0}
    assert len(traps) + len(vendor.methods) == 195
    for slot, words in traps.items():
        assert f"_trap_{slot}@{WORD_BYTES * (1 + words)}" in names


def test_the_bridge_passes_the_bytes_that_the_methods_clean(vendor: Vendor) -> None:
    """Pointers and ints are one word each on x86: a long argument would shift the stack."""
    for name, method in METHODS.items():
        assert len(method.arguments) == vendor.methods[name].words, name
