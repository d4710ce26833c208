"""A monitor that is killed again and again misses nothing and reports nothing twice."""

from __future__ import annotations

import csv
import os
import random
import sqlite3
from pathlib import Path

import pytest

from tests.consumers.monitor.monitor_run import Receiver, Truth, daemon, end, kept, monitor, receiver, until
from tests.programs import Program

ROUNDS = int(os.environ.get("MONITOR_KILLS", "10"))
RULES = """
[[rule]]
name = "big"
when = "volume"
lots = 5
[[rule]]
name = "loss"
when = "loss"
amount = 100
quiet_s = 2
[[rule]]
name = "scalpers"
when = "quick_close"
seconds = 2
symbols = ["EUR*", "USD*", "!USDCHF"]
[[rule]]
name = "listed"
when = "account"
accounts = [10001, 10002, 10003, 10004, 10005]
changes = ["opened", "closed", "placed", "balance"]
[[rule]]
name = "calls"
when = "margin_call"
"""


def rows_in(store: Path) -> int:
    """Return how many executions a store has; 0 while there is none."""
    if not store.exists():
        return 0
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=10)
    try:
        return int(connection.execute("SELECT count(*) FROM executions").fetchone()[0])
    except sqlite3.OperationalError:  # killed before it made its tables
        return 0
    finally:
        connection.close()


def ask(store: Path, query: str, *values: object) -> int:
    """Return the one number that a query gives; 0 for none."""
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=10)
    try:
        row = connection.execute(query, values).fetchone()
        return int(row[0] or 0) if row else 0
    finally:
        connection.close()


def wait_until_done(store: Path, offset: int, running: Program) -> None:
    """Return once everything up to ``offset`` is kept, and every alert that was made until then is sent."""
    confirmed = "SELECT json_extract(value, '$.confirmed') FROM meta WHERE name = 'position'"
    until(lambda: ask(store, confirmed) >= offset, f"never came to {offset}")
    last = ask(store, "SELECT max(number) FROM alerts")
    waiting = "SELECT count(*) FROM alerts WHERE webhook = 'pending' AND number <= ?"
    until(lambda: not ask(store, waiting, last), f"never sent all alerts:\n{running.text}")


def wait_for_a_moment(chance: random.Random, running: Program, store: Path, hook: Receiver) -> None:
    """Return at a random moment: just started, or after some more rows, or after some more alerts."""
    running.line("watching")
    kind = chance.randrange(4)
    if kind == 0:
        return
    rows, alerts = rows_in(store), hook.ids.total()
    more = chance.randrange(1, 400)
    until(lambda: rows_in(store) >= rows + more or hook.ids.total() >= alerts + more, f"no progress:\n{running.text}")


@pytest.mark.timeout(180 + 10 * ROUNDS)
def test_whenever_it_is_killed_each_execution_is_kept_once_and_each_alert_sent_once(tmp_path: Path) -> None:
    chance = random.Random(20260704)  # noqa: S311 - moments, no secrets
    store, table, rules = tmp_path / "store.db", tmp_path / "trades.csv", tmp_path / "rules.toml"
    rules.write_text(RULES)
    (tmp_path / "data").mkdir()
    with receiver() as hook, daemon(tmp_path / "data", "--rate", "2500") as feed:
        flags: tuple[str, ...] = (
            "--endpoint",
            feed.pub,
            "--query-endpoint",
            feed.query,
            "--view",
            "log",
            "--start",
            "journal",
        )
        flags += ("--store", str(store), "--csv", str(table), "--rules", str(rules), "--webhook", hook.url)
        for _ in range(ROUNDS):
            with monitor(*flags, cwd=tmp_path) as running:
                wait_for_a_moment(chance, running, store, hook)
                running.process.kill()
        with monitor(*flags, cwd=tmp_path) as running:
            goal = feed.last_offset()
            running.line("watching")
            wait_until_done(store, goal, running)
            end(running)
        executions, position = kept(store)
        truth = Truth(feed.query, position, rules)
    names = [(done.epoch, done.topic, done.seq) for done in executions]
    assert len(names) == len(set(names)), "no execution twice"
    assert dict(zip(names, executions, strict=True)) == truth.executions
    assert len(executions) > ROUNDS * 10
    compare_table(table, names)
    compare_alerts(store, hook.ids, truth)


def compare_table(table: Path, names: list[tuple[int, str, int]]) -> None:
    """See that the CSV file has each execution in one whole row."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["epoch"]), row["topic"], int(row["seq"])) for row in rows] == names


def compare_alerts(store: Path, received: dict[str, int], truth: Truth) -> None:
    """See that each alert was made once, and sent once but for those under way at a kill."""
    connection = sqlite3.connect(store)
    states = dict(connection.execute("SELECT id, webhook FROM alerts"))
    connection.close()
    assert set(states) == set(truth.alerts)
    waiting = {name for name, state in states.items() if state == "pending"}  # made while it was asked to end
    assert set(states.values()) <= {"sent", "pending"}
    assert set(states) - waiting <= set(received) <= set(states)
    twice = sum(count - 1 for count in received.values())
    assert twice <= ROUNDS, "one request at a time: a kill can repeat one alert at most"
    assert len(states) > ROUNDS
