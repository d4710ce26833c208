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

from tests.consumers.nats_bridge.nats_run import LIMIT_S, STREAM, NatsPrograms, Process, nats_programs, needs_server

pytestmark = [needs_server, pytest.mark.timeout(180)]


def received(programs: NatsPrograms, subject: str, count: int) -> list[Msg]:
    """Return so many messages that a plain NATS subscriber gets on ``subject``."""

    async def listen(client: Client) -> list[Msg]:
        subscription = await client.subscribe(subject)
        return [await subscription.next_msg(LIMIT_S) for _ in range(count)]

    return programs.with_nats(listen)


def config(programs: NatsPrograms) -> StreamConfig:
    """Return how the stream is set up."""

    async def ask(client: Client) -> StreamConfig:
        return (await client.jetstream().stream_info(STREAM)).config

    return programs.with_nats(ask)


def test_plain_subscribers_receive_quotes_and_heartbeats_with_their_numbers(tmp_path: Path) -> None:
    with nats_programs(tmp_path) as programs:
        programs.start()
        programs.until_stored(1)
        for subject in ("quote.>", "heartbeat", "trade.*"):
            for message in received(programs, subject, 3):
                body: dict[str, Any] = msgpack.unpackb(message.data)
                assert message.headers is not None
                numbers = [message.headers[f"Mt4pump-{name}"] for name in ("Epoch", "Seq", "Ts")]
                assert numbers == [str(body[name]) for name in ("epoch", "seq", "ts")]
                if subject == "quote.>":
                    assert topic_of(message.subject) == f"quote.{body['symbol']}"
                    assert "Nats-Msg-Id" not in message.headers


def test_what_is_not_stored_stays_out_of_the_stream(tmp_path: Path) -> None:
    with nats_programs(tmp_path) as programs:
        programs.start()
        programs.until_stored(200)
        kinds = {message.subject.partition(".")[0] for message in programs.stored()}
        assert "trade" in kinds
        assert not kinds & {"quote", "heartbeat"}


def test_a_new_stream_has_the_limits_that_are_set_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    with nats_programs(tmp_path) as programs:
        programs.bridge = programs.new_bridge("--stream-max-age-s", "3600", "--stream-max-events", "100000")
        programs.start()
        programs.until_stored(1)
        made = config(programs)
        assert (made.max_age, made.max_msgs, made.duplicate_window, made.storage) == (3600, 100_000, 120, "file")
        assert programs.bridge.stop() == 0
        programs.bridge = programs.new_bridge("--stream-max-events", "50000")
        programs.bridge.start()
        programs.until(lambda: config(programs).max_msgs == 50_000, "the new limit")
        assert config(programs).max_age == 3600


def test_a_prefix_stands_before_every_subject(tmp_path: Path) -> None:
    with nats_programs(tmp_path) as programs:
        programs.bridge = programs.new_bridge("--subject-prefix", "broker1", "--topics", "trade.*")
        programs.start()
        programs.until_stored(50)
        stored = programs.stored()
        assert all(message.subject.startswith("broker1.trade.") for message in stored)
        _, events = programs.journal(to=stored[-1].offset)
        assert [each.offset for each in stored] == [each.offset for each in events if each.kind == "trade"]


def test_a_stream_may_start_with_what_comes_from_now_on(tmp_path: Path) -> None:
    with nats_programs(tmp_path) as programs:
        programs.nats.start()
        programs.daemon.start()
        programs.until(lambda: "session pumping" in programs.daemon.text, "a session")
        programs.bridge = programs.new_bridge("--start", "now")
        programs.bridge.start()
        programs.until_stored(20)
        stored = programs.stored()
        _, events = programs.journal(to=stored[-1].offset)
        assert stored[0].offset > 1
        assert [each.offset for each in stored] == [each.offset for each in events][-len(stored) :]


def test_with_room_for_one_event_the_journal_brings_the_rest(tmp_path: Path) -> None:
    with nats_programs(tmp_path) as programs:
        programs.bridge = programs.new_bridge("--queue-limit", "1", "--publish-limit", "2")
        programs.start()
        programs.until_stored(1000)
        stored = programs.stored()
        assert [each.offset for each in stored] == list(range(1, len(stored) + 1))


def test_another_journal_follows_the_old_one_in_the_stream(tmp_path: Path) -> None:
    with nats_programs(tmp_path) as programs:
        programs.start()
        programs.until_stored(200)
        programs.daemon.kill()
        (tmp_path / "data").rename(tmp_path / "old data")
        programs.daemon.start()
        programs.until(lambda: "another journal" in programs.bridge.text, "word of the new journal")
        count = programs.state()[0]
        programs.until_stored(count + 200)
        programs.bridge.kill()
        programs.bridge.start()
        programs.until_stored(count + 400)
        stored = programs.stored()
        names = [message.headers["Nats-Msg-Id"] for message in stored]
        assert len(set(names)) == len(names)
        new, events = programs.journal(to=stored[-1].offset)
        followed = [message.offset for message in stored if message.headers["Mt4pump-Log"] == new]
        assert followed == [event.offset for event in events]
        assert [message.headers["Mt4pump-Log"] == new for message in stored] == [
            index >= len(stored) - len(followed) for index in range(len(stored))
        ]


def test_a_stream_that_ran_empty_does_not_get_old_events_again(tmp_path: Path) -> None:
    with nats_programs(tmp_path) as programs:
        programs.bridge = programs.new_bridge("--stream-max-age-s", "4")
        programs.start()
        programs.until_stored(100)
        assert programs.bridge.stop() == 0
        last = programs.stored()[-1]
        programs.until(lambda: programs.state()[0] == 0, "an empty stream")
        programs.bridge.start()
        programs.until_stored(20)
        stored = programs.stored()
        assert stored[0].seq == last.seq + 1
        assert stored[0].offset > last.offset
        # What expires while it is read leaves a hole in both numbers.
        assert {each.offset - each.seq for each in stored} == {stored[0].offset - stored[0].seq}


def test_events_of_a_daemon_without_a_journal_are_stored_under_their_own_names(tmp_path: Path) -> None:
    with nats_programs(tmp_path) as programs:
        programs.daemon = programs.new_daemon("--no-journal")
        programs.start()
        programs.until_stored(100)
        programs.nats.kill()
        programs.nats.start()
        programs.until_stored(200)
        names = [message.headers["Nats-Msg-Id"] for message in programs.stored()]
        assert len(set(names)) == len(names)
        epoch, topic, seq = names[0].split(":")
        assert (epoch.isdigit(), "." in topic, seq.isdigit()) == (True, True, True)


def test_without_jetstream_quotes_still_flow_and_the_log_says_what_to_do(tmp_path: Path) -> None:
    with nats_programs(tmp_path) as programs:
        words = [word for word in programs.nats.words if word not in {"-js", "-sd", str(tmp_path / "jetstream")}]
        programs.nats = Process(words, tmp_path, "nats")
        programs.start()
        programs.until(lambda: "is it on (nats-server -js)?" in programs.bridge.text, "the advice")
        assert len(received(programs, "quote.>", 3)) == 3
        assert programs.bridge.stop() == 0


def test_a_refused_login_is_said_and_tried_again(tmp_path: Path) -> None:
    with nats_programs(tmp_path) as programs:
        programs.nats.words += ["--user", "someone", "--pass", "secret"]
        programs.bridge = programs.new_bridge("--user", "someone", "--password", "canary")
        programs.start()
        programs.until(lambda: "Authorization" in programs.bridge.text, "the refusal")
        assert "canary" not in programs.bridge.text
        assert programs.bridge.stop() == 0


def test_it_waits_for_both_sides_and_ends_clean_without_them(tmp_path: Path) -> None:
    with nats_programs(tmp_path) as programs:
        programs.bridge.start()
        programs.until(lambda: "cannot be reached" in programs.bridge.text, "word that NATS is away")
        programs.nats.start()
        programs.daemon.start()
        programs.until_stored(10)
        programs.nats.kill()
        programs.daemon.kill()
        assert programs.bridge.stop() == 0
        assert "Traceback" not in programs.bridge.text


def test_a_stream_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    with nats_programs(tmp_path) as programs:
        programs.nats.start()

        async def fill(client: Client) -> None:
            stream = client.jetstream()
            await stream.add_stream(name=STREAM, subjects=["trade.>"])
            await stream.publish("trade.1", b"not ours")

        programs.until(lambda: _works(programs), "a server")
        programs.with_nats(fill)
        programs.daemon.start()
        programs.bridge.start()
        programs.until(lambda: "give the bridge its own stream" in programs.bridge.text, "the advice")
        assert programs.state()[0] == 1


def test_wrong_settings_exit_with_2(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mt4pump_consumers.nats_bridge", "--stream", "a.b"]
    refused = Process(words, tmp_path, "refused")
    refused.start()
    assert refused.running is not None
    assert refused.running.wait(LIMIT_S) == 2
    assert "letters, digits" in refused.text


def _works(programs: NatsPrograms) -> bool:
    async def nothing(_client: Client) -> bool:
        await asyncio.sleep(0)
        return True

    try:
        return programs.with_nats(nothing)
    except OSError:
        return False
    except Exception as error:
        if "no servers" in str(error).lower():
            return False
        raise
