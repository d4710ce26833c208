"""Budgets that refill, and turns that are fair."""

from __future__ import annotations

import asyncio

import pytest
from mt4pump_consumers.gateway import limits as module
from mt4pump_consumers.gateway.limits import WORK_BURST_S, Budget, Budgets, ReadingSlots, Work

LIMIT_S = 30.0


def test_a_budget_comes_back_with_time_and_no_further_than_its_most() -> None:
    budget = Budget(10, 20)
    assert all(budget.allows(100) for _ in range(20))
    assert not budget.allows(100)
    assert budget.allows(100.15)
    assert not budget.allows(100.15)
    assert budget.spend(1000, 20) == 0
    assert budget.spend(1000, 5) == 0.5
    assert budget.spend(1000, 5) == 1.0  # who comes next waits for both


def test_the_table_of_budgets_is_bounded_and_keeps_those_that_are_in_debt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OWNERS_LIMIT", 10)
    budgets = Budgets(1, 1)
    assert budgets.of("debtor", 1).spend(1, 100) > 0
    for number in range(1000):
        budgets.of(f"owner {number}", 1 + number / 1000)
        assert len(budgets) <= 10
    assert budgets.of("debtor", 2).spend(2, 0) > 0


def test_owners_have_their_turns_one_after_the_other_however_many_connections_they_have() -> None:
    async def test() -> None:
        turns, order = ReadingSlots(1), list[str]()

        async def work(owner: str) -> None:
            async with turns.slot(owner):
                order.append(owner)
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(work("busy")) for _ in range(50)]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(work("other"))]
        await asyncio.wait_for(asyncio.gather(*tasks), LIMIT_S)
        assert order.index("other") <= 3
        assert not turns.has_waiting

    asyncio.run(test())


def test_one_that_gives_up_while_it_waits_leaves_its_place_to_the_next() -> None:
    async def test() -> None:
        turns = ReadingSlots(1)
        free = asyncio.Event()

        async def hold(owner: str) -> None:
            async with turns.slot(owner):
                await free.wait()

        holder, leaver, last = (asyncio.create_task(hold(owner)) for owner in ("a", "b", "c"))
        await asyncio.sleep(0)
        leaver.cancel()
        free.set()
        await asyncio.wait_for(asyncio.gather(holder, last), LIMIT_S)
        async with asyncio.timeout(LIMIT_S), turns.slot("d"):
            assert leaver.cancelled()

    asyncio.run(test())


def test_who_has_spent_its_budget_waits_and_others_do_not() -> None:
    async def test() -> None:
        work, is_open = Work(1000), [True]
        for _ in range(6):
            await work.spend("greedy", 1000 * WORK_BURST_S / 6, lambda: is_open[0])
        assert work.waits == 0
        waiting = asyncio.create_task(work.spend("greedy", 1e9, lambda: is_open[0]))
        await asyncio.sleep(0)
        await asyncio.wait_for(work.spend("other", 100, lambda: True), LIMIT_S)
        assert not waiting.done()
        assert work.waits == 1
        assert not work.allows("greedy", 1)
        assert work.allows("other", 1)
        is_open[0] = False  # it is not waited for
        await asyncio.wait_for(waiting, LIMIT_S)

    asyncio.run(test())
