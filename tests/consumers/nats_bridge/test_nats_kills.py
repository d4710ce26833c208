"""Whoever is killed, whenever: the stream holds what the journal holds, each event once and in order."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
from mt4pump_consumers.nats_bridge.message import subject_of

from tests.consumers.nats_bridge.nats_run import Stage, needs_server, stage

pytestmark = [needs_server, pytest.mark.timeout(300)]
ROUNDS = int(os.environ.get("MT4PUMP_TEST_ROUNDS", "6"))
SEED = int(os.environ.get("MT4PUMP_TEST_SEED", "4"))


def assert_stream_is_journal(scene: Stage) -> None:
    """Compare the whole stream with the daemon's own replay of the same offsets."""
    stored = scene.stored()
    log, events = scene.journal(to=stored[-1].offset)
    received = [(message.subject, message.headers["Nats-Msg-Id"], message.data) for message in stored]
    meant = [(subject_of(event.topic), f"{log}:{event.offset}", event.frames[1]) for event in events]
    assert [identity for _, identity, _ in received] == [identity for _, identity, _ in meant], scene.logs()
    assert received == meant
    assert [message.seq for message in stored] == list(range(1, len(stored) + 1))


def test_kills_at_random_lose_nothing_and_store_nothing_twice(tmp_path: Path) -> None:
    chance = random.Random(SEED)  # noqa: S311 - no secret
    with stage(tmp_path) as scene:
        # JetStream itself would forget an id after a second: what the stream holds must be enough.
        scene.bridge = scene.new_bridge("--stream-window-s", "1")
        scene.start()
        count = scene.until_stored(300)
        for _ in range(ROUNDS):
            victims = chance.sample((scene.nats, scene.daemon, scene.bridge), chance.choice((1, 1, 1, 2, 3)))
            for victim in victims:
                victim.kill()
            for victim in chance.sample(victims, len(victims)):
                victim.start()
            count = scene.until_stored(count + chance.randrange(50, 400))
        assert_stream_is_journal(scene)


def test_a_server_that_hangs_and_comes_back_gets_nothing_twice(tmp_path: Path) -> None:
    with stage(tmp_path) as scene:
        scene.bridge = scene.new_bridge("--ack-timeout-s", "0.5")
        scene.start()
        count = scene.until_stored(300)
        for _ in range(2):
            scene.nats.signal(signal.SIGSTOP)
            logged = len(scene.bridge.text)
            try:
                scene.until(lambda: "going on from" in scene.bridge.text[logged:], "a retry")  # noqa: B023 - called at once
            finally:
                scene.nats.signal(signal.SIGCONT)
            count = scene.until_stored(count + 300)
        assert_stream_is_journal(scene)


def test_two_bridges_on_one_stream_store_nothing_twice(tmp_path: Path) -> None:
    with stage(tmp_path) as scene:
        second = scene.new_bridge()
        second.log = tmp_path / "second.log"
        scene.start()
        second.start()
        try:
            count = scene.until_stored(500)
            scene.bridge.kill()
            scene.until_stored(count + 300)
        finally:
            second.kill()
        assert_stream_is_journal(scene)
