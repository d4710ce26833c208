"""What a monitor concludes from a snapshot.

Private access: the monitor's loop with one subscriber, because the subscriber must deliver a snapshot and nothing else.
"""

from __future__ import annotations

from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
from mt4pump_consumers.monitor.monitor import Monitor
from mt4pump_consumers.monitor.rules import Condition, MarginCall, RuleEngine, RuleMemory
from mt4pump_consumers.monitor.settings import MonitorSettings
from mt4pump_consumers.monitor.state import MonitorState
from mt4pump_consumers.monitor.store import MonitorStore

from mt4pump.process.program import settings_of
from tests.consumers.monitor.monitor_run import margin
from tests.consumers.monitor.test_monitor_silence import status


@pytest.mark.parametrize("is_joined", [True, False], ids=["whole", "amid its pages"])
def test_a_margin_call_that_ended_meanwhile_is_over_once_the_snapshot_is_whole(*, is_joined: bool) -> None:
    memory = RuleMemory()
    for login in ("1001", "1002"):
        memory.begin(("call", login), Condition(5, reported=True))
    engine = RuleEngine([MarginCall(name="call", when="margin_call", quiet_s=0)], memory)
    items = [None, margin(login=1002, action=None, came="snapshot")]
    seen = status(since=0)
    subscriber: Any = SimpleNamespace(
        receive=lambda _timeout_s: items.pop(), status=seen, is_joined=is_joined, position=None
    )
    view: Any = SimpleNamespace(refresh=lambda _now_s: None)
    recorder: Any = SimpleNamespace(webhook=None, is_due=lambda _now_s: False)
    shutdown: Any = SimpleNamespace(asked=lambda: not items)
    settings, state = settings_of(MonitorSettings, []).settings, MonitorState()
    with closing(MonitorStore(None, webhook=False, backlog=1)) as store:
        monitor = Monitor(
            settings, None, store=store, engine=engine, state=state, recorder=recorder, view=view, shutdown=shutdown
        )
        monitor._read(subscriber)  # noqa: SLF001
    ended = [("resolved", "1001")] if is_joined else []
    assert [(alert.status, alert.subject) for alert in engine.alerts] == ended
