"""A hundred seeds hold all promises; planted faults are found; a seed replays exactly.

Private access: the check for repeats, because it is the fault that is planted.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mt4pump.client.liveness import HeartbeatMonitor
from mt4pump.client.ordering import StreamOptions
from mt4pump.client.position import Position
from mt4pump.client.stream import Stream
from mt4pump.client.topic_state import SubscriptionSet, TopicState
from mt4pump.journal.schema import JournalPage, Stored
from mt4pump.wire import Body
from tests.simulation.backend import CrashingWire, Plan
from tests.simulation.checks import BrokenPromise
from tests.simulation.journal import MemoryJournal
from tests.simulation.simulation import EVENTS, Simulation
from tests.simulation.wire import Connection, Frames

SEEDS, PER_TEST = 100, 10
PLANTED_SEEDS = 40
"""Within so many seeds a planted fault must be found."""
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("first", range(0, SEEDS, PER_TEST))
def test_every_promise_holds_for_a_hundred_seeds(first: int) -> None:
    for seed in range(first, first + PER_TEST):
        played = Simulation(seed)
        try:
            played.run()
        except BrokenPromise as broken:
            pytest.fail(f"{broken}: python -m tests.simulation --seed {seed} --story")
        assert len(played.ledger.events) >= EVENTS


@pytest.mark.parametrize("seed", [271, 1018, 1249, 1626, 4065, 4094, 4098, 4612, 6229, 6455, 6478, 6567, 6700, 7299])
def test_seeds_that_once_failed_hold_all_promises(seed: int) -> None:
    Simulation(seed).run()


def test_promises_hold_where_the_daemon_starts_with_older_copies_of_its_journal() -> None:
    for seed in range(30):
        Simulation(seed, Plan(restores=True)).run()


def test_a_seed_replays_exactly_also_in_another_process() -> None:
    story = Simulation(7).run().story
    assert Simulation(7).run().story == story
    command = [sys.executable, "-m", "tests.simulation", "--seed", "7", "--story"]
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    played = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=True)
    assert played.stdout.splitlines()[: len(story)] == story


class LosingWire(CrashingWire):
    """Loses a message now and then, and neither the heartbeat nor a broken connection shows it."""

    seen = 0

    def deliver(self, connection: Connection, frames: Frames) -> str:
        self.seen += frames[0].startswith(b"trade.")
        if frames[0].startswith(b"trade.") and self.seen % 10 == 9:
            return ""
        return super().deliver(connection, frames)


class RenumberingWire(CrashingWire):
    """Sends a message with another one's number, so that a reader cannot see the gap."""

    def deliver(self, connection: Connection, frames: Frames) -> str:
        if connection.queue and frames[0] == connection.queue[-1][0] and frames[0].startswith(b"trade."):
            return super().deliver(connection, (frames[0], connection.queue.pop()[1]))
        return super().deliver(connection, frames)


class ForgettingJournal(MemoryJournal):
    """Loses every 30th event that it said to have stored."""

    def page(
        self,
        *,
        after: int,
        to: int | None,
        prefixes: object,
        limit: int,
        since: int | None = None,
        until: int | None = None,
    ) -> JournalPage:
        page = super().page(after=after, to=to, prefixes=prefixes, limit=limit, since=since, until=until)  # type: ignore[arg-type]
        return page._replace(events=[event for event in page.events if event.offset % 30])


class WholeJournal(MemoryJournal):
    """Calls every page of a replay whole."""

    def page(self, **asked: Any) -> JournalPage:
        return super().page(**asked)._replace(whole=True)


class SilentJournal(MemoryJournal):
    """Publishes what it did not commit."""

    def append(self, events: list[Stored], orders: object) -> bool:  # type: ignore[override]
        stored = super().append(events[:-1] if len(events) > 3 else events, orders)  # type: ignore[arg-type]
        self.last_offset += len(events) > 3
        return stored


class RepeatingTopic(TopicState):
    """Takes no event for a repeat."""

    __slots__ = ()

    def is_repeat(self, *_: object) -> bool:
        return False


class RepeatingStream(Stream):
    """Delivers what it delivered before."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        known = self.ordering.subscriptions.topic

        def topic(wire: bytes) -> TopicState:
            state = known(wire)
            state.__class__ = RepeatingTopic
            return state

        self.ordering.subscriptions.topic = topic  # type: ignore[method-assign]


class ForgetfulStream(Stream):
    """Reports no loss."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.ordering.report_lost = lambda *_: None  # type: ignore[method-assign]


class TrustfulMonitor(HeartbeatMonitor):
    """Takes every heartbeat for a proof that nothing was lost."""

    def handle(self, body: Body, now_s: float, now_ns: int) -> bool:
        super().handle(body, now_s, now_ns)
        return True


def trustful(
    subscriptions: SubscriptionSet, monitor: HeartbeatMonitor, options: StreamOptions, resume: Position | None
) -> Stream:
    del monitor
    return Stream(subscriptions, TrustfulMonitor(silence_s=5, lag_limit=100_000, lag_limit_s=10), options, resume)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan(wire=LosingWire), "without trade"),
        (Plan(wire=RenumberingWire), ""),
        (Plan(journal=ForgettingJournal), "the journal has it"),
        (Plan(journal=WholeJournal, restores=True), "reported lost"),
        (Plan(journal=SilentJournal), ""),
        (Plan(make_stream=RepeatingStream), "twice"),
        (Plan(make_stream=ForgetfulStream), "reported lost"),
        (Plan(make_stream=trustful), ""),
    ],
    ids=[
        "losing wire",
        "renumbering wire",
        "forgetting journal",
        "whole copy",
        "unstored",
        "no dedupe",
        "silent loss",
        "no proof",
    ],
)
def test_a_planted_fault_is_found(plan: Plan, words: str) -> None:
    found: list[str] = []
    for seed in range(PLANTED_SEEDS):
        try:
            Simulation(seed, plan).run()
        except AssertionError as broken:
            found.append(str(broken))
        if any(words in text for text in found):
            return
    pytest.fail(f"{PLANTED_SEEDS} seeds did not find it, but {found}")
