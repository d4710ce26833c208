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

from mt4pump.client import Event
from mt4pump.process.program import settings_of
from tests.consumers.monitor.monitor_run import margin
from tests.consumers.monitor.test_monitor_silence import status

ROW = margin(login=1002, action=None, came="snapshot")
NEW = 1000 * 1000
"""The session's start, in ms: at the moment of the heartbeat of `status`."""


@pytest.mark.parametrize(
    ("is_joined", "next_item", "sinces", "is_over"),
    [
        (True, None, [0, 0], True),
        (False, None, [0, 0], False),
        (False, margin(2, login=1002), [0, 0], True),
        (False, margin(2, login=1002), [NEW, 0], True),
        (False, margin(2, login=1002), [NEW, NEW], False),
    ],
    ids=["whole", "amid its pages", "an event follows", "the session is settled by then", "the session is new"],
)
def test_a_margin_call_that_ended_meanwhile_is_over_once_the_snapshot_is_whole(
    *, is_joined: bool, next_item: Event | None, sinces: list[int], is_over: bool
) -> None:
    memory = RuleMemory()
    for login in ("1001", "1002"):
        memory.begin(("call", login), Condition(5, reported=True))
    engine = RuleEngine([MarginCall(name="call", when="margin_call", quiet_s=0)], memory)
    items = [(ROW, sinces[0]), (next_item, sinces[1])]
    subscriber: Any = SimpleNamespace(is_joined=is_joined, position=None)

    def receive(_timeout_s: float) -> Event | None:
        item, since = items.pop(0)
        subscriber.status = status(since=since)
        return item

    subscriber.receive = receive
    view: Any = SimpleNamespace(refresh=lambda _now_s: None)
    recorder: Any = SimpleNamespace(webhook=None, is_due=lambda _now_s: False)
    shutdown: Any = SimpleNamespace(asked=lambda: not items)
    settings, state = settings_of(MonitorSettings, []).settings, MonitorState()
    with closing(MonitorStore(None, webhook=False, backlog=1)) as store:
        monitor = Monitor(
            settings, None, store=store, engine=engine, state=state, recorder=recorder, view=view, shutdown=shutdown
        )
        monitor._read(subscriber)  # noqa: SLF001
    ended = [("resolved", "1001")] if is_over else []
    assert [(alert.status, alert.subject) for alert in engine.alerts] == ended
