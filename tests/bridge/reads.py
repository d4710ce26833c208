"""Every read of a Manager, and one that does not come back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from mt4pump.bridge.dll_manager import DllManager
from mt4pump.errors import ConnectionLost
from mt4pump.mt4.manager import TABLES
from tests.bus import until
from tests.vendor.control import Vendor

Read = Callable[[DllManager], object]
READS: dict[str, Read] = {
    "select_symbol": lambda manager: manager.select_symbol(b"EURUSD"),
    "hide_symbol": lambda manager: manager.hide_symbol(b"EURUSD"),
    "updated_quotes": lambda manager: manager.updated_quotes(),
    "request_news_body": lambda manager: manager.request_news_body(1),
    "news_body": lambda manager: manager.news_body(1),
    "last_mail": lambda manager: manager.last_mail(),
    "plugin_parameters": lambda manager: manager.plugin_parameters(0),
    **{f"table {name}": lambda manager, name=name: manager.table(name) for name in TABLES},  # type: ignore[misc]
}


@contextmanager
def stuck_read(manager: DllManager, vendor: Vendor) -> Iterator[None]:
    """Run the body while another thread is inside a read that does not come back by itself; it does at the end."""

    def read() -> None:
        with suppress(ConnectionLost):  # how it ends is for other tests
            manager.table("trades")

    vendor.script("TradesGet", delay_s=3600)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        until(lambda: vendor.calls("TradesGet"), "the read begins")
        yield
    finally:
        vendor.reset()
        reader.join(40)
        assert not reader.is_alive()
