"""Pytest fixtures of the fake vendor library; registered by tests/conftest.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vendor.compile import compile_fake
from tests.vendor.control import Vendor

COMPILED = "FAKE_MT4_LIBRARY"
"""Environment variable: a fake that is compiled already, for a machine that has no compiler."""


@pytest.fixture(scope="session")
def vendor_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the compiled fake library; one file for the whole session, as the bridge loads a file only once."""
    compiled = os.environ.get(COMPILED)
    return Path(compiled) if compiled else compile_fake(tmp_path_factory.mktemp("vendor"))


@pytest.fixture(scope="session")
def vendor_session(vendor_library: Path) -> Iterator[Vendor]:
    """Return the controls for the whole session, and end the library's threads after it."""
    vendor = Vendor(vendor_library)
    yield vendor
    vendor.shutdown()


@pytest.fixture
def vendor(vendor_session: Vendor) -> Iterator[Vendor]:
    """Return the controls of a library that knows nothing yet, and silence it after the test."""
    vendor_session.reset()
    yield vendor_session
    vendor_session.reset()
