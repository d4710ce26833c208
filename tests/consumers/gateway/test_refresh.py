"""Last values are read anew when events are gone for good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from mt4pump_consumers.gateway.broadcaster import Broadcaster
from mt4pump_consumers.gateway.last_values import RETRY_LAST_S, Refresher

from mt4pump.client import ClientError, Notice, Snapshot
from tests.consumers.gateway.stream_made import snapshot, trade

LATER_S = 2 * RETRY_LAST_S


class Bench:
    """A refresher with a broadcaster that believes in order 1; ``answers`` are cuts, or errors to raise."""

    def __init__(self, *answers: Snapshot | Exception, epoch: int = 1) -> None:
        self.answers, self.epoch = list(answers), epoch
        self.published: list[str] = []
        loop = asyncio.get_running_loop()
        self.now_s = loop.time()
        self.broadcaster = Broadcaster(loop, 10, lambda _notice: None)
        self.broadcaster.event(trade(1, 1))
        self.refresher = Refresher(
            self.broadcaster.last, self.read, lambda: self.epoch, lambda notice: self.published.append(notice.kind)
        )

    def read(self) -> Snapshot:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def check(self) -> bool:
        """Look as time passes; return whether the order is still believed in."""
        self.now_s += LATER_S
        self.refresher.check(self.now_s)
        await self.refresher.close()
        return "trade.7" in self.broadcaster.last


def run(test: Callable[[], object]) -> None:
    async def main() -> None:
        await test()  # type: ignore[misc]

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["restarted", "not_whole", "lost"])
def test_an_order_whose_end_was_lost_is_forgotten_and_readers_get_a_notice(kind: str) -> None:
    async def test() -> None:
        bench = Bench(snapshot(trade_7=2))
        assert await bench.check()
        bench.refresher.note(Notice(kind, "", "trade.7" if kind == "lost" else ""))
        assert not await bench.check()
        assert bench.published == ["refreshed"]

    run(test)


def test_lost_quotes_and_healed_gaps_are_no_reason() -> None:
    async def test() -> None:
        bench = Bench()
        for notice in (Notice("lost", "", "quote.EURUSD", 3), Notice("gap", "", "trade.7"), Notice("healed", "")):
            bench.refresher.note(notice)
        assert await bench.check()
        assert not bench.published

    run(test)


def test_a_cut_of_another_life_of_the_daemon_is_not_taken() -> None:
    async def test() -> None:
        bench = Bench(snapshot(epoch=1), snapshot(epoch=2), epoch=2)
        bench.refresher.note(Notice("restarted", ""))
        assert await bench.check()
        assert not await bench.check()

    run(test)


def test_nothing_is_asked_while_the_feed_is_not_live() -> None:
    async def test() -> None:
        bench = Bench(snapshot(epoch=3), epoch=0)
        bench.refresher.note(Notice("restarted", ""))
        assert await bench.check()
        bench.epoch = 3
        assert not await bench.check()

    run(test)


def test_a_question_that_fails_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        bench = Bench(ClientError("timeout", "no answer"), KeyError("seqs"), snapshot())
        bench.refresher.note(Notice("not_whole", ""))
        assert await bench.check()
        assert await bench.check()
        assert not await bench.check()

    run(test)
    assert "no answer" in caplog.text


def test_two_questions_are_never_closer_than_their_pause() -> None:
    async def test() -> None:
        bench = Bench(snapshot(), snapshot())
        bench.refresher.note(Notice("not_whole", ""))
        await bench.check()
        bench.refresher.note(Notice("not_whole", ""))
        bench.refresher.check(asyncio.get_running_loop().time())
        assert len(bench.answers) == 1
        await bench.check()
        assert not bench.answers

    run(test)
