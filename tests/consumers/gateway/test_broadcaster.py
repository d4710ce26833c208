"""The broadcaster: what it remembers for replays, and when a quote that waits is sent."""

from __future__ import annotations

import json
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

from mt4pump_consumers.gateway.broadcaster import Broadcaster
from mt4pump_consumers.gateway.client_writer import ClientWriter, Payload
from mt4pump_consumers.gateway.subscriber_groups import GroupKey

from tests.consumers.gateway.stream_made import event, trade

INTERVAL_S = 0.5
READING = GroupKey(frozenset(), frozenset({"quote.*"}), ("*",), 0, 0.0)


class Bench:
    """A broadcaster, and the one reader of its quotes, on a loop whose time only passes from timer to timer."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        loop = SimpleNamespace(time=lambda: self.now_s, call_at=lambda at_s, call: self.timers.append((at_s, call)))
        self.broadcaster = Broadcaster(cast(AbstractEventLoop, loop), 1 / INTERVAL_S, lambda _notice: None)
        self._sent: list[bytes] = []
        self.write_now: Callable[[bytes], object] | None = self._sent.append
        self.broadcaster.groups.join(cast(ClientWriter, self), READING)

    def write(self, _data: bytes, _payloads: list[Payload]) -> None:
        raise AssertionError("it must wait")

    def quote(self, number: int) -> None:
        self.broadcaster.event(event("quote.EURUSD", number))
        self.broadcaster.drain()

    def timer(self) -> None:
        """Let time pass until the one timer there is, and run it."""
        ((self.now_s, call),) = self.timers
        self.timers.clear()
        call()

    def sent(self) -> list[int]:
        """Return the numbers that were sent since the last call."""
        frames, self._sent[:] = list(self._sent), []
        return [json.loads(frame[frame.index(b"{") :])["data"]["seq"] for frame in frames]


def test_what_was_forgotten_never_goes_back_when_a_healed_event_falls_out_later() -> None:
    broadcaster = Bench().broadcaster
    broadcaster.recent = deque(maxlen=2)
    for offset in (10, 4, 11, 12):  # 10 falls out, then 4, which was healed after it
        broadcaster.event(trade(offset, offset))
    assert broadcaster.forgotten == 10


def test_quotes_of_one_interval_wait_for_one_timer_and_the_last_of_them_is_sent() -> None:
    bench = Bench()
    for number in (1, 2, 3):
        bench.quote(number)
    assert bench.sent() == [1]
    bench.timer()
    assert bench.sent() == [3]
    assert bench.broadcaster.conflated == 1


def test_quotes_that_are_replaced_before_the_loop_takes_them_are_counted() -> None:
    bench = Bench()
    bench.quote(1)
    for number in (2, 3, 4):
        bench.broadcaster.bridge.put(event("quote.EURUSD", number), lambda: False)
    bench.timer()
    assert bench.sent() == [1, 4]
    assert bench.broadcaster.conflated == 2


def test_a_symbol_that_stays_busy_is_sent_interval_after_interval() -> None:
    bench = Bench()
    bench.quote(1)
    for number in (2, 3, 4):
        bench.quote(number)
        bench.timer()
    assert bench.sent() == [1, 2, 3, 4]
    assert bench.now_s == 3 * INTERVAL_S


def test_a_symbol_that_became_quiet_needs_no_timer_and_is_sent_at_once_when_it_wakes() -> None:
    bench = Bench()
    bench.quote(1)
    bench.timer()
    assert not bench.timers
    bench.quote(2)
    assert bench.sent() == [1, 2]
    bench.quote(3)
    bench.timer()
    assert bench.sent() == [3]
