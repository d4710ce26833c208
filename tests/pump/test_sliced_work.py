"""Whole tables are compared in slices: nothing waits for them, and no snapshot shows half of a first read."""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Generator

import pytest
import zmq

from mt4pump.errors import LayoutError, ManagerError
from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import USER_RECORD
from mt4pump.pump.session import Command
from mt4pump.pump.sliced_work import REST_FACTOR, SlicedWork, release
from mt4pump.pump.snapshot import SnapshotRequest
from tests.bus import LIMIT_S
from tests.pump.running import START, RunningPump, trade

FAULTS = (ManagerError, LayoutError)
USERS = 3_000


class Bench:
    """Sliced work on a clock that goes on by a second at each look."""

    def __init__(self, slice_s: float) -> None:
        self.done: list[str] = []
        self.faults: list[str] = []
        self.now_s = 0.0
        self.work = SlicedWork(slice_s, FAULTS, lambda name, _fault: self.faults.append(name), self._look)

    def _look(self) -> float:
        self.now_s += 1.0
        return self.now_s

    def job(self, name: str, steps: int = 3) -> Generator[None, None, None]:
        for step in range(steps):
            self.done.append(f"{name}{step}")
            yield

    def add(self, name: str, steps: int = 3) -> None:
        self.work.add(name, lambda: self.job(name, steps))

    def finish(self) -> None:
        while self.work.is_busy:
            self.work.run()


def test_without_a_bound_a_job_is_done_at_once() -> None:
    bench = Bench(math.inf)
    bench.add("a")
    assert bench.done == ["a0", "a1", "a2"]
    assert not bench.work.is_busy


def test_a_slice_is_one_step_at_least_and_the_rest_comes_later() -> None:
    bench = Bench(0.5)
    bench.add("a")
    assert bench.done == ["a0"]
    bench.work.run()
    assert bench.done == ["a0", "a1"]
    bench.finish()
    assert bench.done == ["a0", "a1", "a2"]


def test_a_job_reads_when_it_is_added_and_goes_on_in_its_turn() -> None:
    bench = Bench(0.5)
    bench.add("a")
    bench.add("b")
    assert bench.done == ["a0", "b0"]
    bench.finish()
    assert bench.done == ["a0", "b0", "a1", "a2", "b1", "b2"]


def test_a_table_is_compared_once_at_a_time_and_what_waits_is_not_added_again() -> None:
    bench = Bench(0.5)
    for name in ("a/x", "a/y", "a/y", "a/x", "a/x"):
        bench.add(name, 2)
    assert bench.done == ["a/x0"]
    bench.finish()
    assert bench.done == ["a/x0", "a/x1", "a/y0", "a/y1", "a/x0", "a/x1"]


def test_a_table_rests_for_longer_than_its_comparison_took() -> None:
    bench = Bench(0.5)
    bench.add("a")
    bench.finish()
    bench.add("a")
    began_s = bench.now_s
    assert bench.done == ["a0", "a1", "a2"]
    bench.finish()
    assert bench.now_s - began_s > REST_FACTOR
    assert len(bench.done) == 6


@pytest.mark.parametrize("slice_s", [0.5, math.inf])
def test_a_fault_costs_its_job_alone(slice_s: float) -> None:
    bench = Bench(slice_s)

    def bad() -> Generator[None, None, None]:
        yield
        raise LayoutError("bad bytes")

    bench.work.add("bad", bad)
    bench.add("b")
    bench.finish()
    assert bench.faults == ["bad"]
    assert bench.done == ["b0", "b1", "b2"]


def test_what_is_given_up_is_closed() -> None:
    bench = Bench(0.5)
    closed = []

    def job() -> Generator[None, None, None]:
        try:
            for _ in range(3):
                yield
        finally:
            closed.append(True)

    bench.work.add("a", job)
    bench.work.clear()
    assert closed == [True]
    assert not bench.work.is_busy


def users(count: int) -> bytes:
    return b"".join(
        USER_RECORD.pack({"login": login, "group": "demo", "balance": 1.0}) for login in range(1, count + 1)
    )


def test_a_record_passes_a_first_read_and_a_snapshot_waits_for_it(own: zmq.Context[zmq.Socket[bytes]]) -> None:
    running = RunningPump(own, slice_s=0.0)
    running.manager.tables["users"] = users(USERS)
    running.begin()
    request = SnapshotRequest((b"user.",))
    running.inbox.put_command(Command.ATTACH, running.session)
    running.inbox.notify(START, 0, b"")
    running.inbox.put_command(Command.SNAPSHOT, request)
    running.inbox.notify(PumpCode.UPDATE_TRADES, 0, trade(5))
    running.next("trade.100")
    snapshot = request.wait(LIMIT_S)
    assert snapshot is not None
    assert len(list(snapshot.rows)) == USERS
    running.finish()


def test_a_lost_session_gives_up_what_is_compared_and_the_next_one_sets_the_baseline(
    own: zmq.Context[zmq.Socket[bytes]],
) -> None:
    running = RunningPump(own, slice_s=0.0)
    running.manager.tables["users"] = users(USERS)
    running.begin()
    for _ in range(2):
        running.inbox.put_command(Command.ATTACH, running.session)
        running.inbox.notify(START, 0, b"")
        running.next("session.start")
        running.inbox.notify(PumpCode.STOP_PUMPING, 0, b"")
        running.next("session.stop")
    running.inbox.put_command(Command.ATTACH, running.session)
    running.inbox.notify(START, 0, b"")
    request = SnapshotRequest((b"user.",))
    running.inbox.put_command(Command.SNAPSHOT, request)
    snapshot = request.wait(LIMIT_S)
    assert snapshot is not None
    assert len(list(snapshot.rows)) == USERS
    assert not any(message.topic.startswith("user.") for message in running.received)
    running.finish()


@pytest.mark.skipif(sys.platform == "win32", reason="memory is given back in parts on Linux and macOS")
def test_the_memory_of_a_large_array_is_given_back_in_steps() -> None:
    memory = mmap.mmap(-1, 9 * 1024 * 1024, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:4], memory[-4:] = b"head", b"tail"
    assert len(list(release(memoryview(memory).toreadonly()))) == 3
    if sys.platform == "linux":
        assert (memory[:4], memory[-4:]) == (bytes(4), bytes(4))
    assert list(release(b"small")) == list(release(memoryview(b"small"))) == []
