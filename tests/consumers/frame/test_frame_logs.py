"""A consumer's log: one harmless line per fact, whatever the feed or a token holds."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from mt4pump_consumers.frame import logs

from tests.hostile import HOSTILE, is_harmless
from tests.isolation import logging_put_back

__all__ = ["logging_put_back"]


def fail(text: str) -> None:
    """Raise what is to be logged."""
    raise ValueError(text)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("style", ["human", "json"])
def test_a_consumers_log_line_is_harmless_wherever_the_text_stands(
    text: str, style: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("info", style)
    log = logging.getLogger("mt4pump_consumers.test")
    log.warning("client %s logged in", text)
    try:
        fail(text)
    except ValueError:
        log.exception("failed: %r", text, extra={"reason": text})
    lines = capsys.readouterr().err.removesuffix("\n").split("\n")
    assert len(lines) == 2
    assert all(map(is_harmless, lines))
    if style == "json":
        assert json.loads(lines[0])["message"] == f"client {text} logged in"
