"""Whoever is killed, whenever: the stream holds what the journal holds, each event once and in order."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
from mt4pump_consumers.nats_bridge.message import subject_of

from tests.consumers.nats_bridge.nats_run import NatsPrograms, nats_programs, needs_server

pytestmark = [needs_server, pytest.mark.timeout(300)]
ROUNDS = int(os.environ.get("MT4PUMP_TEST_ROUNDS", "6"))
SEED = int(os.environ.get("MT4PUMP_TEST_SEED", "4"))


def assert_stream_is_journal(programs: NatsPrograms) -> None:
    """Compare the whole stream with the daemon's own replay of the same offsets."""
    stored = programs.stored()
    log, events = programs.journal(to=stored[-1].offset)
    received = [(message.subject, message.headers["Nats-Msg-Id"], message.data) for message in stored]
    meant = [(subject_of(event.topic), f"{log}:{event.offset}", event.frames[1]) for event in events]
    assert [identity for _, identity, _ in received] == [identity for _, identity, _ in meant], programs.logs()
    assert received == meant
    assert [message.seq for message in stored] == list(range(1, len(stored) + 1))


def test_kills_at_random_lose_nothing_and_store_nothing_twice(tmp_path: Path) -> None:
    chance = random.Random(SEED)  # noqa: S311 - no secret
    with nats_programs(tmp_path) as programs:
        # JetStream itself would forget an id after a second: what the stream holds must be enough.
        programs.bridge = programs.new_bridge("--stream-window-s", "1")
        programs.start()
        count = programs.until_stored(300)
        for _ in range(ROUNDS):
            victims = chance.sample((programs.nats, programs.daemon, programs.bridge), chance.choice((1, 1, 1, 2, 3)))
            for victim in victims:
                victim.kill()
            for victim in chance.sample(victims, len(victims)):
                victim.start()
            count = programs.until_stored(count + chance.randrange(50, 400))
        assert_stream_is_journal(programs)


def test_a_server_that_hangs_and_comes_back_gets_nothing_twice(tmp_path: Path) -> None:
    with nats_programs(tmp_path) as programs:
        programs.bridge = programs.new_bridge("--ack-timeout-s", "0.5")
        programs.start()
        count = programs.until_stored(300)
        for _ in range(2):
            programs.nats.signal(signal.SIGSTOP)
            logged = len(programs.bridge.text)
            try:
                programs.until(lambda: "going on from" in programs.bridge.text[logged:], "a retry")  # noqa: B023 - called at once
            finally:
                programs.nats.signal(signal.SIGCONT)
            count = programs.until_stored(count + 300)
        assert_stream_is_journal(programs)


def test_two_bridges_on_one_stream_store_nothing_twice(tmp_path: Path) -> None:
    with nats_programs(tmp_path) as programs:
        second = programs.new_bridge()
        second.log = tmp_path / "second.log"
        programs.start()
        second.start()
        try:
            count = programs.until_stored(500)
            programs.bridge.kill()
            programs.until_stored(count + 300)
        finally:
            second.kill()
        assert_stream_is_journal(programs)
