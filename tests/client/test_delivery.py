"""What is handed over and what waits: nothing overtakes a cut that is on its way, and each gap is counted once."""

from __future__ import annotations

import pytest

from mt4pump.client.events import Quote
from tests.client.desk import Desk


@pytest.mark.parametrize("pages", [1, 2])
def test_no_last_value_that_comes_late_goes_over_a_newer_quote(pages: int) -> None:
    """A join after the endpoint was away: quotes flow, and one comes while a page of the cut is on its way."""
    desk = Desk("quote.*")
    desk.ledger.page_limit = 1
    desk.answering = False
    desk.take(desk.ledger.beat())
    desk.refuse()
    symbols = ["AUDUSD", "EURUSD"][:pages]
    desk.take(*(desk.ledger.event(f"quote.{symbol}", bid=1.0) for symbol in symbols))
    desk.wait(60)
    desk.take(desk.ledger.beat())
    for _ in range(pages):
        desk.answer()  # describe, and all pages but the last
    page = desk.replied()
    desk.take(desk.ledger.event(f"quote.{symbols[-1]}", bid=2.0))
    desk.hand_in(page)
    desk.collect()
    assert desk.stream.ordering.based
    found = [(item.bid, item.snapshot) for item in desk.items if isinstance(item, Quote) and item.symbol == symbols[-1]]
    assert found == [(1.0, False), (1.0, True), (2.0, False)]
    assert desk.stream.ordering.quotes[symbols[-1]].bid == 2.0


def test_each_gap_is_counted_once_whatever_its_length() -> None:
    desk = Desk().live()
    quotes = [desk.ledger.event("quote.EURUSD") for _ in range(6)]
    desk.take(quotes[0], quotes[2], quotes[5])
    assert (desk.stream.counts["gaps"], desk.stream.counts["lost"]) == (2, 3)


def test_a_loss_at_a_silent_end_is_counted_as_a_gap_once() -> None:
    desk = Desk().live()
    desk.ledger.event("quote.EURUSD")
    desk.ledger.event("quote.EURUSD")
    desk.ledger.turned_away += 2
    for _ in range(3):
        desk.take(desk.ledger.beat())
    assert (desk.stream.counts["gaps"], desk.stream.counts["lost"]) == (1, 2)
