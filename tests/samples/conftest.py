"""One workshop for all tests of the samples."""

from __future__ import annotations

import pytest

from tests.samples.languages import Workshop


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Give what builds each sample once."""
    return Workshop(lambda name: tmp_path_factory.mktemp(f"sample-{name}"))
