"""Last values are read anew when events are gone for good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from mt4pump_consumers.gateway.broadcaster import Broadcaster
from mt4pump_consumers.gateway.refresh import RETRY_LAST_S, Refresher

from mt4pump.client import ClientError, Notice, Snapshot
from tests.consumers.gateway.stream_made import cut, trade

LATER_S = 2 * RETRY_LAST_S


class Bench:
    """A refresher with a hub that believes in order 1; ``answers`` are cuts, or errors to raise."""

    def __init__(self, *answers: Snapshot | Exception, epoch: int = 1) -> None:
        self.answers, self.epoch = list(answers), epoch
        self.told: list[str] = []
        loop = asyncio.get_running_loop()
        self.now_s = loop.time()
        self.hub = Broadcaster(loop, 10, lambda _notice: None)
        self.hub.event(trade(1, 1))
        self.refresher = Refresher(
            self.hub, self.read, lambda: self.epoch, lambda notice: self.told.append(notice.kind)
        )

    def read(self) -> Snapshot:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def look(self) -> bool:
        """Look as time passes; return whether the order is still believed in."""
        self.now_s += LATER_S
        self.refresher.look(self.now_s)
        await self.refresher.close()
        return "trade.7" in self.hub.last


def run(test: Callable[[], object]) -> None:
    async def main() -> None:
        await test()  # type: ignore[misc]

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["restarted", "not_whole", "lost"])
def test_an_order_whose_end_was_lost_is_forgotten_and_readers_are_told(kind: str) -> None:
    async def test() -> None:
        bench = Bench(cut(trade_7=2))
        assert await bench.look()
        bench.refresher.note(Notice(kind, "", "trade.7" if kind == "lost" else ""))
        assert not await bench.look()
        assert bench.told == ["refreshed"]

    run(test)


def test_lost_quotes_and_healed_gaps_are_no_reason() -> None:
    async def test() -> None:
        bench = Bench()
        for notice in (Notice("lost", "", "quote.EURUSD", 3), Notice("gap", "", "trade.7"), Notice("healed", "")):
            bench.refresher.note(notice)
        assert await bench.look()
        assert not bench.told

    run(test)


def test_a_cut_of_another_life_of_the_daemon_is_not_taken() -> None:
    async def test() -> None:
        bench = Bench(cut(epoch=1), cut(epoch=2), epoch=2)
        bench.refresher.note(Notice("restarted", ""))
        assert await bench.look()
        assert not await bench.look()

    run(test)


def test_nothing_is_asked_while_the_feed_is_not_live() -> None:
    async def test() -> None:
        bench = Bench(cut(epoch=3), epoch=0)
        bench.refresher.note(Notice("restarted", ""))
        assert await bench.look()
        bench.epoch = 3
        assert not await bench.look()

    run(test)


def test_a_question_that_fails_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        bench = Bench(ClientError("timeout", "no answer"), KeyError("seqs"), cut())
        bench.refresher.note(Notice("not_whole", ""))
        assert await bench.look()
        assert await bench.look()
        assert not await bench.look()

    run(test)
    assert "no answer" in caplog.text


def test_two_questions_are_never_closer_than_their_pause() -> None:
    async def test() -> None:
        bench = Bench(cut(), cut())
        bench.refresher.note(Notice("not_whole", ""))
        await bench.look()
        bench.refresher.note(Notice("not_whole", ""))
        bench.refresher.look(asyncio.get_running_loop().time())
        assert len(bench.answers) == 1
        await bench.look()
        assert not bench.answers

    run(test)
