"""What is handed over and what waits: nothing passes a snapshot that is on its way, and each gap is counted once."""

from __future__ import annotations

import pytest

from tests.client.harness import Harness


@pytest.mark.parametrize("pages", [1, 2])
def test_no_last_value_that_comes_late_goes_over_a_newer_quote(pages: int) -> None:
    """A join after the endpoint was away: quotes flow, and one comes while a page of the snapshot is awaited."""
    harness = Harness("quote.*")
    harness.model.page_limit = 1
    harness.answering = False
    harness.receive(harness.model.heartbeat())
    harness.refuse()
    symbols = ["AUDUSD", "EURUSD"][:pages]
    harness.receive(*(harness.model.event(f"quote.{symbol}", bid=1.0) for symbol in symbols))
    harness.wait(60)
    harness.receive(harness.model.heartbeat())
    for _ in range(pages):
        harness.answer()  # describe, and all pages but the last
    page = harness.make_reply()
    harness.receive(harness.model.event(f"quote.{symbols[-1]}", bid=2.0))
    harness.deliver_reply(page)
    harness.collect()
    assert harness.stream.ordering.has_snapshot
    assert harness.quotes(symbols[-1]) == [(1.0, False), (1.0, True), (2.0, False)]
    assert harness.stream.ordering.quotes[symbols[-1]].bid == 2.0


def test_each_gap_is_counted_once_whatever_its_length() -> None:
    harness = Harness().live()
    quotes = [harness.model.event("quote.EURUSD") for _ in range(6)]
    harness.receive(quotes[0], quotes[2], quotes[5])
    assert (harness.stream.counts["gaps"], harness.stream.counts["lost"]) == (2, 3)


def test_a_loss_at_a_silent_end_is_counted_as_a_gap_once() -> None:
    harness = Harness().live()
    harness.model.event("quote.EURUSD")
    harness.model.event("quote.EURUSD")
    harness.model.dropped += 2
    for _ in range(3):
        harness.receive(harness.model.heartbeat())
    assert (harness.stream.counts["gaps"], harness.stream.counts["lost"]) == (1, 2)
