"""SUBSCRIBERS names each class and notice of the Python client."""

from __future__ import annotations

from pathlib import Path

from mt4pump import client
from mt4pump.client.event import NOTICE_KINDS

PAGE = (Path(__file__).parents[2] / "consumers" / "SUBSCRIBERS.md").read_text(encoding="utf-8")
HELPERS = {"Notifier", "SignalSafeEvent", "console_events", "mend_streams", "one_line"}
"""What our own consumers use."""


def test_the_page_names_each_class_and_notice() -> None:
    names = [*NOTICE_KINDS, *(set(client.__all__) - HELPERS)]
    assert [name for name in names if f"`{name}`" not in PAGE] == []
