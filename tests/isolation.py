"""Fixtures for settings, logs and the command line: an empty folder, no variables of ours, logging put back."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start in an empty folder with none of our variables set."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith("MT4PUMP_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def logging_put_back() -> Iterator[None]:
    """Undo what `mt4pump.log.configure` did to the process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
