"""The fake library gives prices as the API does: selected symbols, latest value each, or every tick."""

from __future__ import annotations

from ctypes import create_string_buffer
from itertools import pairwise

import pytest

from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import CON_SYMBOL, SYMBOL_INFO
from tests.bus import until
from tests.vendor.control import Vendor
from tests.vendor.raw import RawCallback, RawInterface

BIDASK = PumpCode.UPDATE_BIDASK
START = PumpCode.START_PUMPING


def quote(symbol: str, bid: float, digits: int = 5) -> bytes:
    """Return a SymbolInfo record."""
    point = 10.0**-digits
    return SYMBOL_INFO.pack(
        {"symbol": symbol, "digits": digits, "point": point, "bid": bid, "ask": bid + point, "high": bid, "low": bid}
    )


class TestQuotes:
    """SymbolAdd, SymbolInfoUpdated, and the two ways to keep ticks."""

    def read_all(self, api: RawInterface, count: int, limit: int = 32) -> list[bytes]:
        """Read until ``count`` records came."""
        found: list[bytes] = []

        def read_on() -> bool:
            found.extend(self.updated(api, limit))
            return len(found) >= count

        until(read_on, f"{count} ticks")
        return found

    @staticmethod
    def updated(api: RawInterface, limit: int = 32) -> list[bytes]:
        """Return what SymbolInfoUpdated fills."""
        buffer = create_string_buffer(SYMBOL_INFO.size * limit)
        count = api.call("SymbolInfoUpdated", buffer, limit)
        size = SYMBOL_INFO.size
        return [buffer.raw[place * size : (place + 1) * size] for place in range(count)]

    def test_only_selected_symbols_flow_latest_value_oldest_mark_first(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        api.start(callback)
        vendor.set_quotes(quote(name, 1.0) for name in ("EURUSD", "GBPUSD", "USDJPY"))
        for name in (b"GBPUSD", b"EURUSD"):
            assert api.call("SymbolAdd", name) == 0
        newest = [quote("EURUSD", 1.2), quote("GBPUSD", 1.3)]
        vendor.set_quotes([quote("EURUSD", 1.1), quote("USDJPY", 9.0), *reversed(newest), newest[0]])
        assert self.updated(api, 1) == newest[:1]
        assert self.updated(api) == newest[1:]
        assert self.updated(api) == []
        assert vendor.count("symbols_added") == 2

    def test_unknown_symbol_is_refused_and_a_configured_one_is_not(self, api: RawInterface, vendor: Vendor) -> None:
        vendor.set_table("SymbolsGetAll", [CON_SYMBOL.pack({"symbol": "TWELVELETTER"})])
        assert api.call("SymbolAdd", b"NOSUCH") == 2
        assert api.call("SymbolAdd", b"TWELVELETTER") == 0
        assert vendor.count("symbols_refused") == 1

    def test_hidden_symbol_is_silent(self, api: RawInterface, vendor: Vendor, callback: RawCallback) -> None:
        api.start(callback)
        vendor.set_quotes([quote("EURUSD", 1.0)])
        api.call("SymbolAdd", b"EURUSD")
        vendor.set_quotes([quote("EURUSD", 1.1)])
        assert api.call("SymbolHide", b"EURUSD") == 0
        vendor.set_quotes([quote("EURUSD", 1.2)])
        assert self.updated(api) == []
        assert api.call("SymbolHide", b"EURUSD") == 2

    def test_selection_ends_with_the_connection(self, api: RawInterface, vendor: Vendor, callback: RawCallback) -> None:
        vendor.set_quotes([quote("EURUSD", 1.0)])
        api.call("SymbolAdd", b"EURUSD")
        api.start(callback)
        api.call("Disconnect")
        api.start(callback)
        vendor.set_quotes([quote("EURUSD", 1.1)])
        assert self.updated(api) == []

    def test_run_moves_prices_by_a_point_and_rings(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        api.start(callback)
        vendor.wait()
        vendor.set_quotes([quote("EURUSD", 1.1), quote("USDJPY", 150.0, digits=3)])
        vendor.keep_every_tick(100)
        for name in (b"EURUSD", b"USDJPY"):
            api.call("SymbolAdd", name)
        vendor.run_quotes(6, 2)
        vendor.wait()
        assert callback.codes() == [START, *[BIDASK] * 6]
        read = SYMBOL_INFO.struct
        bids = [dict(zip(SYMBOL_INFO.by_name, read.unpack(record), strict=True))["bid"] for record in self.updated(api)]
        assert bids == [1.10001, 150.001, 1.10002, 150.002, 1.10003, 150.003]

    def test_every_tick_mode_collapses_nothing(self, api: RawInterface, vendor: Vendor, callback: RawCallback) -> None:
        api.start(callback)
        ticks = [quote("EURUSD", 1 + place / 100_000) for place in range(50)]
        vendor.set_quotes(ticks[:1])
        api.call("SymbolAdd", b"EURUSD")
        vendor.keep_every_tick(64)
        vendor.replay_quotes(b"".join(ticks))
        vendor.wait()
        assert self.updated(api, 20) == ticks[:20]
        assert self.updated(api, 99) == ticks[20:]
        assert vendor.count("quotes_read") == 50

    def test_full_ring_holds_the_emitter_until_somebody_reads(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        api.start(callback)
        ticks = [quote("EURUSD", 1 + place / 100_000) for place in range(9)]
        vendor.set_quotes(ticks[:1])
        api.call("SymbolAdd", b"EURUSD")
        vendor.keep_every_tick(4)
        vendor.replay_quotes(b"".join(ticks))
        assert self.read_all(api, 9, limit=2) == ticks
        assert vendor.count("ticks_dropped") == 0

    def test_full_ring_drops_and_counts_when_nobody_reads(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        api.start(callback)
        vendor.set_quotes([quote("EURUSD", 1.0)])
        api.call("SymbolAdd", b"EURUSD")
        vendor.keep_every_tick(4, wait_s=0.001)
        vendor.run_quotes(6, 1)
        vendor.wait()
        assert vendor.count("ticks_dropped") == 2

    def test_run_without_prices_is_refused(self, vendor: Vendor) -> None:
        with pytest.raises(AssertionError, match="quotes_run"):
            vendor.run_quotes(1, 1)

    def test_quotes_run_flat_out_in_order_with_a_reader_beside(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        api.start(callback)
        vendor.set_quotes([quote("EURUSD", 1.0)])
        api.call("SymbolAdd", b"EURUSD")
        vendor.keep_every_tick(256)
        vendor.run_quotes(2000, 1)
        found = self.read_all(api, 2000)
        assert len(found) == 2000
        assert all(before != after for before, after in pairwise(found))
