"""What the fake library hands out: arrays to be freed, records into buffers, bodies, mails, parameters."""

from __future__ import annotations

from ctypes import byref, c_int, c_void_p, create_string_buffer, string_at

import pytest

from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import (
    CON_PLUGIN,
    CON_PLUGIN_PARAM,
    CON_SYMBOL,
    MARGIN_LEVEL,
    NEWS_TOPIC,
    PLUGIN_CFG,
    TRADE_RECORD,
)
from tests.vendor.control import Vendor
from tests.vendor.raw import RawCallback, RawInterface

START = PumpCode.START_PUMPING
TRADE = TRADE_RECORD.pack({"order": 7, "login": 100, "symbol": "EURUSD", "comment": "first"})


class TestMemory:
    """Arrays are the caller's until MemFree, and every mistake with them is counted."""

    def test_array_is_a_fresh_copy_until_memfree(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        vendor.set_table("TradesGet", [TRADE, TRADE])
        api.start(callback)
        (first, total), (second, _) = api.array("TradesGet"), api.array("TradesGet")
        assert first
        assert total == 2
        assert first != second
        assert string_at(first, 2 * len(TRADE)) == TRADE * 2
        assert vendor.count("outstanding") == 2
        assert vendor.count("outstanding_bytes") == 4 * len(TRADE)
        for address in (first, second):
            api.call("MemFree", c_void_p(address))
        assert vendor.count("outstanding") == 0
        assert vendor.count("memfree_calls") == 2

    def test_memfree_works_on_another_interface(self, api: RawInterface, vendor: Vendor, callback: RawCallback) -> None:
        vendor.set_table("UsersGet", [bytes(1120)])
        api.start(callback)
        address, _ = api.array("UsersGet")
        RawInterface(vendor).call("MemFree", c_void_p(address))
        assert vendor.count("outstanding") == 0

    def test_empty_table_is_null_with_total_zero(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        api.start(callback)
        assert api.array("UsersGet") == (None, 0)
        assert vendor.count("outstanding") == 0

    @pytest.mark.parametrize("started", [False, True])
    def test_trades_alone_are_an_array_to_be_freed_where_there_are_none(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback, *, started: bool
    ) -> None:
        if started:
            api.start(callback)
        address, total = api.array("TradesGet")
        assert (address is not None, total, vendor.count("outstanding")) == (True, 0, 1)
        api.call("MemFree", c_void_p(address), result=None)
        assert (vendor.count("outstanding"), vendor.count("memfree_calls")) == (0, 1)

    def test_double_free_and_foreign_pointer_are_counted_not_fatal(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        vendor.set_table("TradesGet", [TRADE])
        api.start(callback)
        address, _ = api.array("TradesGet")
        mine = create_string_buffer(8)
        for pointer in (c_void_p(address), c_void_p(address), mine, None):
            api.call("MemFree", pointer, result=None)
        counts = vendor.counts()
        assert counts["memfree_calls"] == 4
        assert (counts["double_frees"], counts["foreign_frees"], counts["memfree_null"]) == (1, 1, 1)

    def test_array_can_be_scripted_to_contradict_itself(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        api.start(callback)
        vendor.script("TradesGet", -1, pointer=True)
        address, total = api.array("TradesGet")
        assert address
        assert total == -1
        vendor.script("TradesGet", 5)
        assert api.array("TradesGet") == (None, 5)

    def test_table_of_half_a_record_is_refused(self, vendor: Vendor) -> None:
        with pytest.raises(AssertionError, match="set_table"):
            vendor.set_table("TradesGet", [TRADE[:-1]])

    def test_tables_are_local_to_a_session_but_symbols_are_not(self, api: RawInterface, vendor: Vendor) -> None:
        vendor.set_table("OnlineGet", [bytes(32)])
        vendor.set_table("SymbolsGetAll", [CON_SYMBOL.pack({"symbol": "EURUSD"})])
        assert api.array("OnlineGet") == (None, 0)
        assert api.array("SymbolsGetAll")[1] == 1


class TestRecords:
    """Reads that fill the caller's buffer."""

    def test_trade_by_order_or_garbage(self, api: RawInterface, vendor: Vendor, callback: RawCallback) -> None:
        vendor.set_table("TradesGet", [TRADE_RECORD.pack({"order": 6}), TRADE])
        api.start(callback)
        out = create_string_buffer(TRADE_RECORD.size)
        assert api.call("TradeRecordGet", 7, out) == 0
        assert out.raw == TRADE
        assert api.call("TradeRecordGet", 8, out) == 2
        assert out.raw == b"\xcc" * TRADE_RECORD.size

    def test_margin_by_login_or_error_2(self, api: RawInterface, vendor: Vendor, callback: RawCallback) -> None:
        level = MARGIN_LEVEL.pack({"login": 100, "equity": 12.5})
        vendor.set_table("MarginsGet", [level])
        api.start(callback)
        out = create_string_buffer(MARGIN_LEVEL.size)
        assert api.call("MarginLevelGet", 100, b"demo", out) == 0
        assert out.raw == level
        assert api.call("MarginLevelGet", 101, b"demo", out) == 2

    def test_plugin_parameters_have_a_32_bit_pointer(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        plugin = CON_PLUGIN.pack({"file": "risk.dll"})
        vendor.set_table("PluginsGet", [plugin])
        vendor.set_plugin_params(0, [PLUGIN_CFG.pack({"name": "limit", "value": "5"})] * 2)
        api.start(callback)
        out = create_string_buffer(CON_PLUGIN_PARAM.size)
        assert api.call("PluginParamGet", 0, out) == 0
        assert out.raw[: CON_PLUGIN.size] == plugin
        assert int.from_bytes(out.raw[-8:-4], "little")
        assert int.from_bytes(out.raw[-4:], "little") == 2
        assert api.call("PluginParamGet", 1, out) == 3

    def test_news_are_counted_read_and_their_body_comes_on_request(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        topic = NEWS_TOPIC.pack({"key": 9, "topic": "rates"})
        vendor.set_table("NewsGet", [topic])
        vendor.set_news_body(9, b"the whole text")
        api.start(callback)
        out = create_string_buffer(NEWS_TOPIC.size)
        assert api.call("NewsTotal") == 1
        assert api.call("NewsTopicGet", 0, out) == 0
        assert out.raw == topic
        assert api.call("NewsBodyGet", 9, result=c_void_p) is None
        api.call("NewsBodyRequest", 9, result=None)
        vendor.wait()
        assert callback.codes() == [START, PumpCode.UPDATE_NEWS_BODY]
        body = api.call("NewsBodyGet", 9, result=c_void_p)
        assert string_at(body) == b"the whole text"
        api.call("MemFree", c_void_p(body), result=None)
        assert vendor.count("outstanding") == 0

    def test_body_is_given_to_the_session_that_asked_for_it_only(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        vendor.set_news_body(9, b"text")
        other = RawInterface(vendor)
        for interface in (api, other):
            interface.start(callback)
        api.call("NewsBodyRequest", 9, result=None)
        assert other.call("NewsBodyGet", 9, result=c_void_p) is None
        assert api.call("NewsBodyGet", 9, result=c_void_p)
        for interface in (api, other):
            interface.call("Disconnect")
        api.start(callback)
        assert api.call("NewsBodyGet", 9, result=c_void_p) is None, "a new session asked for nothing yet"

    def test_full_news_need_no_request(self, api: RawInterface, vendor: Vendor, callback: RawCallback) -> None:
        vendor.set_news_body(9, b"text")
        api.start(callback, flags=8)
        assert api.call("NewsBodyGet", 9, result=c_void_p)

    def test_last_mail_names_the_file_and_its_size(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        api.start(callback)
        path, length = create_string_buffer(64), c_int(64)
        assert api.call("MailLast", path, byref(length)) == 1
        assert (path.value, length.value) == (b"", 0)
        vendor.set_mail(b"mailbox/1.eml", 300)
        length.value = 64
        assert api.call("MailLast", path, byref(length)) == 0
        assert (path.value, length.value) == (b"mailbox/1.eml", 300)
        length.value = 13
        assert api.call("MailLast", path, byref(length)) == 3, "no room for the NUL"
