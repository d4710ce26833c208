"""Back-off: how long each wait is."""

from __future__ import annotations

from mt4pump.process.backoff import Backoff


def test_waits_double_up_to_the_limit_and_begin_again_after_a_success() -> None:
    backoff = Backoff(0.5, 3.0)
    assert [backoff.next_s() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    backoff.reset()
    assert (backoff.upcoming_s, backoff.next_s(), backoff.upcoming_s) == (0.5, 0.5, 1.0)


def test_no_wait_is_longer_than_the_limit() -> None:
    assert [Backoff(1000.0, 30.0).next_s(), Backoff(0.0, 30.0).next_s()] == [30.0, 0.0]
