"""The publish_queue: what waits for its acknowledgement, and what each answer of JetStream means."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mt4pump_consumers.nats_bridge.connection import PENDING_LIMIT_BYTES, ServerConnection
from mt4pump_consumers.nats_bridge.jetstream import EXPECTED_SEQUENCE, WRONG_SEQUENCE, PublishQueue
from mt4pump_consumers.nats_bridge.message import JetStreamRetry, Message, stored_message, unstored_message
from nats.aio.msg import Msg

from tests.consumers.nats_bridge.test_nats_message import trade

STORED, REFUSED = {"stream": "S", "seq": 8}, {"stream": "S", "seq": 0}
ANSWERS: list[tuple[dict[str, Any] | str, str, bool]] = [
    ({**REFUSED, "error": {"err_code": WRONG_SEQUENCE, "description": "wrong"}}, "moved meanwhile", True),
    ({**REFUSED, "error": {"err_code": 10077, "description": "no room"}}, "refused trade.7: no room", False),
    ({**STORED, "duplicate": True}, "L:1 was in the stream already", True),
    ({}, "no stream takes trade.7", False),
    ("no JSON", "no stream takes trade.7", False),
]


class Bench:
    """A queue for a stream at 7, with room for two, and its server, which answers when the test does."""

    def __init__(self, ack_timeout_s: float = 30.0) -> None:
        self.published: list[tuple[str, dict[str, str]]] = []
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.lost: Callable[[], None] = lambda: None
        self._heard: Callable[[Msg], Awaitable[None]]
        self.client = SimpleNamespace(
            new_inbox=lambda: "inbox", subscribe=self._subscribe, publish=self._publish, pending_data_size=0
        )
        connection = SimpleNamespace(client=self.client, on_lost=self._on_lost)
        self.publish_queue = PublishQueue(
            cast(ServerConnection, connection), "S", last_seq=7, limit=2, ack_timeout_s=ack_timeout_s
        )

    def _on_lost(self, callback: Callable[[], None]) -> None:
        self.lost = callback

    async def _subscribe(self, _subject: str, cb: Callable[[Msg], Awaitable[None]]) -> None:
        self._heard = cb

    async def _publish(self, _subject: str, _payload: bytes, *, reply: str, headers: dict[str, str]) -> None:
        await self.may_send.wait()
        self.published.append((reply, headers))

    async def answer(self, number: int, body: dict[str, Any] | str) -> None:
        data = body if isinstance(body, str) else json.dumps(body)
        await self._heard(cast(Msg, SimpleNamespace(subject=self.published[number][0], data=data.encode())))


def message(offset: int) -> Message:
    return stored_message(trade(offset=offset), "L", "")


def run(test: Callable[[Bench], Awaitable[None]], ack_timeout_s: float = 30.0) -> None:
    async def main() -> None:
        bench = Bench(ack_timeout_s)
        await bench.publish_queue.open()
        await test(bench)

    asyncio.run(main())


def test_each_message_is_stored_only_behind_the_one_before() -> None:
    async def test(bench: Bench) -> None:
        for offset in (1, 2):
            await bench.publish_queue.put(message(offset))
        assert [headers[EXPECTED_SEQUENCE] for _, headers in bench.published] == ["7", "8"]

    run(test)


def test_who_has_no_room_goes_on_with_the_next_acknowledgement() -> None:
    async def test(bench: Bench) -> None:
        for offset in (1, 2):
            await bench.publish_queue.put(message(offset))
        third = asyncio.create_task(bench.publish_queue.put(message(3)))
        await asyncio.sleep(0)
        assert len(bench.published) == 2
        await bench.answer(0, STORED)
        await third
        assert len(bench.published) == 3
        for number in (1, 2):
            await bench.answer(number, STORED)
        await bench.publish_queue.wait_for_acks()
        assert bench.publish_queue.stored == 3

    run(test)


def test_an_answer_that_comes_twice_counts_once() -> None:
    async def test(bench: Bench) -> None:
        await bench.publish_queue.put(message(1))
        for _ in range(2):
            await bench.answer(0, STORED)
        await bench.publish_queue.wait_for_acks()
        assert bench.publish_queue.stored == 1

    run(test)


@pytest.mark.parametrize(
    ("answer", "words", "is_quiet"), ANSWERS, ids=["moved", "refused", "duplicate", "no stream", "no JSON"]
)
def test_any_other_answer_ends_it_and_nothing_more_is_taken(
    answer: dict[str, Any] | str,
    words: str,
    is_quiet: bool,  # noqa: FBT001
) -> None:
    async def test(bench: Bench) -> None:
        await bench.publish_queue.put(message(1))
        await bench.answer(0, answer)
        for step in (bench.publish_queue.wait_for_acks(), bench.publish_queue.put(message(2))):
            with pytest.raises(JetStreamRetry, match=words) as caught:
                await step
            assert caught.value.is_quiet is is_quiet
        assert len(bench.published) == 1

    run(test)


def test_when_the_connection_is_lost_who_waits_fails_with_the_first_reason() -> None:
    async def test(bench: Bench) -> None:
        await bench.publish_queue.put(message(1))
        settling = asyncio.create_task(bench.publish_queue.wait_for_acks())
        await asyncio.sleep(0)
        bench.lost()
        bench.publish_queue.fail(JetStreamRetry("later"))
        with pytest.raises(JetStreamRetry, match="connection to NATS is over"):
            await settling

    run(test)


def test_what_only_we_have_is_given_back_as_long_as_it_is_not_stored() -> None:
    async def test(bench: Bench) -> None:
        events = [trade(seq=seq) for seq in (3, 4)]
        for event in events:
            await bench.publish_queue.put(unstored_message(event, "L", 41, ""))
        assert bench.publish_queue.unacknowledged() == events
        await bench.answer(0, STORED)
        assert bench.publish_queue.unacknowledged() == events[1:]

    run(test)


def test_what_was_refused_is_neither_stored_nor_forgotten() -> None:
    async def test(bench: Bench) -> None:
        event = trade()
        await bench.publish_queue.put(unstored_message(event, "L", 41, ""))
        await bench.answer(0, {**REFUSED, "error": {"err_code": 10077, "description": "no room"}})
        assert (bench.publish_queue.stored, bench.publish_queue.unacknowledged()) == (0, [event])

    run(test)


def test_a_server_that_takes_nothing_more_is_not_waited_for_without_a_limit() -> None:
    async def test(bench: Bench) -> None:
        bench.client.pending_data_size = PENDING_LIMIT_BYTES
        bench.may_send.clear()
        with pytest.raises(JetStreamRetry, match="could not be published"):
            await bench.publish_queue.put(message(1))
        await bench.publish_queue.wait_for_acks()  # it was forgotten

    run(test, ack_timeout_s=0.01)
