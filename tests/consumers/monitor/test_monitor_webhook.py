"""Alerts on their way to a webhook that takes them, refuses them, or is not there."""

from __future__ import annotations

import logging
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from mt4pump_consumers.monitor.execution import Alert
from mt4pump_consumers.monitor.rules import RuleMemory
from mt4pump_consumers.monitor.store import Batch, MonitorStore
from mt4pump_consumers.monitor.webhook import ATTEMPTS_AT_ONCE, AlertQueue, Webhook, WebhookOptions

from tests.consumers.monitor.monitor_run import LIMIT_S, Receiver, receiver, until


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MonitorStore]:
    with closing(MonitorStore(tmp_path / "s.db", webhook=True, backlog=100)) as made:
        yield made


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@contextmanager
def sending(store: MonitorStore, url: str, *, token: str | None = None, give_up_s: float = 1000.0) -> Iterator[Webhook]:
    """Run the thread with short delays."""
    assert store.path is not None
    options = WebhookOptions(url, token, timeout_s=10, give_up_s=give_up_s, first_delay_s=0.01, postpone_s=0.2)
    webhook = Webhook(store.path, options)
    webhook.start()
    try:
        yield webhook
    finally:
        webhook.stop(LIMIT_S)
        assert not webhook.is_alive()


def add(store: MonitorStore, *names: str) -> None:
    """Commit alerts."""
    alerts = [Alert(name, "rule", "loss", "critical", "firing", "1001", 10**18, f"text {name}", {}) for name in names]
    store.commit(Batch(alerts=alerts), RuleMemory())


def kept(store: MonitorStore, query: str) -> list[Any]:
    """Return the rows of a query, as another program reads the file."""
    assert store.path is not None
    with closing(sqlite3.connect(store.path, timeout=LIMIT_S)) as reader:
        return reader.execute(query).fetchall()


def states(store: MonitorStore) -> dict[str, str]:
    """Return how far each alert is."""
    return dict(kept(store, "SELECT id, webhook FROM alerts"))


def test_alerts_are_sent_in_order_each_once_with_its_id_as_the_key(store: MonitorStore, hook: Receiver) -> None:
    names = [f"alert{number:02}" for number in range(20)]
    with sending(store, hook.url, token="t0k3n") as webhook:  # noqa: S106
        add(store, *names)
        webhook.wake()
        until(lambda: set(states(store).values()) == {"sent"}, "never sent")
    assert [body["id"] for body in hook.bodies] == names
    assert set(hook.ids.values()) == {1}
    assert hook.bodies[0]["text"] == "text alert00"
    assert hook.bodies[0]["time"] == "2001-09-09T01:46:40.000Z"
    assert hook.headers[0]["Authorization"] == "Bearer t0k3n"


def test_what_waited_at_the_end_of_a_run_is_sent_by_the_next(store: MonitorStore, hook: Receiver) -> None:
    add(store, "a", "b")
    with sending(store, hook.url):
        until(lambda: hook.ids.total() == 2, "never sent")
    with sending(store, hook.url):
        add(store, "c")
        until(lambda: hook.ids.total() == 3, "never sent")
    assert hook.ids == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("code", [500, 503, 429, 408])
def test_a_fault_of_the_server_is_tried_again(store: MonitorStore, hook: Receiver, code: int) -> None:
    hook.answers = [code] * 3
    add(store, "a")
    with sending(store, hook.url) as webhook:
        until(lambda: states(store) == {"a": "sent"}, "never sent")
        assert (webhook.counts["retries"], webhook.counts["attempts"], webhook.counts["failed"]) == (3, 4, 0)


@pytest.mark.parametrize("code", [400, 401, 404, 302])
def test_a_refusal_is_final_counted_and_logged_and_the_next_alert_goes_on(
    store: MonitorStore, hook: Receiver, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    hook.answers = [code]
    add(store, "a", "b")
    with caplog.at_level(logging.DEBUG), sending(store, hook.url) as webhook:
        until(lambda: states(store) == {"a": "failed", "b": "sent"}, "never came to an end")
        assert webhook.counts["failed"] == 1
    assert f"HTTP {code}" in caplog.text
    assert "SECRET" not in caplog.text


def test_an_alert_that_always_fails_does_not_hold_up_the_others(store: MonitorStore, hook: Receiver) -> None:
    hook.answer_of = lambda name: 500 if name == "poison" else 200
    add(store, "poison", "a", "b")
    with sending(store, hook.url):
        until(lambda: hook.ids == {"a": 1, "b": 1}, "held up")
        assert states(store)["poison"] == "pending"
        hook.answer_of = lambda _name: 200
        until(lambda: hook.ids["poison"] == 1, "forgotten")
    ((attempts,),) = kept(store, "SELECT attempts FROM alerts WHERE id = 'poison'")
    assert attempts > ATTEMPTS_AT_ONCE


def test_an_alert_that_is_too_old_is_given_up_with_the_reason(store: MonitorStore) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
        add(store, "a")
        with sending(store, f"http://127.0.0.1:{nobody.getsockname()[1]}/SECRET", give_up_s=0.01) as webhook:
            until(lambda: states(store) == {"a": "failed"}, "never given up")
            assert webhook.counts["attempts"] == ATTEMPTS_AT_ONCE
    ((error,),) = kept(store, "SELECT error FROM alerts")
    assert error == "ConnectError"


def test_a_clock_that_is_far_ahead_for_a_moment_gives_no_alert_up_nor_puts_it_off_for_long(
    store: MonitorStore, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead_ns, real_ns = [0], time.time_ns
    monkeypatch.setattr("mt4pump_consumers.monitor.webhook.time.time_ns", lambda: real_ns() + ahead_ns[0])
    hook.answer_of = lambda _name: 503
    add(store, "a")
    with sending(store, hook.url, give_up_s=86_400.0) as webhook:
        until(lambda: webhook.counts["attempts"] > 0, "tried")
        ahead_ns[0] = 30 * 86_400 * 10**9
        attempts = webhook.counts["attempts"]
        until(lambda: webhook.counts["attempts"] > attempts + 3 * ATTEMPTS_AT_ONCE, "tried again and again")
        assert states(store) == {"a": "pending"}
        ahead_ns[0] = 0
        hook.answer_of = lambda _name: 200
        until(lambda: states(store) == {"a": "sent"}, "sent")


def test_an_alert_that_was_put_off_before_the_clock_was_set_back_is_due(store: MonitorStore) -> None:
    add(store, "a", "b")
    assert store.path is not None
    with closing(AlertQueue(store.path)) as queue:
        first = queue.next(1_000.0, 60.0)
        assert first is not None
        queue.postpone(first, 5, "away", 1_060.0)
        second = queue.next(1_000.0, 60.0)
        assert second is not None
        queue.postpone(second, 5, "away", 1_061.0)
        assert queue.next(1_059.0, 60.0) is None
        assert queue.next(1_060.5, 60.0) == first
        assert queue.next(900.0, 60.0) == first


def test_a_stop_in_the_midst_of_retries_leaves_the_alert_for_the_next_run(store: MonitorStore, hook: Receiver) -> None:
    hook.answer_of = lambda _name: 503
    add(store, "a")
    assert store.path is not None
    webhook = Webhook(store.path, WebhookOptions(hook.url, first_delay_s=1000.0))
    webhook.start()
    until(lambda: webhook.counts["retries"] == 1, "never tried")
    webhook.stop(LIMIT_S)
    assert not webhook.is_alive()
    assert states(store) == {"a": "pending"}
