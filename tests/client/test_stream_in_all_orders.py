"""The pure core under any script: each durable event comes once and in order, and every loss is reported."""

from __future__ import annotations

from collections import Counter

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mt4pump.client.event import Checkpoint, Event
from mt4pump.client.position import Position, PositionTracker
from tests.client.harness import Harness

IN_ONE_RUN = [
    *("trade.1", "trade.2", "user.1", "quote.A", "quote.B"),
    *("heartbeat", "reconnect", "unstored", "open", "answer"),
]
steps = st.lists(st.sampled_from([*IN_ONE_RUN, "restart", "late", "fail"]), min_size=1, max_size=60)
# A third run is left out: events of the second that wait then may come late, after a notice that they were lost.
steps_in_one_run = st.lists(st.sampled_from(IN_ONE_RUN), min_size=1, max_size=60)
topics = st.lists(st.sampled_from(["trade.1", "trade.2", "quote.A"]), max_size=3)


@settings(max_examples=400, deadline=None)
@given(steps, st.lists(st.booleans(), min_size=60, max_size=60), st.integers(1, 4))
def test_whatever_is_lost_each_durable_event_comes_once_in_order_and_every_loss_is_reported(
    script: list[str], losses: list[bool], page: int
) -> None:
    harness = Harness().live()
    harness.model.page_limit = page
    harness.answering = False
    start = len(harness.model.published)
    unknown = Counter[str]()
    for step, lost in zip(script, losses, strict=False):
        play(harness, step, lost=lost, unknown=unknown)
    harness.answering = True
    harness.model.stored = harness.model.opened = True
    harness.wait(1)
    for _ in range(5):
        harness.wait(1)
        harness.model.dropped += 1
        harness.receive(harness.model.heartbeat())
    published = harness.model.published[start:]
    stored = [(body["offset"], topic) for topic, body in published if "offset" in body]
    assert sorted(harness.offsets()) == [offset for offset, _ in stored], "every stored event, once"
    for topic in {topic for _, topic in stored}:
        mine = [
            item.offset for item in harness.items if isinstance(item, Event) and item.topic == topic and item.offset
        ]
        assert mine == sorted(mine), f"{topic} in order"
    for topic in {topic for topic, _ in published}:
        came = len(harness.events_of(topic))
        reported = sum(count for kind, of, count in harness.notices("lost") if of == topic)
        sent = sum(1 for of, _ in published if of == topic)
        assert came + reported <= sent <= came + reported + unknown[topic], f"{topic}: received and reported"
    assert not harness.stream.ordering.held
    assert harness.stream.ordering.confirmed == harness.model.last_offset


@settings(max_examples=200, deadline=None)
@given(steps, st.lists(st.booleans(), min_size=60, max_size=60), st.integers(1, 4), st.floats(0, 1))
def test_a_reader_that_dies_anywhere_goes_on_from_its_position_with_nothing_missing_and_nothing_twice(
    script: list[str], losses: list[bool], page: int, share: float
) -> None:
    harness = Harness().live()
    harness.model.page_limit = page
    harness.answering = False
    for step, lost in zip(script, losses, strict=False):
        play(harness, step, lost=lost, unknown=Counter())
    dies_after = round(share * len(harness.items))
    done, tracker = harness.items[:dies_after], PositionTracker()
    tracker.confirm(Checkpoint("log-1", 0))
    for item in done:
        if isinstance(item, Event):
            tracker.hand_over(item)
        elif isinstance(item, Checkpoint):
            tracker.confirm(item)
    position = Position.of(tracker.position(with_current=True).as_dict())
    harness.model.stored = harness.model.opened = True
    second = Harness(model=harness.model, resume=position)
    second.go_live()
    first = [item.offset for item in done if isinstance(item, Event) and not item.snapshot and item.offset]
    assert sorted(first + second.offsets()) == list(range(1, harness.model.last_offset + 1))


@settings(max_examples=200, deadline=None)
@example(
    ["trade.1"] * 4 + ["unstored", "trade.1", "trade.2", "unstored", "answer", "fail"],
    ["trade.2"],
    ["trade.1"],
    [False] * 3 + [True] + [False] * 116,
    1,
)
@given(steps, topics, steps_in_one_run, st.lists(st.booleans(), min_size=120, max_size=120), st.integers(1, 4))
def test_whatever_waits_when_a_run_with_a_smaller_epoch_begins_each_event_of_it_comes_once_and_in_order(
    before: list[str], first: list[str], after: list[str], losses: list[bool], page: int
) -> None:
    """The daemon's folder was deleted, so the journal is another one as well; a heartbeat shows it."""
    assume(before.count("fail") <= 3)  # else the pause before the next request is longer than the waits below
    harness = Harness().live()
    harness.model.page_limit = page
    harness.answering = False
    for step, lost in zip(before, losses, strict=False):
        play(harness, step, lost=lost, unknown=Counter())
    harness.model.restart(log="log-2")
    harness.model.epoch = 500
    start = len(harness.model.published)
    harness.reconnect()
    for topic in first:
        harness.receive(harness.model.event(topic))
    harness.receive(harness.model.heartbeat())
    for step, lost in zip(after, losses[60:], strict=False):
        play(harness, step, lost=lost, unknown=Counter())
    harness.answering = True
    harness.model.stored = harness.model.opened = True
    harness.wait(1)
    for _ in range(5):
        harness.wait(1)
        harness.model.dropped += 1
        harness.receive(harness.model.heartbeat())
    published = [(topic, body["epoch"], body["seq"], body.get("offset")) for topic, body in harness.model.published]
    events = [item for item in harness.items if isinstance(item, Event) and not item.snapshot]
    came = [(event.topic, event.epoch, event.seq, event.offset) for event in events if event.kind != "heartbeat"]
    assert len(came) == len(set(came)), "none twice"
    assert [event for event in published[start:] if event[3] and event not in came] == [], "every stored event"
    for topic in {topic for topic, *_ in published}:
        of_topic = [event for event in came if event[0] == topic]
        stored = [event for event in of_topic if event[3]]
        assert stored == [event for event in published if event in stored], f"{topic} in order"
        reported = sum(count for _, of, count in harness.notices("lost") if of == topic)
        assert len(of_topic) + reported <= len([event for event in published if event[0] == topic]), topic
    assert not harness.stream.ordering.held
    assert harness.stream.ordering.confirmed == harness.model.last_offset


def play(harness: Harness, step: str, *, lost: bool, unknown: Counter[str]) -> None:  # noqa: PLR0912 - one branch per step
    """Do one step of a script. ``unknown``: what a restart made impossible to know, per topic."""
    if step == "heartbeat":
        message = harness.model.heartbeat()
        if not lost:
            harness.receive(message)
    elif step in {"restart", "late"}:
        # Only what the old epoch lost of topics that are not stored may go untold.
        for topic, body in harness.model.published:
            if "offset" not in body:
                unknown[topic] += 1
        harness.model.restart(opened=step == "restart")
    elif step == "open":
        harness.model.opened = True
    elif step == "reconnect":
        harness.reconnect()
    elif step == "unstored":
        harness.model.stored = not harness.model.stored
    elif step == "answer":
        if harness.ask() is not None:
            harness.answer()
            harness.collect()
    elif step == "fail":
        if harness.ask() is not None:
            harness.refuse("journal_error")
    else:
        message = harness.model.event(step)
        if lost:
            harness.model.dropped += 1
        else:
            harness.receive(message)
