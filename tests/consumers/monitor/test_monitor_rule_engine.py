"""Rules against events: what is reported, what is not, and under which id."""

from __future__ import annotations

from typing import Any

import pytest
from mt4pump_consumers.monitor.execution import Alert
from mt4pump_consumers.monitor.rules import QUIET_LIMIT, AnyRule, RuleEngine, RuleMemory
from mt4pump_consumers.monitor.state import FeedSign
from pydantic import TypeAdapter

from tests.consumers.monitor.monitor_run import NS, execution, margin

ADAPTER: TypeAdapter[AnyRule] = TypeAdapter(AnyRule)


def engine(memory: RuleMemory | None = None, **rule: Any) -> RuleEngine:
    """Return an engine with one rule."""
    return RuleEngine([ADAPTER.validate_python({"name": "rule", **rule})], RuleMemory() if memory is None else memory)


def reported(by: RuleEngine) -> list[Alert]:
    """Return the new alerts, and take them away."""
    alerts, by.alerts = by.alerts, []
    return alerts


@pytest.mark.parametrize(
    ("fields", "is_reported"),
    [
        ({"volume": 5000}, 1),
        ({"volume": 4999}, 0),
        ({"volume": 5000, "change": "activated"}, 1),
        ({"volume": 5000, "change": "placed", "cmd": 2}, 0),
        ({"volume": 5000, "change": "closed"}, 0),
        ({"volume": 5000, "state": 1}, 0),  # the rest of a partial close
        ({"volume": 5000, "symbol": "XAUUSD"}, 1),
        ({"volume": 5000, "symbol": "XAUEUR"}, 0),
        ({"volume": 5000, "symbol": "GBPUSD"}, 0),
    ],
)
def test_a_volume_is_reported_from_its_limit_on_when_a_position_begins(
    fields: dict[str, Any], is_reported: int
) -> None:
    rule = engine(when="volume", lots=50, symbols=["EUR*", "XAU*", "!XAUEUR"])
    rule.trade(execution(**fields))
    assert len(reported(rule)) == is_reported


@pytest.mark.parametrize(
    ("fields", "is_reported"),
    [
        ({"profit": -100.0}, 1),
        ({"profit": -90.0, "storage": -6.0, "commission": -4.0}, 1),
        ({"profit": -100.0, "storage": 1.0}, 0),
        ({"profit": 100.0}, 0),
        ({"profit": -100.0, "change": "modified"}, 0),
        ({"profit": float("nan")}, 0),
    ],
)
def test_a_loss_counts_swap_and_commission_and_only_when_it_is_made(fields: dict[str, Any], is_reported: int) -> None:
    rule = engine(when="loss", amount=100)
    rule.trade(execution(**{"change": "closed", "close_time": 2000, **fields}))
    assert len(reported(rule)) == is_reported


def test_a_loss_that_was_inferred_says_so() -> None:
    rule = engine(when="loss", amount=100)
    rule.trade(execution(change="closed", profit=-100.0, synthetic=True))
    assert "inferred" in reported(rule)[0].text


@pytest.mark.parametrize(
    ("opened", "closed", "is_reported"), [(1000, 1003, 1), (1000, 1004, 0), (1000, 0, 0), (0, 2, 0)]
)
def test_a_quick_close_is_one_within_the_limit_by_known_times(opened: int, closed: int, is_reported: int) -> None:
    rule = engine(when="quick_close", seconds=3)
    rule.trade(execution(change="closed", open_time=opened, close_time=closed))
    assert len(reported(rule)) == is_reported


def test_an_account_on_the_list_is_reported_with_what_it_did() -> None:
    rule = engine(when="account", accounts=[1001, 7], severity="critical")
    rule.trade(execution(login=1001))
    rule.trade(execution(login=1002))
    rule.trade(execution(2, login=1001, change="modified"))
    (alert,) = reported(rule)
    assert (alert.subject, alert.severity, alert.status) == ("1001", "critical", "firing")
    assert alert.text == "account 1001 opened 1.00 lots of EURUSD (buy, order 7 at 1.10000): an account on the list"
    assert alert.facts["execution"]["lots"] == 1.0


def test_money_operations_are_reported_by_their_amount() -> None:
    rule = engine(when="account", accounts=[1001], changes=["balance"])
    rule.trade(execution(change="balance", cmd=6, symbol="", profit=2500.0, volume=0))
    assert "2,500.00" in reported(rule)[0].text


def test_the_same_event_gives_the_same_id_in_another_run_and_another_event_another_one() -> None:
    one, other = engine(when="loss", amount=1), engine(when="loss", amount=1)
    one.trade(execution(5, change="closed", profit=-9.0))
    other.trade(execution(5, change="closed", profit=-9.0))
    other.trade(execution(6, change="closed", profit=-9.0))
    (first,), (again, next_one) = reported(one), reported(other)
    assert first.id == again.id != next_one.id


def test_a_quiet_rule_is_silent_about_one_account_and_speaks_of_another() -> None:
    memory = RuleMemory()
    rule = engine(memory, when="volume", lots=1, quiet_s=10)
    for seq, login in ((1, 1001), (5, 1001), (6, 1002), (11, 1001)):
        rule.trade(execution(seq, login=login))
    assert [(alert.subject, alert.ts // NS) for alert in reported(rule)] == [("1001", 1), ("1002", 6), ("1001", 11)]
    assert rule.suppressed == 1
    later = engine(memory, when="volume", lots=1, quiet_s=10)
    later.trade(execution(12, login=1001))
    assert reported(later) == [], "another run remembers"


def test_what_quiet_rules_remember_is_bounded() -> None:
    memory = RuleMemory()
    rule = engine(memory, when="volume", lots=1, quiet_s=10)
    for number in range(QUIET_LIMIT + 500):
        rule.trade(execution(number, login=number))
    assert len(memory.quiet) <= QUIET_LIMIT
    assert len(memory.touched_quiet) == QUIET_LIMIT + 500, "the store records those that were removed, too"


def test_when_quiet_rules_forget_they_remember_those_that_still_must_be_quiet() -> None:
    rule = engine(when="volume", lots=1, quiet_s=10)
    for number in range(QUIET_LIMIT):
        rule.trade(execution(number, login=number))
    reported(rule)
    rule.trade(execution(QUIET_LIMIT, login=QUIET_LIMIT - 5))
    assert reported(rule) == []


def test_a_margin_call_of_an_account_that_the_rule_does_not_name_is_not_reported() -> None:
    rule = engine(when="margin_call", accounts=[1001])
    rule.margin(margin(login=1002))
    assert reported(rule) == []


def test_a_margin_call_is_reported_once_and_so_is_its_end() -> None:
    rule = engine(when="margin_call")
    for seq, (action, level) in enumerate([("add", 1), ("update", 1), ("update", 2), ("delete", 0), ("delete", 0)], 1):
        rule.margin(margin(seq, action=action, level_type=level))
    alerts = reported(rule)
    assert [(alert.status, alert.ts // NS) for alert in alerts] == [("firing", 1), ("resolved", 4)]
    assert len({alert.id for alert in alerts}) == 2


def test_a_stop_out_rule_waits_for_the_stop_out() -> None:
    rule = engine(when="margin_call", level="stop_out", tell_end=False)
    for seq, level in enumerate([1, 2, 1], 1):
        rule.margin(margin(seq, action="update", level_type=level))
    assert [alert.text.split(":")[0] for alert in reported(rule)] == ["account 1001 is in stop-out"]


def test_a_margin_call_that_a_snapshot_shows_is_reported_unless_it_was_before() -> None:
    memory = RuleMemory()
    rule = engine(memory, when="margin_call")
    rule.margin(margin(action=None, came="snapshot"))
    assert len(reported(rule)) == 1
    later = engine(memory, when="margin_call")
    later.margin(margin(3, action=None, came="snapshot"))
    assert reported(later) == []


def test_a_margin_call_that_ended_unseen_is_over_when_the_whole_table_does_not_have_it() -> None:
    rule = engine(when="margin_call")
    rule.margin(margin(login=1001))
    rule.margin(margin(login=1002))
    reported(rule)
    rule.margins_are(frozenset({"1002"}), 9 * NS)
    assert [(alert.status, alert.subject) for alert in reported(rule)] == [("resolved", "1001")]


def test_the_end_of_what_was_held_back_is_not_reported() -> None:
    rule = engine(when="margin_call", quiet_s=100)
    for seq, action in enumerate(["add", "delete", "add", "delete"], 1):
        rule.margin(margin(seq, action=action, level_type=int(action == "add")))
    assert [alert.status for alert in reported(rule)] == ["firing", "resolved"]


def sign(silent_s: float, last_ts: int, *, has_arrived: bool = True) -> dict[str, FeedSign]:
    """Return how the feed is."""
    return dict.fromkeys(("quotes", "session", "daemon"), FeedSign(silent_s, last_ts, has_arrived, "pumping"))


def test_a_silent_feed_is_reported_once_however_often_it_is_looked_at_and_its_end_once() -> None:
    rule = engine(when="feed_silent", seconds=5)
    for silent_s in (1.0, 4.9, 5.0, 6.0, 60.0, 0.1, 0.2):
        rule.feed(sign(silent_s, 1000 * NS), 1005 * NS)
    assert [alert.status for alert in reported(rule)] == ["firing", "resolved"]


def test_a_restarted_daemon_that_received_nothing_yet_does_not_end_the_silence() -> None:
    rule = engine(when="feed_silent", seconds=5)
    rule.feed(sign(6.0, 1000 * NS), 1006 * NS)
    rule.feed(sign(1.0, 1010 * NS, has_arrived=False), 1011 * NS)
    rule.feed(sign(7.0, 1010 * NS, has_arrived=False), 1017 * NS)
    assert [alert.status for alert in reported(rule)] == ["firing"]
    rule.feed(sign(0.5, 1020 * NS), 1021 * NS)
    assert [alert.status for alert in reported(rule)] == ["resolved"]
