"""The pure core under any script: each durable event comes once and in order, and every loss is told."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from mt4pump.client.event import Checkpoint, Event
from mt4pump.client.position import Position, PositionTracker
from tests.client.desk import Desk

steps = st.lists(
    st.sampled_from(
        [
            "trade.1",
            "trade.2",
            "user.1",
            "quote.A",
            "quote.B",
            "beat",
            "restart",
            "reconnect",
            "unstored",
            "late",
            "open",
            "answer",
            "fail",
        ]
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(steps, st.lists(st.booleans(), min_size=60, max_size=60), st.integers(1, 4))
def test_whatever_is_lost_each_durable_event_comes_once_in_order_and_every_loss_is_told(
    script: list[str], losses: list[bool], page: int
) -> None:
    desk = Desk().live()
    desk.ledger.page_limit = page
    desk.answering = False
    start = len(desk.ledger.published)
    unknown = Counter[str]()
    for step, lost in zip(script, losses, strict=False):
        play(desk, step, lost=lost, unknown=unknown)
    desk.answering = True
    desk.ledger.stored = desk.ledger.opened = True
    desk.wait(1)
    for _ in range(5):
        desk.wait(1)
        desk.ledger.turned_away += 1
        desk.take(desk.ledger.beat())
    published = desk.ledger.published[start:]
    stored = [(body["offset"], topic) for topic, body in published if "offset" in body]
    assert sorted(desk.offsets()) == [offset for offset, _ in stored], "every stored event, once"
    for topic in {topic for _, topic in stored}:
        mine = [item.offset for item in desk.items if isinstance(item, Event) and item.topic == topic and item.offset]
        assert mine == sorted(mine), f"{topic} in order"
    for topic in {topic for topic, _ in published}:
        came = len(desk.events_of(topic))
        told = sum(count for kind, of, count in desk.notices("lost") if of == topic)
        sent = sum(1 for of, _ in published if of == topic)
        assert came + told <= sent <= came + told + unknown[topic], f"{topic}: received and told"
    assert not desk.stream.ordering.held
    assert desk.stream.ordering.confirmed == desk.ledger.last_offset


@settings(max_examples=200, deadline=None)
@given(steps, st.lists(st.booleans(), min_size=60, max_size=60), st.integers(1, 4), st.floats(0, 1))
def test_a_reader_that_dies_anywhere_goes_on_from_its_position_with_nothing_missing_and_nothing_twice(
    script: list[str], losses: list[bool], page: int, share: float
) -> None:
    desk = Desk().live()
    desk.ledger.page_limit = page
    desk.answering = False
    for step, lost in zip(script, losses, strict=False):
        play(desk, step, lost=lost, unknown=Counter())
    dies_after = round(share * len(desk.items))
    done, tracker = desk.items[:dies_after], PositionTracker()
    tracker.confirm(Checkpoint("log-1", 0))
    for item in done:
        if isinstance(item, Event):
            tracker.hand_over(item)
        elif isinstance(item, Checkpoint):
            tracker.confirm(item)
    position = Position.of(tracker.position(with_current=True).as_dict())
    desk.ledger.stored = desk.ledger.opened = True
    second = Desk(ledger=desk.ledger, resume=position)
    second.live_items()
    first = [item.offset for item in done if isinstance(item, Event) and not item.snapshot and item.offset]
    assert sorted(first + second.offsets()) == list(range(1, desk.ledger.last_offset + 1))


def play(desk: Desk, step: str, *, lost: bool, unknown: Counter[str]) -> None:  # noqa: PLR0912 - one branch per step
    """Do one step of a script. ``unknown``: what a restart made impossible to know, per topic."""
    if step == "beat":
        message = desk.ledger.beat()
        if not lost:
            desk.take(message)
    elif step in {"restart", "late"}:
        # Only what the old epoch lost of topics that are not stored may go untold.
        for topic, body in desk.ledger.published:
            if "offset" not in body:
                unknown[topic] += 1
        desk.ledger.restart(opened=step == "restart")
    elif step == "open":
        desk.ledger.opened = True
    elif step == "reconnect":
        desk.stream.set_disconnected()
        desk.stream.set_connected(desk.now_s)
    elif step == "unstored":
        desk.ledger.stored = not desk.ledger.stored
    elif step == "answer":
        if desk.ask() is not None:
            desk.answer()
            desk.collect()
    elif step == "fail":
        if desk.ask() is not None:
            desk.refuse("journal_error")
    else:
        message = desk.ledger.event(step)
        if lost:
            desk.ledger.turned_away += 1
        else:
            desk.take(message)
