"""An event that NATS never takes: a stub in its place, all others as they are.

Private access: steps of the writer's loop and what it keeps between them, because the order of epochs, heartbeats and
events is what is tested, and with a server chance decides it.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgpack
import pytest
from mt4pump_consumers.nats_bridge.connection import NatsConnection
from mt4pump_consumers.nats_bridge.jetstream import PublishQueue
from mt4pump_consumers.nats_bridge.jetstream_writer import JetStreamWriter
from mt4pump_consumers.nats_bridge.message import (
    QUARANTINED,
    REFUSALS,
    JetStreamRetry,
    Message,
    Quarantine,
    QuarantineLimits,
    log_position_of,
    size_of,
    stored_message,
    subject_of,
    unstored_message,
)
from mt4pump_consumers.nats_bridge.settings import NatsSettings
from nats.aio.client import Client

from mt4pump.client import Event, Heartbeat
from mt4pump.client.event import TopicName
from mt4pump.process.program import settings_of
from tests.consumers.nats_bridge.nats_run import NatsPrograms, Stored, nats_programs, needs_server
from tests.consumers.nats_bridge.test_nats_publish_queue import REFUSED, message, run
from tests.consumers.nats_bridge.test_nats_writer import NEW, writer


def news(size: int, offset: int | None = 42, key: str = "7", epoch: int = 11) -> Event:
    body = {"epoch": epoch, "seq": 3, "ts": 99, "body": "x" * size}
    body |= {} if offset is None else {"offset": offset}
    return Event(TopicName(f"news.{key}"), body, (b"", msgpack.packb(body)))


def quarantine() -> tuple[Quarantine, Counter[str]]:
    counts: Counter[str] = Counter()
    return Quarantine(counts, "b1"), counts


@pytest.mark.parametrize(
    "limits",
    [QuarantineLimits(max_payload=2_000), QuarantineLimits(max_msg_size=2_000), QuarantineLimits(1 << 20, 2_000)],
)
def test_only_what_is_too_large_is_replaced_by_a_stub_that_names_it(limits: QuarantineLimits) -> None:
    made, counts = quarantine()
    small, large = stored_message(news(100), "L", "b1"), stored_message(news(5_000), "L", "b1")
    assert made.replace_refused(small, limits) is small
    stub = made.replace_refused(large, limits)
    assert size_of(stub) < 2_000
    assert stub.subject == large.subject
    assert {name: value for name, value in stub.headers.items() if name != QUARANTINED} == large.headers
    assert log_position_of(stub.headers) == log_position_of(large.headers)
    body = msgpack.unpackb(stub.payload)
    reason = body.pop("quarantined")
    assert "2000" in reason
    assert reason == stub.headers[QUARANTINED]
    known = {"topic": "news.7", "epoch": 11, "seq": 3, "ts": 99, "log": "L", "offset": 42}
    assert body == {**known, "size_bytes": len(large.payload)}
    assert counts["quarantined"] == 1


def test_an_event_without_an_offset_is_kept_until_its_stub_is_stored() -> None:
    made, _ = quarantine()
    event = news(5_000, None)
    stub = made.replace_refused(unstored_message(event, "L", 41, "b1"), QuarantineLimits(2_000))
    assert stub.unstored is event
    assert msgpack.unpackb(stub.payload)["offset"] is None


def test_an_event_is_counted_and_logged_once_however_often_it_goes_out(caplog: pytest.LogCaptureFixture) -> None:
    made, counts = quarantine()
    for _ in range(5):
        made.replace_refused(stored_message(news(5_000), "L", "b1"), QuarantineLimits(2_000))
    assert counts["quarantined"] == 1
    assert caplog.text.count("L:42 (b1.news.7) cannot be stored in JetStream") == 1


def test_a_subject_too_long_for_a_control_line_is_replaced_too() -> None:
    made, _ = quarantine()
    stub = made.replace_refused(stored_message(news(10, key="*" * 1_500), "L", "b1"), QuarantineLimits())
    assert stub.subject == "b1.news.%"
    assert "control line" in stub.headers[QUARANTINED]
    assert len(stub.headers) + len(stub.payload) < 1_000


def test_where_not_even_a_stub_fits_the_text_says_what_to_raise() -> None:
    made, counts = quarantine()
    with pytest.raises(JetStreamRetry, match=r"not even a stub of L:42 can be stored.*max_payload.*raise that limit"):
        made.replace_refused(stored_message(news(5_000), "L", "b1"), QuarantineLimits(300))
    assert not counts


def test_what_jetstream_refuses_again_and_again_for_its_own_sake_is_replaced_and_its_stub_too() -> None:
    made, counts = quarantine()
    refused, other = stored_message(news(10), "L", "b1"), stored_message(news(10, 43), "L", "b1")
    retry = JetStreamRetry("JetStream refused news.7: invalid", refused_id="L:42")
    for _ in range(REFUSALS - 1):
        made.note(retry)
        assert made.replace_refused(refused, QuarantineLimits()) is refused
    made.note(JetStreamRetry("the connection is over", is_quiet=True))
    made.note(retry)
    stub = made.replace_refused(refused, QuarantineLimits())
    assert f"refused {REFUSALS} times: JetStream refused news.7: invalid" in stub.headers[QUARANTINED]
    assert made.replace_refused(other, QuarantineLimits()) is other
    for _ in range(REFUSALS):  # the stub is refused as well: so it was not the event
        made.note(retry)
    assert made.replace_refused(refused, QuarantineLimits()) is refused
    assert counts["quarantined"] == 1


@pytest.mark.parametrize(
    ("error", "refused_id"),
    [
        ({"code": 400, "err_code": 10_054, "description": "too large"}, "L:1"),
        ({"code": 400, "err_code": 99_999, "description": "something new"}, "L:1"),
        ({"code": 400, "err_code": 10_077, "description": "maximum messages"}, ""),
        ({"code": 503, "err_code": 10_023, "description": "insufficient resources"}, ""),
    ],
    ids=["too large", "unknown", "full", "no resources"],
)
def test_an_answer_of_jetstream_is_about_the_message_or_about_the_stream(
    error: dict[str, Any], refused_id: str
) -> None:
    async def test(bench: Any) -> None:
        await bench.publish_queue.put(message(1))
        await bench.answer(0, {**REFUSED, "error": error})
        with pytest.raises(JetStreamRetry) as caught:
            await bench.publish_queue.wait_for_acks()
        assert caught.value.refused_id == refused_id

    run(test)


def test_what_is_not_durable_and_too_large_is_dropped_and_the_connection_lives() -> None:
    class FakeClient:
        pending_data_size, max_payload = 0, 1_000
        published: list[str]

        async def publish(self, subject: str, _payload: bytes, *, headers: dict[str, str]) -> None:
            self.published.append(f"{subject} {len(headers)}")

    counts: Counter[str] = Counter()
    nats_link = NatsConnection(settings_of(NatsSettings, []).settings, counts)
    client = FakeClient()
    client.published = []
    nats_link._connection = cast(Any, SimpleNamespace(client=client))  # noqa: SLF001

    async def publish() -> None:
        for size in (990, 100, 5_000):
            await nats_link.publish("unknown.1", b"x" * size, {})

    asyncio.run(publish())
    assert client.published == ["unknown.1 0"]
    assert (counts["dropped"], counts["oversized"], counts["published"]) == (2, 2, 1)


# ---- epochs ----


class Taken:
    """Receives what the writer publishes."""

    def __init__(self) -> None:
        self.offsets: list[int] = []

    async def put(self, message: Message) -> None:
        self.offsets.append(int(message.headers["Mt4pump-Offset"]))


def described(by: JetStreamWriter, epoch: int) -> None:
    by._resume_from(NEW, {"log": "L", "epoch": epoch, "offset": 0})  # noqa: SLF001


@pytest.mark.parametrize("new_epoch", [12, 10], ids=["the epoch grew", "the epoch fell"])
def test_a_new_run_costs_one_attempt_and_late_events_of_the_old_one_none(new_epoch: int) -> None:
    made, taken = writer("now"), Taken()
    publish_queue = cast(PublishQueue, taken)
    described(made, 11)
    for event in (news(1, 1), news(1, 1, epoch=new_epoch), news(1, 2, epoch=11), news(1, 2, epoch=new_epoch)):
        made.offer(event)
    with pytest.raises(JetStreamRetry, match="started anew"):
        asyncio.run(made._empty_queue(publish_queue))  # noqa: SLF001
    described(made, new_epoch)
    asyncio.run(made._empty_queue(publish_queue))  # noqa: SLF001
    assert taken.offsets == [1, 1, 2]
    for heartbeat_epoch in (11, new_epoch):  # an old heartbeat may be late as well
        made._heartbeat = cast(Heartbeat, SimpleNamespace(epoch=heartbeat_epoch, log="L", last_offset=2))  # noqa: SLF001
        asyncio.run(made._compare_with_heartbeat(publish_queue))  # noqa: SLF001


def test_each_old_run_whose_events_are_late_costs_one_attempt_at_most() -> None:
    made, taken = writer("now"), Taken()
    described(made, 20)
    for _ in range(3):
        for epoch in (30, 25, 10):
            made.offer(news(1, 1, epoch=epoch))
    attempts = 0
    while made._queue:  # noqa: SLF001
        try:
            asyncio.run(made._empty_queue(cast(PublishQueue, taken)))  # noqa: SLF001
        except JetStreamRetry:
            attempts += 1
            described(made, 20)
    assert (attempts, taken.offsets) == (3, [])


# ---- a real server ----


def configured(programs: NatsPrograms, folder: Path, max_payload: int) -> None:
    """Have nats-server take so many bytes a message; a server that runs reads it with SIGHUP."""
    port = programs.url.rpartition(":")[2]
    path = folder / "nats.conf"
    path.write_text(
        f'host: 127.0.0.1\nport: {port}\nmax_payload: {max_payload}\njetstream {{ store_dir: "{folder}/jetstream" }}\n'
    )
    programs.nats.words = [programs.nats.words[0], "-c", str(path)]


def checked(programs: NatsPrograms, stored: list[Stored]) -> tuple[int, int]:
    """Return how many stubs and events are stored; everything of the journal is there, in order, once."""
    _, events = programs.journal(to=stored[-1].offset)
    assert [each.offset for each in stored] == [event.offset for event in events]
    stubs = 0
    for each, event in zip(stored, events, strict=True):
        assert each.subject == subject_of(event.topic)
        if QUARANTINED in each.headers:
            stubs += 1
            assert msgpack.unpackb(each.data)["offset"] == event.offset
        else:
            assert each.data == event.frames[1]
    return stubs, len(stored) - stubs


@needs_server
@pytest.mark.timeout(180)
def test_events_larger_than_max_payload_stop_nothing_also_when_it_is_lowered_at_run_time(tmp_path: Path) -> None:
    with nats_programs(tmp_path) as programs:
        configured(programs, tmp_path, 1 << 20)
        programs.start()
        count = programs.until_stored(100)
        assert checked(programs, programs.stored())[0] == 0
        configured(programs, tmp_path, 1_200)
        programs.nats.signal(signal.SIGHUP)
        programs.until(lambda: "a stub is stored instead" in programs.bridge.text, "a stub")
        count = programs.state()[0]
        programs.until_stored(count + 300)
        programs.nats.kill()
        programs.nats.start()
        programs.until_stored(count + 500)
        assert programs.bridge.stop() == 0
        stubs, events = checked(programs, programs.stored())
        assert stubs >= 1
        assert events >= 400
        assert f"quarantined {stubs}" in programs.bridge.text


@needs_server
@pytest.mark.timeout(180)
def test_events_larger_than_the_streams_own_limit_stop_nothing(tmp_path: Path) -> None:
    async def lowered(client: Client) -> None:
        stream = client.jetstream()
        config = (await stream.stream_info("MT4PUMP")).config
        config.max_msg_size = 1_200
        await stream.update_stream(config)

    with nats_programs(tmp_path) as programs:
        programs.start()
        programs.until_stored(100)
        programs.with_nats(lowered)
        programs.until(lambda: "max_msg_size of the stream is 1200" in programs.bridge.text, "a stub")
        count = programs.state()[0]
        programs.until_stored(count + 300)
        stubs, events = checked(programs, programs.stored())
        assert stubs >= 1
        assert events >= 300
