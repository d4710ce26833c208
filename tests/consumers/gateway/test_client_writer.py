"""Clients that do not read: what waits for them, in batches and without, and what is never sent after a close."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mt4pump_consumers.gateway import client_writer
from mt4pump_consumers.gateway.broadcaster import Broadcaster
from mt4pump_consumers.gateway.connection import GatewayConnection
from mt4pump_consumers.gateway.session import ClientSession
from mt4pump_consumers.gateway.settings import GatewaySettings
from mt4pump_consumers.gateway.tokens import Grant
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.streams import StreamReader

from mt4pump.client import Notice
from tests.consumers.gateway.stream_made import event, trade

WINDOW_S = 0.01
LIMIT_S = 30.0
SETTINGS = GatewaySettings(anonymous=True)


class Link:
    """Stands in for a connection whose transport is full when the test says so."""

    def __init__(self) -> None:
        self.name, self.address_owner = "127.0.0.1:1", "address 127.0.0.1"
        self.protocol = SimpleNamespace(state=State.OPEN, extensions=[])
        self.transport = self
        self.is_full = False
        self.data = b""
        self.closed: list[tuple[int, str]] = []
        self.never_drains = False
        self.on_write: Callable[[], None] | None = None
        self.aborted = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.data += data
        if self.on_write is not None:
            self.on_write()

    async def close(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))
        if self.never_drains:
            await asyncio.Event().wait()

    def abort(self) -> None:
        self.aborted.set()

    def messages(self) -> list[Any]:
        """Return what was written since the last call, decoded."""
        reader, found = StreamReader(), []
        reader.feed_data(self.data)
        self.data = b""
        while reader.buffer:
            steps = Frame.parse(reader.read_exact, mask=False)
            try:
                next(steps)
            except StopIteration as end:
                frame = end.value
            found.append((frame.opcode, json.loads(frame.data)))
        assert all(opcode is Opcode.TEXT for opcode, _ in found)
        return [message for _, message in found]


class Bench:
    """One client of a broadcaster that sends every quote; ``is_full``: from the start."""

    def __init__(self, *, window_s: float = 0.0, queue: int = 100, is_full: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self.notices: list[Notice] = []
        self.broadcaster, self.link = Broadcaster(self.loop, 0, self.notices.append), Link()
        self.link.is_full = is_full
        self.session = ClientSession(
            cast(GatewayConnection, self.link),
            self.broadcaster.groups,
            SETTINGS.model_copy(update={"queue": queue, "slow_s": 5.0}),
        )
        self.session.symbols, self.session.topics = {"*": None}, {"trade.*": None}
        self.session.window_s = window_s
        self.session.admit(Grant("all", ("*",)))

    def quote(self, symbol: str, seq: int) -> None:
        self.broadcaster.event(event(f"quote.{symbol}", seq, symbol=symbol, bid=seq, ask=seq, digits=5, time=seq))

    def trade(self, seq: int) -> None:
        self.broadcaster.event(trade(seq, seq))

    async def sent(self) -> list[Any]:
        """Return what came out once all windows are over."""
        self.broadcaster.drain()
        await asyncio.sleep(5 * self.session.window_s)
        return self.link.messages()

    def fill(self) -> None:
        self.session.writer.on_full()

    def free(self) -> None:
        self.session.writer.on_writable()


def run(test: Callable[[], Any]) -> None:
    asyncio.run(test())


def bids(messages: list[Any]) -> list[tuple[str, int]]:
    return [(one["data"]["symbol"], one["data"]["bid"]) for one in messages if one["type"] == "quote"]


def test_a_slow_reader_of_batches_gets_the_newest_quotes_and_every_trade_in_one_array() -> None:
    async def test() -> None:
        bench = Bench(window_s=WINDOW_S)
        bench.quote("A", 1)
        assert bids((await bench.sent())[0]) == [("A", 1)]
        bench.fill()
        for seq in (2, 3, 4):
            bench.quote("A", seq)
            bench.quote("B", seq)
            bench.trade(seq)
            assert await bench.sent() == []
        bench.free()
        (batch,) = await bench.sent()
        assert bids(batch) == [("A", 4), ("B", 4)]
        assert [one["data"]["offset"] for one in batch if one["type"] == "trade"] == [2, 3, 4]
        assert bench.broadcaster.groups.conflated == 4
        bench.quote("A", 5)
        assert bids((await bench.sent())[0]) == [("A", 5)]

    run(test)


def test_a_window_that_ends_while_the_client_is_full_loses_nothing() -> None:
    async def test() -> None:
        bench = Bench(window_s=WINDOW_S)
        bench.trade(1)  # its window is open when the client stops reading
        bench.fill()
        assert await bench.sent() == []
        bench.free()
        (batch,) = await bench.sent()
        assert [one["data"]["offset"] for one in batch] == [1]

    run(test)


def offsets(messages: list[Any]) -> list[int]:
    return [one["data"]["offset"] for one in messages]


def test_a_client_that_is_full_again_amid_what_waited_gets_the_rest_later() -> None:
    async def test() -> None:
        bench = Bench()
        bench.fill()
        for seq in range(1, 91):
            bench.trade(seq)
        assert await bench.sent() == []
        bench.link.on_write = bench.fill
        bench.free()
        assert offsets(await bench.sent()) == list(range(1, client_writer.PART + 1))
        assert bench.session.writer.write_now is None
        assert not bench.session.writer.is_writable
        bench.trade(91)
        assert await bench.sent() == []
        bench.link.on_write = None
        bench.free()
        assert offsets(await bench.sent()) == list(range(client_writer.PART + 1, 92))
        assert bench.session.writer.write_now is not None

    run(test)


def test_nothing_is_written_to_a_client_that_is_full_from_the_start() -> None:
    async def test() -> None:
        bench = Bench(is_full=True)
        assert bench.session.writer.write_now is None
        bench.trade(1)
        assert await bench.sent() == []
        bench.free()
        assert offsets(await bench.sent()) == [1]

    run(test)


def test_too_many_messages_that_must_not_be_conflated_close_the_connection_and_say_why() -> None:
    async def test() -> None:
        for window_s in (0.0, WINDOW_S):
            bench = Bench(window_s=window_s, queue=10)
            bench.fill()
            for seq in range(1, 12):
                bench.quote("A", seq)
            await bench.sent()
            assert bench.session.writer.is_open
            for seq in range(1, 12):
                bench.trade(seq)
            assert await bench.sent() == []
            await asyncio.sleep(0)
            assert bench.link.closed == [(4408, "too slow: 12 messages wait")]

    run(test)


def test_one_that_does_not_read_for_too_long_is_closed() -> None:
    async def test() -> None:
        bench = Bench()
        bench.fill()
        bench.session.check(bench.loop.time() + 4)
        assert bench.session.writer.is_open
        bench.session.check(bench.loop.time() + 6)
        await asyncio.sleep(0)
        assert bench.link.closed == [(4408, "too slow: nothing read for 5 s")]

    run(test)


def test_nothing_follows_a_close_frame_whoever_sent_it() -> None:
    async def test() -> None:
        for full in (False, True):
            bench = Bench()
            if full:
                bench.fill()
            bench.link.protocol.state = State.CLOSING
            bench.session.writer.on_closing()
            bench.trade(1)
            bench.session.reply({"type": "status"})
            bench.free()
            bench.trade(2)
            assert await bench.sent() == []

    run(test)


def test_nobody_waits_for_a_client_whose_connection_is_gone() -> None:
    async def test() -> None:
        bench = Bench()
        bench.fill()
        waiting = asyncio.create_task(bench.session.writer.wait_until_writable())
        await asyncio.sleep(0)
        assert not waiting.done()
        bench.link.protocol.state = State.CLOSED
        bench.session.writer.on_closing()
        await asyncio.wait_for(waiting, LIMIT_S)
        bench.session.writer.on_full()  # a close frame may be what does not fit any more
        await asyncio.wait_for(bench.session.writer.wait_until_writable(), LIMIT_S)

    run(test)


def test_a_client_that_takes_not_even_the_close_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_writer, "ABORT_S", 0.01)

    async def test() -> None:
        bench = Bench()
        bench.fill()
        bench.link.never_drains = True
        bench.session.writer.shut(4408, "too slow")
        await asyncio.wait_for(bench.link.aborted.wait(), LIMIT_S)
        assert bench.link.closed == [(4408, "too slow")]

    run(test)


def test_a_connection_that_is_closing_is_not_closed_again_with_another_code(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        bench = Bench()
        bench.link.protocol.state = State.CLOSING  # for a flood, say, before its time to log in is over
        bench.session.writer.on_closing()
        bench.session.writer.shut(4401, "no token within 10 s")
        await asyncio.sleep(0)
        assert not bench.link.closed

    with caplog.at_level("INFO"):
        run(test)
    assert "4401" not in caplog.text
