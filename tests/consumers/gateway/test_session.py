"""One client's session: live events behind a replay, and what subscriptions mean."""

from __future__ import annotations

from typing import Any

from mt4pump.client import Position
from tests.consumers.gateway.stream_made import event
from tests.consumers.gateway.test_client_writer import Bench, run


def confirmed(messages: list[Any]) -> list[tuple[int, int | None]]:
    return [(one["data"]["offset"], one.get("confirmed")) for one in messages if one["type"] == "trade"]


def test_a_replay_keeps_late_events_back_in_its_journal_only() -> None:
    async def test() -> None:
        bench = Bench()
        bench.broadcaster.event(event("heartbeat", 1, log="a", offset=9))
        bench.session.note_replay(["trade.*"], "a", 9)
        bench.trade(9)
        bench.trade(10)
        assert [one["data"]["offset"] for one in await bench.sent()] == [10]
        bench.broadcaster.event(event("heartbeat", 2, log="b", offset=3))
        bench.trade(4)
        assert [one["data"]["offset"] for one in await bench.sent()] == [4]

    run(test)


def test_an_event_says_where_to_resume_from_and_it_is_before_what_is_still_missing() -> None:
    async def test() -> None:
        bench = Bench()
        bench.broadcaster.event(event("heartbeat", 1, log="a", offset=99))
        bench.broadcaster.bridge.put(Position("a", 99), lambda: True)
        bench.broadcaster.drain()
        for offset in (101, 105, 100):  # 100 was lost before it arrived here, and healed
            bench.trade(offset)
        assert confirmed(await bench.sent()) == [(101, 99), (105, 99), (100, 99)]
        bench.broadcaster.bridge.put(Position("a", 105), lambda: True)
        bench.broadcaster.drain()
        bench.trade(106)
        assert confirmed(await bench.sent()) == [(106, 105)]
        bench.broadcaster.event(event("heartbeat", 2, log="b", offset=0))
        bench.trade(1)  # of a journal in which nothing is confirmed yet
        assert confirmed(await bench.sent()) == [(1, None)]

    run(test)


def test_a_symbol_that_looks_like_a_pattern_and_a_stored_quote_come_live() -> None:
    async def test() -> None:
        bench = Bench()
        bench.session.symbols, bench.session.topics = {"US[30]": None, "E?RUSD": None}, {"quote.GBPUSD": None}
        bench.session.refresh()
        bench.broadcaster.event(event("heartbeat", 1, log="a", offset=9))
        bench.broadcaster.bridge.put(Position("a", 9), lambda: True)
        bench.broadcaster.drain()
        for symbol in ("US[30]", "US3", "EURUSD", "GBPUSD"):
            body: dict[str, Any] = {"symbol": symbol, "bid": 1, "ask": 1, "digits": 5, "time": 1, "offset": 10}
            bench.broadcaster.event(event(f"quote.{symbol}", 1, **body))
        sent = await bench.sent()
        assert [one["data"]["symbol"] for one in sent] == ["US[30]", "US3", "EURUSD", "GBPUSD"]
        assert "confirmed" not in sent[-1]  # what conflates proves nothing about what came before

    run(test)
