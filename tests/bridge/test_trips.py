"""ARCHITECTURE's two trips are what runs: the files that a quote and a trade enter, from the callback to the socket."""

from __future__ import annotations

import ctypes
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

import mt4pump
from mt4pump.bridge.callback import Callback
from mt4pump.bridge.dll_manager import DllManager
from mt4pump.journal import Journal, JournalOptions
from mt4pump.mt4.layout import CON_SYMBOL
from mt4pump.pump.session import ManagerSession
from mt4pump.wire import Send
from tests.bus import context, until
from tests.pump.running import BIDASK, TRADES, RunningPump, quote, trade
from tests.vendor.control import Vendor

PACKAGE = Path(mt4pump.__file__).parent
FILES = {"quote": 7, "trade": 13}


class Walk:
    """Lists the files of ours that are entered below the functions ``within``, in order, until ``topic`` is sent."""

    def __init__(self, send: Send) -> None:
        self.within: frozenset[str] = frozenset()
        self.files: dict[str, None] = {}
        self.topic, self._sending = b"", b""
        self._send = send

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        """Be the profile function of a thread."""
        path = Path(frame.f_code.co_filename)
        if event == "call" and self.within and path.is_relative_to(PACKAGE) and self._is_within(frame):
            self.files[path.relative_to(PACKAGE).as_posix()] = None

    def _is_within(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code.co_name in self.within:
                return True
            frame = frame.f_back
        return False

    def send_frame(self, data: bytes, flags: int = 0, /) -> object:
        """Send a frame; the body of a message on ``topic`` ends the walk."""
        if flags:
            self._sending = data
        elif self._sending == self.topic:
            self.within = frozenset()
        return self._send(data, flags)

    def of(self, topic: str, running: RunningPump, ring: Callable[[], object], *within: str) -> list[str]:
        """Return the files from the callback, which ``ring`` calls, to the message on ``topic``."""
        until(lambda: not running.pump.is_busy, "the pump waits: what it did until now is no part of this trip")
        self.files, self.topic, self.within = {}, topic.encode(), frozenset({"on_event", *within})
        sys.setprofile(self)
        try:
            ring()
        finally:
            sys.setprofile(None)
        running.next(topic)
        return list(self.files)


@pytest.fixture(name="running")
def _running(manager: DllManager, vendor: Vendor, tmp_path: Path) -> Iterator[RunningPump]:
    """Give a pump on the fake library, with a journal."""
    vendor.accept("", 7, "secret")
    vendor.start_after(None)
    vendor.set_table("SymbolsGetAll", [CON_SYMBOL.pack({"symbol": "EURUSD", "digits": 5})])
    manager.connect("one:443")
    manager.login(7, "secret")
    with context() as own:
        journal = Journal(tmp_path / "journal.sqlite3", JournalOptions(), time.time_ns)
        running = RunningPump(own, journal=journal)
        running.session = ManagerSession(manager, "one:443", 7)
        manager.pump(0, running.inbox.notify)
        yield running
        running.finish()


def documented(what: str) -> list[str]:
    """Return the files of a trip in ARCHITECTURE.md."""
    text = (PACKAGE / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = text.partition(f"## A {what}, from callback to socket\n")[2].partition("\n## ")[0]
    return re.findall(r"^\d+\. `([a-z0-9_/]+\.py)`", section, re.MULTILINE)


def test_the_two_trips_enter_the_files_that_architecture_lists(running: RunningPump, vendor: Vendor) -> None:
    walk = Walk(running.publisher.send_frame)
    running.publisher.send_frame = walk.send_frame
    threading.setprofile(walk)
    try:
        running.attach()
    finally:
        threading.setprofile(None)
    callback = Callback()
    callback.mark_python_thread()
    param = callback.open(running.inbox.notify)
    record = ctypes.create_string_buffer(trade(1))

    def ring_quote(bid: float) -> None:
        vendor.set_quotes([quote(bid=bid)])
        callback.function(BIDASK, 0, None, param)

    def ring_trade() -> None:
        callback.function(TRADES, 0, ctypes.addressof(record), param)

    walk.of("quote.EURUSD", running, lambda: ring_quote(1.1), "_handle_item")  # the first one also makes the topic
    quotes = walk.of("quote.EURUSD", running, lambda: ring_quote(1.2), "_handle_item")
    trades = walk.of("trade.100", running, ring_trade, "_handle_item", "flush")
    assert quotes == documented("quote")
    assert trades == documented("trade")
    assert {"quote": len(quotes), "trade": len(trades)} == FILES
