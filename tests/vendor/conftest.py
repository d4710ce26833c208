"""An interface of the fake library and a callback for it, used without the bridge."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import TRADE_RECORD
from tests.vendor.control import Vendor
from tests.vendor.raw import RawCallback, RawInterface

TRADES = PumpCode.UPDATE_TRADES


@pytest.fixture
def api(vendor: Vendor) -> Iterator[RawInterface]:
    """Return an interface that is released at the end, so that nothing calls the callback once it is freed."""
    interface = RawInterface(vendor)
    yield interface
    interface.call("Disconnect")


@pytest.fixture
def callback() -> RawCallback:
    """Return a callback that keeps whole trades."""
    return RawCallback({int(TRADES): TRADE_RECORD.size})
