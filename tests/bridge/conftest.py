"""Sessions on the fake vendor library, closed before the library forgets them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mt4pump.bridge.dll_manager import DllManager
from mt4pump.bridge.library import Library, load
from tests.bridge.recorder import NotifyRecorder
from tests.vendor.control import Vendor

Open = Callable[[], DllManager]


@pytest.fixture
def library(vendor: Vendor) -> Library:
    """Return the bridge's view of the fake library; one per process, so counters are compared, not read."""
    return load(vendor.path)


@pytest.fixture
def open_manager(library: Library, tmp_path: Path) -> Iterator[Open]:
    """Return a maker of managers, each with its own working folder; all are closed after the test."""
    made: list[DllManager] = []

    def make() -> DllManager:
        made.append(DllManager(library, tmp_path / f"session {len(made)}"))
        return made[-1]

    yield make
    for manager in made:
        manager.close()


@pytest.fixture
def manager(open_manager: Open) -> DllManager:
    """Return a manager that is not connected yet."""
    return open_manager()


@pytest.fixture
def recorder() -> NotifyRecorder:
    """Return a ``notify`` that writes down what it receives."""
    return NotifyRecorder()


@pytest.fixture
def pumping(manager: DllManager, recorder: NotifyRecorder, vendor: Vendor) -> DllManager:
    """Return a manager that pumps into ``hearing``; START has been received."""
    manager.connect("host:443")
    manager.login(1, "secret")
    manager.pump(0, recorder)
    vendor.wait()
    return manager
