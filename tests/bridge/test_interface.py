"""Calls through the interface's table: every code becomes a named error, every array goes back through MemFree."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mt4pump.bridge import interface as interface_module
from mt4pump.bridge.interface import Interface, ansi_path, plugin_array
from mt4pump.bridge.library import Library
from mt4pump.errors import ConnectionLost, LoginError, ManagerError
from mt4pump.mt4.codes import LOGIN_REFUSALS, ReturnCode
from mt4pump.mt4.layout import CON_PLUGIN_PARAM, PLUGIN_CFG, TRADE_RECORD
from tests.bridge.low_memory import low_memory
from tests.vendor.control import Vendor

FAILURES = sorted(set(ReturnCode) - {ReturnCode.RET_OK, ReturnCode.RET_OK_NONE})


@pytest.fixture
def interface(library: Library, tmp_path: Path) -> Iterator[Interface]:
    """Return a fresh interface that is released afterwards."""
    made = library.create(tmp_path)
    yield made
    made.call("Release")


class TestCheck:
    """One error check for every call."""

    @pytest.mark.parametrize("code", FAILURES, ids=lambda code: code.name)
    def test_every_known_code_is_raised_by_name_with_the_api_s_description(
        self, interface: Interface, vendor: Vendor, code: ReturnCode
    ) -> None:
        vendor.script("SymbolAdd", code)
        with pytest.raises(ManagerError) as failure:
            interface.check("SymbolAdd", b"EURUSD")
        error = failure.value
        described = interface.call("ErrorDescription", code).decode()
        assert described != "Unknown error"
        assert (error.call, error.code, error.name) == ("SymbolAdd", code, code.name)
        assert error.description.startswith(described)
        assert str(error) == f"SymbolAdd: {code.name} ({int(code)}): {error.description}"

    @pytest.mark.parametrize("code", [0, 1])
    def test_ok_and_nothing_to_do_are_success(self, interface: Interface, vendor: Vendor, code: int) -> None:
        vendor.script("SymbolAdd", code)
        interface.check("SymbolAdd", b"EURUSD")

    @pytest.mark.parametrize("code", [-1, 77, 2**31 - 1])
    def test_unknown_code_is_an_error_with_its_number(self, interface: Interface, vendor: Vendor, code: int) -> None:
        vendor.script("SymbolAdd", code)
        with pytest.raises(ManagerError, match=rf"unknown \({code}\): Unknown error"):
            interface.check("SymbolAdd", b"EURUSD")

    @pytest.mark.parametrize("code", [6, 255])
    @pytest.mark.parametrize("call", ["Connect", "SymbolAdd"])
    def test_no_link_is_a_lost_connection_in_every_call(
        self, interface: Interface, vendor: Vendor, code: int, call: str
    ) -> None:
        vendor.script(call, code)
        with pytest.raises(ConnectionLost):
            interface.check(call, b"x")

    @pytest.mark.parametrize("code", FAILURES, ids=lambda code: code.name)
    def test_login_is_refused_only_by_what_a_retry_cannot_cure(
        self, interface: Interface, vendor: Vendor, code: ReturnCode
    ) -> None:
        vendor.script("Login", code)
        with pytest.raises(ManagerError) as failure:
            interface.check("Login", 1, b"x")
        assert isinstance(failure.value, LoginError) is (code in LOGIN_REFUSALS)

    @pytest.mark.parametrize(
        ("code", "meaning"),
        [(65, "not a manager account"), (151, "called while pumping"), (255, "the server did not answer")],
    )
    def test_meaning_that_users_found_is_added(
        self, interface: Interface, vendor: Vendor, code: int, meaning: str
    ) -> None:
        vendor.script("SymbolAdd", code)
        with pytest.raises(ManagerError, match=meaning):
            interface.check("SymbolAdd", b"x")

    def test_method_that_the_dll_lacks_is_named_not_called(
        self, interface: Interface, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "platform", "win32")
        monkeypatch.setattr(interface_module, "WORD_BITS", 64)
        assert not interface.has("NewsGet")
        assert interface.has("TradesGet")
        with pytest.raises(ManagerError, match=r"NewsGet: .*does not have the method"):
            interface.array("NewsGet", 640)
        assert vendor.calls("NewsGet") == 0


class TestArrays:
    """Arrays and texts that the API allocates."""

    @pytest.fixture(autouse=True)
    def _symbols(self, vendor: Vendor) -> None:
        vendor.set_table("SymbolsGetAll", [bytes([number]) * 1936 for number in range(3)])

    def test_array_is_copied_and_freed(self, interface: Interface, vendor: Vendor) -> None:
        records = interface.array("SymbolsGetAll", 1936)
        assert records == b"".join(bytes([number]) * 1936 for number in range(3))
        assert (vendor.count("memfree_calls"), vendor.count("outstanding")) == (1, 0)

    def test_null_with_total_zero_is_an_empty_table_and_frees_nothing(
        self, interface: Interface, vendor: Vendor
    ) -> None:
        vendor.set_table("SymbolsGetAll")
        assert interface.array("SymbolsGetAll", 1936) == b""
        assert vendor.count("memfree_calls") == 0

    def test_pointer_with_negative_total_is_an_error_and_freed(self, interface: Interface, vendor: Vendor) -> None:
        vendor.script("SymbolsGetAll", -1, pointer=True)
        with pytest.raises(ManagerError, match=r"SymbolsGetAll: RET_INVALID_DATA \(3\): .* of -1 records"):
            interface.array("SymbolsGetAll", 1936)
        assert (vendor.count("memfree_calls"), vendor.count("outstanding")) == (1, 0)

    def test_null_with_a_total_is_an_error(self, interface: Interface, vendor: Vendor) -> None:
        vendor.script("SymbolsGetAll", 5)
        with pytest.raises(ManagerError, match="of 5 records"):
            interface.array("SymbolsGetAll", 1936)
        assert vendor.count("memfree_calls") == 0

    def test_pointer_with_total_zero_is_empty_and_freed(self, interface: Interface, vendor: Vendor) -> None:
        vendor.script("SymbolsGetAll", 0, pointer=True)
        assert interface.array("SymbolsGetAll", 1936) == b""
        assert (vendor.count("memfree_calls"), vendor.count("outstanding")) == (1, 0)

    def test_array_is_freed_when_it_cannot_be_copied(
        self, interface: Interface, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_memory(*_: object) -> bytes:
            raise MemoryError

        monkeypatch.setattr(interface_module, "string_at", no_memory)
        with pytest.raises(MemoryError):
            interface.array("SymbolsGetAll", 1936)
        assert (vendor.count("memfree_calls"), vendor.count("outstanding")) == (1, 0)

    def test_no_mistake_with_memory_was_counted(self, interface: Interface, vendor: Vendor) -> None:
        for _ in range(50):
            interface.array("SymbolsGetAll", 1936)
        counts = vendor.counts()
        assert counts["memfree_calls"] == 50
        for mistake in ("double_frees", "foreign_frees", "memfree_null", "outstanding", "outstanding_bytes"):
            assert counts[mistake] == 0, mistake


class TestPlainFunctions:
    """What needs no interface."""

    @pytest.mark.parametrize("pointer_bytes", [4, 8])
    def test_plugin_array_is_followed_only_where_the_pointer_is_whole(
        self, pointer_bytes: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(interface_module, "POINTER_BYTES", pointer_bytes)
        parameters = b"".join(PLUGIN_CFG.pack({"name": f"limit {number}"}) for number in range(3))
        with low_memory(parameters) as address:
            record = CON_PLUGIN_PARAM.pack({"params": address, "total": 3})
            assert plugin_array(record, PLUGIN_CFG.size) == (parameters if pointer_bytes == 4 else None)

    @pytest.mark.parametrize(("total", "expected"), [(0, b""), (2, b"abcd"), (3, None), (-1, None), (-(2**31), None)])
    def test_plugin_array_with_a_mad_total_is_none(
        self, total: int, expected: bytes | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(interface_module, "POINTER_BYTES", 4)
        with low_memory(b"abcdef") as address:
            record = CON_PLUGIN_PARAM.pack({"params": address, "total": total})
            assert plugin_array(record, 2, limit=2) == expected

    def test_plugin_array_without_a_pointer_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(interface_module, "POINTER_BYTES", 4)
        assert plugin_array(CON_PLUGIN_PARAM.pack({"params": 0, "total": 3}), PLUGIN_CFG.size) is None

    @pytest.mark.skipif(sys.platform == "win32", reason="on Windows the ANSI code page decides")
    def test_path_keeps_its_bytes(self) -> None:
        assert ansi_path(Path("/tmp/größe")) == "/tmp/größe".encode()  # noqa: S108 - a name, never opened

    def test_trade_record_is_224_bytes(self) -> None:
        assert TRADE_RECORD.size == 224
