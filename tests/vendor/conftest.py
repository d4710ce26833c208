"""An interface of the fake library and an ear for its callbacks, used without the bridge."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import TRADE_RECORD
from tests.vendor.control import Vendor
from tests.vendor.raw import Ear, RawInterface

TRADES = PumpCode.UPDATE_TRADES


@pytest.fixture
def api(vendor: Vendor) -> Iterator[RawInterface]:
    """Return an interface that is released at the end, so that its callbacks stop before their ear goes."""
    interface = RawInterface(vendor)
    yield interface
    interface.call("Disconnect")


@pytest.fixture
def ear() -> Ear:
    """Return a callback that keeps whole trades."""
    return Ear({int(TRADES): TRADE_RECORD.size})
