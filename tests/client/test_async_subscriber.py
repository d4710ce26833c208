"""`AsyncSubscriber`: the same reader in a thread, on any event loop.

Private access: the queue between the threads, because `close` must come while more has arrived, and only the queue
shows that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mt4pump.client import AsyncSubscriber, ClientError, Notice, Position, Trade
from mt4pump.client.position import PositionFile
from tests.client.fake_daemon import LIMIT_S, FakeDaemon


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with FakeDaemon() as running:
        yield running


def subscriber(daemon: FakeDaemon, **options: Any) -> AsyncSubscriber:
    return AsyncSubscriber(
        daemon.endpoint, **{"query_endpoint": daemon.query_endpoint, "topics": ["trade.*", "quote.*"], **options}
    )


async def live(sub: AsyncSubscriber) -> None:
    async with asyncio.timeout(LIMIT_S):
        while sub.position is None:
            await sub.receive(0.05)


def test_events_come_in_order_and_healed(daemon: FakeDaemon) -> None:
    async def work() -> list[int]:
        seen = []
        async with subscriber(daemon) as sub, asyncio.timeout(LIMIT_S):
            await live(sub)
            await asyncio.to_thread(daemon.lose, "trade.1")
            await asyncio.to_thread(daemon.publish, "trade.1", "trade.1")
            async for item in sub:
                assert isinstance(item, Trade)
                seen.append(item.seq)
                if len(seen) == 3:
                    break
        return seen

    assert asyncio.run(work()) == [1, 2, 3]


def test_plain_and_async_handlers_are_called_in_order(daemon: FakeDaemon) -> None:
    async def work() -> tuple[list[str], int]:
        sub = subscriber(daemon)
        seen: list[str] = []

        @sub.on(kind="trade")
        async def slow(trade: Trade) -> None:
            await asyncio.sleep(0)
            seen.append(f"async {trade.seq}")

        @sub.on("trade.1")
        async def bad(_trade: Trade) -> None:
            raise ZeroDivisionError

        @sub.on("trade.*")
        def quick(trade: Trade) -> None:
            seen.append(f"plain {trade.seq}")
            if trade.seq == 2:
                sub.close()

        async with sub, asyncio.timeout(LIMIT_S):
            await live(sub)
            await asyncio.to_thread(daemon.publish, "trade.1", "trade.1")
            await sub.run()
        return seen, sub.counts["handler_errors"]

    assert asyncio.run(work()) == (["async 1", "plain 1", "async 2", "plain 2"], 2)


def test_a_full_queue_stops_the_reading_and_nothing_durable_is_lost(daemon: FakeDaemon) -> None:
    async def work() -> tuple[list[int], set[str]]:
        async with subscriber(daemon, lag_limit=50, notices=True) as sub, asyncio.timeout(LIMIT_S):
            await live(sub)
            await asyncio.to_thread(daemon.publish, *(["trade.1"] * 3_000))
            seen: list[int] = []
            kinds = set()
            async for item in sub:
                if isinstance(item, Notice):
                    kinds.add(item.kind)
                elif isinstance(item, Trade):
                    seen.append(item.seq)
                    if len(seen) == 3_000:
                        break
            return seen, kinds

    seen, _kinds = asyncio.run(work())
    assert seen == list(range(1, 3_001))


def test_the_end_comes_from_any_thread(daemon: FakeDaemon) -> None:
    async def work() -> None:
        async with subscriber(daemon) as sub, asyncio.timeout(LIMIT_S):
            await live(sub)
            closing = asyncio.get_running_loop().run_in_executor(None, sub.close)
            async for _ in sub:
                pass
            await closing
            assert await sub.receive(1) is None

    asyncio.run(work())


def test_an_event_during_which_another_task_closes_comes_again(daemon: FakeDaemon, tmp_path: Path) -> None:
    path = tmp_path / "position"

    async def cut_off() -> None:
        sub = subscriber(daemon, position_file=path)
        started = asyncio.Event()

        @sub.on("trade.*")
        async def never_done(_trade: Trade) -> None:
            started.set()
            await asyncio.Event().wait()

        async with asyncio.timeout(LIMIT_S):
            await live(sub)
            working = asyncio.create_task(sub.run())
            await asyncio.to_thread(daemon.publish, "trade.1")
            await started.wait()
            await sub.aclose()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

    async def again() -> list[int]:
        sub = subscriber(daemon, position_file=path)
        seen = []

        @sub.on("trade.*")
        async def done(trade: Trade) -> None:
            seen.append(trade.seq)
            await sub.aclose()  # by the task that handles it

        async with asyncio.timeout(LIMIT_S):
            await sub.run()
        return seen

    asyncio.run(cut_off())
    assert asyncio.run(again()) == [1]
    daemon.publish("trade.1")
    assert asyncio.run(again()) == [2]


def test_what_a_task_did_to_its_end_after_another_one_closed_is_remembered(daemon: FakeDaemon, tmp_path: Path) -> None:
    path = tmp_path / "position"

    async def work() -> None:
        sub = subscriber(daemon, position_file=path)
        started, go_on = asyncio.Event(), asyncio.Event()

        @sub.on("trade.*")
        async def slow(_trade: Trade) -> None:
            started.set()
            await go_on.wait()

        async with asyncio.timeout(LIMIT_S):
            await live(sub)
            working = asyncio.create_task(sub.run())
            await asyncio.to_thread(daemon.publish, "trade.1")
            await started.wait()
            await sub.aclose()
            assert PositionFile(path).load() == Position("log-1", 0)
            go_on.set()
            await working

    asyncio.run(work())
    assert PositionFile(path).load() == Position("log-1", 0, {"trade.1": 1})


def test_the_current_event_is_done_when_its_task_leaves_the_loop_and_closes(daemon: FakeDaemon, tmp_path: Path) -> None:
    path = tmp_path / "position"

    async def work() -> None:
        async with subscriber(daemon, position_file=path) as sub, asyncio.timeout(LIMIT_S):
            await live(sub)
            await asyncio.to_thread(daemon.publish, "trade.1")
            async for _ in sub:
                break

    asyncio.run(work())
    assert PositionFile(path).load() == Position("log-1", 0, {"trade.1": 1})


def test_the_position_file_is_written_while_it_runs(daemon: FakeDaemon, tmp_path: Path) -> None:
    path = tmp_path / "position"

    async def work() -> None:
        async with subscriber(daemon, position_file=path) as sub, asyncio.timeout(LIMIT_S):
            while not path.exists():
                await sub.receive(0.05)

    asyncio.run(work())


def test_close_ends_the_iteration_though_more_has_come_already(daemon: FakeDaemon) -> None:
    async def work() -> int:
        seen = 0
        async with subscriber(daemon) as sub, asyncio.timeout(LIMIT_S):
            await live(sub)
            await asyncio.to_thread(daemon.publish, *["trade.1"] * 5)
            async for _ in sub:
                seen += 1
                while seen == 1 and len(sub._items) < 4:  # noqa: ASYNC110, SLF001 - the reading thread fills it
                    await asyncio.sleep(0)
                sub.close()
        return seen

    assert asyncio.run(work()) == 1


def test_a_subscriber_that_never_started_can_be_closed() -> None:
    async def work() -> object:
        sub = AsyncSubscriber("tcp://127.0.0.1:1", query_endpoint=None)
        sub.close()
        await sub.aclose()
        return await sub.receive(0)

    assert asyncio.run(work()) is None


def test_a_fault_of_the_reading_thread_ends_the_iteration_and_is_raised(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with asyncio.timeout(LIMIT_S), AsyncSubscriber("pigeon://x", query_endpoint=None) as sub:
            async for _ in sub:
                pass

    with caplog.at_level(logging.ERROR), pytest.raises(ClientError, match=r"the reading thread ended: .*pigeon"):
        asyncio.run(work())
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_receive_ends_after_its_time(daemon: FakeDaemon) -> None:
    async def work() -> object:
        async with subscriber(daemon, topics=["trade.none"]) as sub:
            return await sub.receive(0.05)

    assert asyncio.run(work()) is None
