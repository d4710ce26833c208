"""`mt4pump_consumers.metrics.exporter`: when the daemon is asked, and of which run the answer is."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from mt4pump_consumers.metrics import exporter as module
from mt4pump_consumers.metrics.exporter import DurableKindsQuery

from mt4pump.client import ClientError
from tests.consumers.metrics.test_metrics_collector import STATUS
from tests.consumers.metrics.test_metrics_exporter import settings


def test_each_run_of_the_daemon_is_asked_once_and_a_failure_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    query = MagicMock()
    query.__enter__.return_value = query
    query.describe.side_effect = ClientError("timeout", "no answer")
    monkeypatch.setattr(module, "Query", lambda *_: query)
    now_s = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    kinds = DurableKindsQuery(settings())
    kinds.update(replace(STATUS, alive=False))
    assert query.describe.call_count == 0
    for _ in range(2):
        kinds.update(STATUS)
    assert query.describe.call_count == 1
    query.describe.side_effect = None
    query.describe.return_value = {
        "epoch": STATUS.epoch,
        "kinds": {"trade": {"durable": True}, "mail": {"durable": False}, "other": {"durable": True}},
    }
    now_s[0] += module.QUERY_RETRY_S
    for _ in range(2):
        kinds.update(STATUS)
    assert query.describe.call_count == 2
    assert kinds.of(STATUS.epoch) == {"trade": True, "mail": False}
    assert kinds.of(STATUS.epoch + 1) == {}
    kinds.update(replace(STATUS, epoch=STATUS.epoch + 1))
    assert query.describe.call_count == 3


def test_an_endpoint_without_a_port_has_nobody_to_ask() -> None:
    kinds = DurableKindsQuery(settings("--endpoint", "ipc:///run/mt4pump/pub"))
    kinds.update(STATUS)
    assert kinds.of(STATUS.epoch) == {}
