"""The fake library has the vendor's ABI, logs in as set, and counts calls that come too late."""

from __future__ import annotations

import json
import threading
from ctypes import c_void_p, string_at
from typing import Any

import pytest

from tests.bus import until
from tests.reference import api_layout, reference_path
from tests.vendor.control import Vendor
from tests.vendor.raw import SLOT_COUNT, RawCallback, RawInterface

WORDS = {"const double": 2}


def reference_methods() -> list[dict[str, Any]]:
    """Return the vendor's table."""
    text = reference_path("reference", "mt4api", "vtable.json").read_text(encoding="utf-8")
    methods: list[dict[str, Any]] = json.loads(text)["methods"]
    return methods


class TestBuild:
    """What the C was written with equals the reference."""

    def test_every_slot_has_the_reference_index_and_argument_words(self, vendor: Vendor) -> None:
        methods = reference_methods()
        assert [method["index"] for method in methods] == list(range(SLOT_COUNT))
        implemented = {place.slot: name for name, place in vendor.methods.items()}
        for method in methods:
            slot, words = method["index"], sum(WORDS.get(argument["type"], 1) for argument in method["args"])
            if slot in implemented:
                assert implemented[slot] == method["name"]
                assert vendor.methods[method["name"]].words == words, method
                assert vendor.trap_words(slot) == -1, method
            else:
                assert vendor.trap_words(slot) == words, method

    def test_sizes_and_offsets_are_the_reference_layout(self, vendor: Vendor) -> None:
        structs = api_layout()
        compiled = vendor.layout()
        assert len(compiled) == 28
        for name, value in compiled.items():
            record, _, field = name.partition(".")
            if field:
                (found,) = [entry for entry in structs[record]["fields"] if entry["name"] == field]
                assert value == found["offset_x86"] == found["offset_x64"], name
            else:
                assert {"x86": value, "x64": value} == structs[record]["size"], name

    def test_no_entry_of_the_table_is_empty(self, api: RawInterface) -> None:
        assert all(api.entries[slot] for slot in range(SLOT_COUNT))

    def test_a_library_opened_twice_is_one_instance(self, vendor: Vendor) -> None:
        second = Vendor(vendor.path)
        RawInterface(second)
        assert vendor.count("live_interfaces") == 1

    def test_version_is_api_400_build_1403(self, vendor: Vendor) -> None:
        assert vendor.dll.MtManVersion() == (400 << 16) | 1403


class TestLifetime:
    """Create, AddRef, Release, and calls that come too late."""

    def test_create_returns_non_zero_and_counts_until_release(self, vendor: Vendor) -> None:
        interface = RawInterface(vendor)
        assert interface.created != 0
        assert vendor.count("last_create_version") == vendor.dll.MtManVersion()
        assert interface.call("AddRef") == 2
        assert interface.call("Release") == 1
        assert vendor.count("live_interfaces") == 1
        assert interface.call("Release") == 0
        assert vendor.count("live_interfaces") == 0

    @pytest.mark.parametrize("lie", [False, True])
    def test_create_can_fail_and_can_lie(self, vendor: Vendor, lie: bool) -> None:  # noqa: FBT001
        vendor.break_create(claim_success=lie)
        interface = RawInterface(vendor)
        assert not interface.this
        assert bool(interface.created) is lie
        assert vendor.count("creates_refused") == 1

    def test_call_after_release_survives_and_is_counted(self, vendor: Vendor) -> None:
        interface = RawInterface(vendor)
        interface.call("Release")
        assert interface.call("IsConnected") != 0
        assert interface.array("TradesGet") == (None, 0)
        assert interface.call("Release") != 0
        assert vendor.count("calls_after_release") == 3
        assert vendor.count("live_interfaces") == 0

    def test_release_while_pumping_is_counted(self, vendor: Vendor, callback: RawCallback) -> None:
        interface = RawInterface(vendor)
        interface.start(callback)
        interface.call("Release")
        assert vendor.count("releases_while_pumping") == 1

    def test_release_under_a_running_call_is_counted(self, vendor: Vendor) -> None:
        interface = RawInterface(vendor)
        vendor.script("TradesGet", delay_s=30)
        reader = threading.Thread(target=interface.array, args=("TradesGet",))
        reader.start()
        until(lambda: vendor.calls("TradesGet"), "the read begins")
        interface.call("Release")
        assert vendor.count("releases_in_use") == 1
        vendor.reset()  # ends the scripted wait
        reader.join(40)
        assert not reader.is_alive()

    def test_direct_method_falls_into_a_trap(self, api: RawInterface, vendor: Vendor) -> None:
        assert api.call(12) == 151
        assert api.call(96, 1, 2, 3, 4, 5) == 151
        assert vendor.count("traps") == 2
        assert vendor.count("last_trap") == 96
        assert vendor.calls(12) == 1


class TestLogin:
    """Connect and Login: what is accepted and what the refusal is."""

    def test_anything_is_accepted_until_set_otherwise(self, api: RawInterface, vendor: Vendor) -> None:
        assert api.call("Login", 1, b"x") == 6
        assert api.call("Connect", b"any:443") == 0
        assert api.call("IsConnected") == 1
        assert api.call("Login", 1, b"x") == 0
        assert vendor.count("last_login") == 1

    def test_wrong_server_and_wrong_login_have_their_codes(self, api: RawInterface, vendor: Vendor) -> None:
        vendor.accept("right:443", 5, "secret")
        assert api.call("Connect", b"wrong:443") == 255
        assert api.call("Connect", b"right:443") == 0
        assert api.call("Login", 5, b"Secret") == 65
        assert api.call("Login", 6, b"secret") == 65
        assert api.call("Login", 5, b"secret") == 0
        assert vendor.count("logins_refused") == 2

    def test_scripted_codes_run_out(self, api: RawInterface, vendor: Vendor) -> None:
        vendor.script("Connect", 8, times=2)
        assert [api.call("Connect", b"s") for _ in range(3)] == [8, 8, 0]
        vendor.script("Connect", 4, times=-1)
        assert {api.call("Connect", b"s") for _ in range(9)} == {4}

    def test_descriptions_are_static_text(self, api: RawInterface, vendor: Vendor) -> None:
        first = api.call("ErrorDescription", 65, result=c_void_p)
        assert string_at(first) == b"Invalid account"
        assert api.call("ErrorDescription", 65, result=c_void_p) == first
        assert string_at(api.call("ErrorDescription", 12345, result=c_void_p)) == b"Unknown error"
        assert vendor.count("outstanding") == 0

    def test_each_interface_remembers_its_folder_and_server(self, vendor: Vendor) -> None:
        for number in range(2):
            interface = RawInterface(vendor)
            interface.call("WorkingDirectory", b"folder %d" % number)
            interface.call("Connect", b"server %d" % number)
        assert vendor.given(0) == (b"folder 0", b"server 0")
        assert vendor.given(1) == (b"folder 1", b"server 1")
        assert vendor.given(2) is None
