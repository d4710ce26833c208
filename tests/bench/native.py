"""The compiled fake library as a benchmark's source: the real bridge, callbacks from a native thread."""

from __future__ import annotations

import atexit
import math
import shutil
import statistics
import tempfile
from pathlib import Path

from mt4pump.bridge.dll_manager import DllManager
from mt4pump.bridge.library import load
from mt4pump.cli.bench import SYMBOLS, quote_records, trade_changes
from mt4pump.mt4.codes import PumpCode, Transaction
from mt4pump.mt4.layout import CON_SYMBOL, TRADE_RECORD
from mt4pump.session_source import Source
from tests.vendor.compile import compile_fake
from tests.vendor.control import Vendor

EVERY_TICK_LIMIT = 20_000
"""Ticks that wait in the library before its thread waits for the pump: nothing collapses, so events can be counted."""


class NativeFeed:
    """A `mt4pump.cli.bench.Feed`. The library and its control stay loaded for the whole process."""

    _vendor: Vendor | None = None
    _path: Path | None = None

    def __init__(self) -> None:
        if NativeFeed._vendor is None:
            NativeFeed._path = compile_fake(_folder())
            NativeFeed._vendor = Vendor(NativeFeed._path)
        assert NativeFeed._path is not None
        self._control = NativeFeed._vendor
        self._control.reset()
        self._control.accept("simulator", 1, "")
        names = (CON_SYMBOL.pack({"symbol": f"BENCH{number:02d}", "digits": 5}) for number in range(SYMBOLS))
        self._control.set_table("SymbolsGetAll", names)
        self._library = load(NativeFeed._path)
        self._folder = _folder()
        self._feeds = 0
        self.source = Source(self._session, self._counters, _nothing, _nothing)

    def _session(self) -> DllManager:
        return DllManager(self._library, self._folder)

    def _counters(self) -> dict[str, int]:
        return {"callback_errors": self._library.callback.errors}

    def feed(self, kind: str, count: int, rate: float) -> None:
        """Have the native thread call back ``count`` times."""
        pace_s = 0.0 if math.isinf(rate) else 1.0 / rate
        if kind == "quote":
            self._control.set_quotes(quote_records())
            self._control.keep_every_tick(EVERY_TICK_LIMIT)
            self._control.clear_durations()
            self._control.run_quotes(count, SYMBOLS, pace_s=pace_s)
        else:
            self._control.clear_durations()
            records = b"".join(trade_changes(self._feeds))
            self._feeds += 1
            code, action = PumpCode.UPDATE_TRADES, Transaction.UPDATE
            self._control.emit_many(code, action, records, TRADE_RECORD.size, count, pace_s=pace_s)

    def note(self) -> str:
        """Return what the callback took, measured on the native side."""
        durations = self._control.durations_ns()
        return f"callback p50 {statistics.median(durations) / 1e3:.2f} µs" if durations else ""


def _folder() -> Path:
    """Return a new folder, which goes when the process ends."""
    made = Path(tempfile.mkdtemp(prefix="mt4pump-bench-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def _nothing() -> None:
    """Start and stop nothing."""
