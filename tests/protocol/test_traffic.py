"""Published events compared with the contract key by key."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mt4pump.wire import KINDS, kind_of
from tests.bus import Message, decode_frames
from tests.live import Running, running
from tests.protocol.checking import faults_of

FAULTS = ("drop@1", "null@2:3", "skip@2.5:3", "drop@3.5", "burst@4:50")
EXPECTED = frozenset(
    {
        *("quote", "user update", "online add", "online delete", "margin add", "margin delete", "news add"),
        *("request add", "request delete", "activation add", "activation delete", "mail add", "session", "heartbeat"),
        *(f"trade {change}" for change in ("opened", "placed", "modified", "closed", "cancelled", "balance")),
    }
)
"""Kinds and changes that a simulated market brings within seconds."""


def label(message: Message) -> str:
    kind = message.topic.partition(".")[0]
    what = message.body.get("change") or message.body.get("action") or ""
    return f"{kind} {what}".strip()


def wrong(run: Running) -> dict[str, int]:
    """Return the faults of all received events and how often each occurred."""
    found: Counter[str] = Counter()
    for frames in run.frames:
        topic, body = decode_frames(frames)
        found.update(faults_of(kind_of(topic), body))
    return dict(found)


def test_every_event_of_a_simulated_broker_with_faults_is_in_the_contract(tmp_path: Path) -> None:
    flags = {"source": "simulator", "rate": 2000.0, "accounts": 60, "reconnect_delay_s": 0.05}
    personal = {"user_fields": ("name", "email"), "mail_fields": ("from", "subject", "body")}
    with running(tmp_path, **flags, faults=FAULTS, plugin_parameters=True, **personal) as run:
        missing, synthetic = set(EXPECTED), 0

        def is_all(message: Message) -> bool:
            nonlocal synthetic
            synthetic += bool(message.body.get("synthetic"))
            missing.discard(label(message))
            return not missing and synthetic > 0

        run.next(is_all, limit_s=60)
    assert wrong(run) == {}


def test_bursts_amid_reads_of_the_tables_publish_no_change_without_a_difference(tmp_path: Path) -> None:
    """Doorbells without a record have the tables read, which is ahead of the records that wait behind it."""
    faults = ("burst@0.5+0.5:100", "null@0.5+0.1:2")
    with running(tmp_path, source="simulator", rate=2000.0, accounts=60, faults=faults) as run:
        seen: Counter[str] = Counter()

        def is_enough(message: Message) -> bool:
            body = message.body
            if message.topic == "heartbeat":
                seen["repeats"] = body.get("skipped", {}).get("repeats", 0)
            elif message.topic.startswith("trade."):
                seen[body["change"]] += 1
                seen["synthetic"] += bool(body.get("synthetic"))
                seen["empty"] += body["change"] == "modified" and body["before"] == {}
            return min(seen["repeats"], seen["closed"] // 10, seen["synthetic"]) >= 50

        run.next(is_enough, limit_s=60)
    assert seen["empty"] == 0


def test_the_kinds_are_these() -> None:
    assert set(KINDS) == {"quote", "trade", "user", "online", "margin", "symbol", "group", "request"} | {
        *("activation", "news", "mail", "plugin", "session", "unknown", "heartbeat")
    }


def test_the_comparison_finds_undeclared_keys_missing_keys_and_wrong_types() -> None:
    body = {"code": "7", "strange": 1, "epoch": 1, "seq": 1, "ts": -1}
    assert set(faults_of("unknown", body)) == {
        *("unknown.code is '7', not int", "unknown.strange is not declared", "unknown.action is missing"),
        "unknown.ts is -1, not uint",
    }


def test_a_row_of_a_snapshot_needs_no_action() -> None:
    common = {"epoch": 1, "seq": 1, "ts": 1}
    row = {"counter": 1, "login": 5, "group": "demo", **common}
    assert faults_of("online", row) == ["online.action is missing"]
    assert faults_of("online", {**row, "snapshot": True}) == []
