"""The bridge between a real daemon and a real nats-server, one thing at a time."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgpack
import pytest
from mt4pump_consumers.nats_bridge.message import topic_of
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import StreamConfig

from tests.consumers.nats_bridge.nats_run import LIMIT_S, STREAM, Process, Stage, needs_server, stage

pytestmark = [needs_server, pytest.mark.timeout(180)]


def heard(scene: Stage, subject: str, count: int) -> list[Msg]:
    """Return so many messages that a plain NATS subscriber gets on ``subject``."""

    async def listen(client: Client) -> list[Msg]:
        subscription = await client.subscribe(subject)
        return [await subscription.next_msg(LIMIT_S) for _ in range(count)]

    return scene.with_nats(listen)


def config(scene: Stage) -> StreamConfig:
    """Return how the stream is set up."""

    async def ask(client: Client) -> StreamConfig:
        return (await client.jetstream().stream_info(STREAM)).config

    return scene.with_nats(ask)


def test_plain_subscribers_hear_quotes_and_heartbeats_with_their_numbers(tmp_path: Path) -> None:
    with stage(tmp_path) as scene:
        scene.start()
        scene.until_stored(1)
        for subject in ("quote.>", "heartbeat", "trade.*"):
            for message in heard(scene, subject, 3):
                body: dict[str, Any] = msgpack.unpackb(message.data)
                assert message.headers is not None
                numbers = [message.headers[f"Mt4pump-{name}"] for name in ("Epoch", "Seq", "Ts")]
                assert numbers == [str(body[name]) for name in ("epoch", "seq", "ts")]
                if subject == "quote.>":
                    assert topic_of(message.subject) == f"quote.{body['symbol']}"
                    assert "Nats-Msg-Id" not in message.headers


def test_what_is_not_stored_stays_out_of_the_stream(tmp_path: Path) -> None:
    with stage(tmp_path) as scene:
        scene.start()
        scene.until_stored(200)
        kinds = {message.subject.partition(".")[0] for message in scene.stored()}
        assert "trade" in kinds
        assert not kinds & {"quote", "heartbeat"}


def test_a_new_stream_has_the_limits_that_are_set_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    with stage(tmp_path) as scene:
        scene.bridge = scene.new_bridge("--stream-max-age-s", "3600", "--stream-max-events", "100000")
        scene.start()
        scene.until_stored(1)
        made = config(scene)
        assert (made.max_age, made.max_msgs, made.duplicate_window, made.storage) == (3600, 100_000, 120, "file")
        assert scene.bridge.stop() == 0
        scene.bridge = scene.new_bridge("--stream-max-events", "50000")
        scene.bridge.start()
        scene.until(lambda: config(scene).max_msgs == 50_000, "the new limit")
        assert config(scene).max_age == 3600


def test_a_prefix_stands_before_every_subject(tmp_path: Path) -> None:
    with stage(tmp_path) as scene:
        scene.bridge = scene.new_bridge("--subject-prefix", "broker1", "--topics", "trade.*")
        scene.start()
        scene.until_stored(50)
        stored = scene.stored()
        assert all(message.subject.startswith("broker1.trade.") for message in stored)
        _, events = scene.journal(to=stored[-1].offset)
        assert [each.offset for each in stored] == [each.offset for each in events if each.kind == "trade"]


def test_a_stream_may_start_with_what_comes_from_now_on(tmp_path: Path) -> None:
    with stage(tmp_path) as scene:
        scene.nats.start()
        scene.daemon.start()
        scene.until(lambda: "session pumping" in scene.daemon.text, "a session")
        scene.bridge = scene.new_bridge("--start", "now")
        scene.bridge.start()
        scene.until_stored(20)
        stored = scene.stored()
        _, events = scene.journal(to=stored[-1].offset)
        assert stored[0].offset > 1
        assert [each.offset for each in stored] == [each.offset for each in events][-len(stored) :]


def test_with_room_for_one_event_the_journal_brings_the_rest(tmp_path: Path) -> None:
    with stage(tmp_path) as scene:
        scene.bridge = scene.new_bridge("--queue-limit", "1", "--publish-limit", "2")
        scene.start()
        scene.until_stored(1000)
        stored = scene.stored()
        assert [each.offset for each in stored] == list(range(1, len(stored) + 1))


def test_another_journal_follows_the_old_one_in_the_stream(tmp_path: Path) -> None:
    with stage(tmp_path) as scene:
        scene.start()
        scene.until_stored(200)
        scene.daemon.kill()
        (tmp_path / "data").rename(tmp_path / "old data")
        scene.daemon.start()
        scene.until(lambda: "another journal" in scene.bridge.text, "word of the new journal")
        count = scene.state()[0]
        scene.until_stored(count + 200)
        scene.bridge.kill()
        scene.bridge.start()
        scene.until_stored(count + 400)
        stored = scene.stored()
        names = [message.headers["Nats-Msg-Id"] for message in stored]
        assert len(set(names)) == len(names)
        new, events = scene.journal(to=stored[-1].offset)
        followed = [message.offset for message in stored if message.headers["Mt4pump-Log"] == new]
        assert followed == [event.offset for event in events]
        assert [message.headers["Mt4pump-Log"] == new for message in stored] == [
            index >= len(stored) - len(followed) for index in range(len(stored))
        ]


def test_a_stream_that_ran_empty_does_not_get_old_events_again(tmp_path: Path) -> None:
    with stage(tmp_path) as scene:
        scene.bridge = scene.new_bridge("--stream-max-age-s", "4")
        scene.start()
        scene.until_stored(100)
        assert scene.bridge.stop() == 0
        last = scene.stored()[-1]
        scene.until(lambda: scene.state()[0] == 0, "an empty stream")
        scene.bridge.start()
        scene.until_stored(20)
        stored = scene.stored()
        assert stored[0].seq == last.seq + 1
        assert stored[0].offset > last.offset
        # What expires while it is read leaves a hole in both numbers.
        assert {each.offset - each.seq for each in stored} == {stored[0].offset - stored[0].seq}


def test_events_of_a_daemon_without_a_journal_are_stored_under_their_own_names(tmp_path: Path) -> None:
    with stage(tmp_path) as scene:
        scene.daemon = scene.new_daemon("--no-journal")
        scene.start()
        scene.until_stored(100)
        scene.nats.kill()
        scene.nats.start()
        scene.until_stored(200)
        names = [message.headers["Nats-Msg-Id"] for message in scene.stored()]
        assert len(set(names)) == len(names)
        epoch, topic, seq = names[0].split(":")
        assert (epoch.isdigit(), "." in topic, seq.isdigit()) == (True, True, True)


def test_without_jetstream_quotes_still_flow_and_the_log_says_what_to_do(tmp_path: Path) -> None:
    with stage(tmp_path) as scene:
        words = [word for word in scene.nats.words if word not in {"-js", "-sd", str(tmp_path / "jetstream")}]
        scene.nats = Process(words, tmp_path, "nats")
        scene.start()
        scene.until(lambda: "is it on (nats-server -js)?" in scene.bridge.text, "the advice")
        assert len(heard(scene, "quote.>", 3)) == 3
        assert scene.bridge.stop() == 0


def test_a_refused_login_is_said_and_tried_again(tmp_path: Path) -> None:
    with stage(tmp_path) as scene:
        scene.nats.words += ["--user", "someone", "--pass", "secret"]
        scene.bridge = scene.new_bridge("--user", "someone", "--password", "canary")
        scene.start()
        scene.until(lambda: "Authorization" in scene.bridge.text, "the refusal")
        assert "canary" not in scene.bridge.text
        assert scene.bridge.stop() == 0


def test_it_waits_for_both_sides_and_ends_clean_without_them(tmp_path: Path) -> None:
    with stage(tmp_path) as scene:
        scene.bridge.start()
        scene.until(lambda: "cannot be reached" in scene.bridge.text, "word that NATS is away")
        scene.nats.start()
        scene.daemon.start()
        scene.until_stored(10)
        scene.nats.kill()
        scene.daemon.kill()
        assert scene.bridge.stop() == 0
        assert "Traceback" not in scene.bridge.text


def test_a_stream_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    with stage(tmp_path) as scene:
        scene.nats.start()

        async def fill(client: Client) -> None:
            stream = client.jetstream()
            await stream.add_stream(name=STREAM, subjects=["trade.>"])
            await stream.publish("trade.1", b"not ours")

        scene.until(lambda: _works(scene), "a server")
        scene.with_nats(fill)
        scene.daemon.start()
        scene.bridge.start()
        scene.until(lambda: "give the bridge its own stream" in scene.bridge.text, "the advice")
        assert scene.state()[0] == 1


def test_wrong_settings_exit_with_2(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mt4pump_consumers.nats_bridge", "--stream", "a.b"]
    refused = Process(words, tmp_path, "refused")
    refused.start()
    assert refused.running is not None
    assert refused.running.wait(LIMIT_S) == 2
    assert "letters, digits" in refused.text


def _works(scene: Stage) -> bool:
    async def nothing(_client: Client) -> bool:
        await asyncio.sleep(0)
        return True

    try:
        return scene.with_nats(nothing)
    except OSError:
        return False
    except Exception as error:
        if "no servers" in str(error).lower():
            return False
        raise
