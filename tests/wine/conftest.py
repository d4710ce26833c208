"""The Windows machine of the session, and the marks of everything in this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vendor.compile import WINDOWS_32, WINDOWS_64, compile_fake
from tests.wine.machine import Machine, machine, missing

HERE = Path(__file__).parent
LIMIT_S = 600
"""The first test of a fresh machine also sets it up; the unit suite has a limit of its own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.wine)
            item.add_marker(pytest.mark.timeout(LIMIT_S))


@pytest.fixture(scope="session")
def windows() -> Iterator[Machine]:
    """Give the running machine, made when it is not there yet; without Wine, skip."""
    if reason := missing():
        pytest.skip(reason)
    with machine() as made:
        yield made


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the fake library as a 64-bit DLL."""
    return compile_fake(tmp_path_factory.mktemp("dll64"), WINDOWS_64)


@pytest.fixture(scope="session")
def library_32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the fake library as a 32-bit DLL."""
    return compile_fake(tmp_path_factory.mktemp("dll32"), WINDOWS_32)
