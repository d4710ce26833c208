"""Conflation: never too often, always the last value."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from mt4pump_consumers.gateway.broadcaster import EARLY_S, Conflation

INTERVAL_S = 1.0


@given(st.lists(st.tuples(st.floats(0.001, 3.0), st.sampled_from("ab"), st.booleans()), max_size=60))
def test_never_too_often_and_always_the_last_one(steps: list[tuple[float, str, bool]]) -> None:
    conflation, now_s, value = Conflation[tuple[str, int]](INTERVAL_S), 0.0, 0
    sent: dict[str, list[tuple[float, int]]] = {"a": [], "b": []}
    offered: dict[str, int] = {}

    def tick() -> None:
        for key, number in conflation.due(now_s):
            sent[key].append((now_s, number))

    for pause_s, name, check in steps:
        now_s, value = now_s + pause_s, value + 1
        if check:
            tick()
        offered[name] = value
        if conflation.offer(name, (name, value), now_s):
            sent[name].append((now_s, value))
    for _ in range(3):
        now_s += INTERVAL_S
        tick()
    for name, number in offered.items():
        times = [at_s for at_s, _ in sent[name]]
        assert all(later - earlier >= INTERVAL_S - EARLY_S for earlier, later in pairwise(times))
        assert sent[name][-1][1] == number
    assert not conflation.hot


def test_busy_keys_come_due_together() -> None:
    conflation = Conflation[str](INTERVAL_S)
    for number, key in enumerate("abc"):
        conflation.offer(key, key, number * 0.1)
        conflation.offer(key, key, number * 0.1)
    assert conflation.due(1.2) == ["a", "b", "c"]
