"""The verdict of the chaos run finds every way in which an event can be missing, too much or wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.plan import MEANINGS, planned
from tests.chaos.record import (
    DURABLE,
    HEAD,
    HEALED,
    LIVE,
    NOTICE,
    PASSING,
    RUN,
    SNAPSHOT,
    Block,
    Recorder,
    Row,
    blocks,
)
from tests.chaos.verdict import ReaderCheck, Stored, Tally, Truth, tallies_of

EPOCH, NEXT = 1_000, 2_000
TOPICS = ["trade.1", "trade.2", "quote.A", "session.ping"]
JOURNAL = {
    1: Stored("trade.1", EPOCH, 1, 11),
    2: Stored("trade.2", EPOCH, 1, 12),
    3: Stored("trade.1", EPOCH, 2, 13),
    4: Stored("trade.1", NEXT, 1, 14),
    5: Stored("user.9", NEXT, 1, 15),
}
TRUTH = Truth(JOURNAL, 5, NEXT, {"quote.A": 4, "trade.1": 1, "quote.B": 7})


def durable(offset: int, came: int = LIVE) -> Row:
    event = JOURNAL[offset]
    return [DURABLE, TOPICS.index(event.topic), event.epoch, event.seq, came, offset, event.crc]


def quote(seq: int, epoch: int = EPOCH, came: int = LIVE) -> Row:
    return [PASSING, TOPICS.index("quote.A"), epoch, seq, came]


def notice(kind: str, topic: str = "", count: int = 0) -> Row:
    return [NOTICE, kind, topic, count, f"{kind} {topic}"]


RIGHT: list[Row] = [
    [RUN, 1],
    quote(5, came=SNAPSHOT),
    durable(1, HEALED),
    durable(2),
    quote(6),
    notice("lost", "quote.A", 2),
    quote(9),
    durable(3),
    notice("restarted"),
    durable(4),
    notice("lost", "quote.A", 1),
    quote(2, NEXT),
    quote(3, NEXT),
    notice("lost", "quote.A", 1),
    quote(4, NEXT, SNAPSHOT),
]


def verdict(rows: list[Row], topics: tuple[str, ...] = ("trade.*", "quote.A"), **position: Any) -> Tally:
    check = ReaderCheck("reader", topics, TRUTH, from_start=not position)
    check.handle(Block(position or None, TOPICS, rows, 0))
    (tally,) = tallies_of([check])
    return tally


def test_what_is_right_is_explained_and_counted() -> None:
    tally = verdict(RIGHT)
    assert tally.samples == []
    assert tally.unexplained == 0
    assert (tally.published, tally.live, tally.healed) == (4, 3, 1)
    assert (tally.quotes_published, tally.quotes, tally.quotes_lost) == (8, 4, 4)


def without(row: Row) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [each for each in rows if each != row]


def after(row: Row, *new: Row) -> Callable[[list[Row]], list[Row]]:
    place = RIGHT.index(row) + 1
    return lambda rows: [*rows[:place], *new, *rows[place:]]


WRONG: dict[str, tuple[Callable[[list[Row]], list[Row]], dict[str, int]]] = {
    "a durable event is missing": (without(durable(2)), {"missing": 1}),
    "the last durable event is missing": (without(durable(4)), {"missing": 1}),
    "one comes twice": (after(durable(2), durable(2)), {"twice": 1}),
    "one comes again after a restart of the reader": (
        after(durable(3), durable(1, HEALED)),
        {"twice": 1, "out of order": 1},
    ),
    "two come in the wrong order": (
        lambda rows: after(durable(3), durable(1))(without(durable(1, HEALED))(rows)),
        {"out of order": 1},
    ),
    "one is not the journal's": (after(durable(3), [*durable(3)[:6], 99]), {"not in the journal": 1}),
    "one has no offset": (after(durable(3), [*durable(3)[:5], 0, 13]), {"not in the journal": 1}),
    "a durable event is reported as lost": (
        after(durable(3), notice("lost", "trade.1", 1)),
        {"durable reported as lost": 1},
    ),
    "a quote is missing": (without(quote(6)), {"gap": 1}),
    "a quote comes twice": (after(quote(6), quote(6)), {"gap": 1}),
    "a loss is not reported": (without(notice("lost", "quote.A", 2)), {"gap": 2}),
    "too much is reported as lost": (after(quote(6), notice("lost", "quote.A", 3)), {"gap": 3}),
    "the first quotes of an epoch are missing": (
        lambda rows: [row for row in rows if row not in (quote(2, NEXT), quote(3, NEXT))],
        {"gap": 2},
    ),
    "the last quotes are missing": (lambda rows: rows[:-2], {"wrong end": 1}),
    "a new epoch is not reported": (without(notice("restarted")), {"epoch without notice": 1, "gap": 9}),
}


@pytest.mark.parametrize("what", WRONG)
def test_it_is_found_that(what: str) -> None:
    change, faults = WRONG[what]
    found = verdict(change(list(RIGHT))).faults
    assert {name: count for name, count in found.items() if name in faults} == faults


def test_a_reader_that_joined_late_need_not_have_what_was_before() -> None:
    tally = verdict([row for row in RIGHT if row[:6] != durable(1, HEALED)[:6]], confirmed=1)
    assert (tally.unexplained, tally.published) == (0, 3)


def test_a_reader_whose_query_fails_at_the_start_need_not_know_what_was_before() -> None:
    rows = [
        [RUN, 1],
        notice("query_failed"),
        notice("lost", "trade.1", 1),
        notice("lost", "quote.A", 2),
        quote(9),
        durable(3),
    ]
    check = ReaderCheck("reader", ("trade.*", "quote.A"), TRUTH, from_start=False)
    check.handle(Block(None, TOPICS, rows, 0))
    later = [row for row in RIGHT[RIGHT.index(notice("restarted")) :] if row != notice("lost", "quote.A", 1)]
    later.insert(2, notice("lost", "quote.A", 1))  # the last loss is not reported yet when its snapshot ends the run
    check.handle(Block({"confirmed": 3}, TOPICS, later, 0))
    (tally,) = tallies_of([check])
    assert (tally.samples, tally.unexplained, tally.published) == ([], 0, 1)
    rows.insert(1, quote(5, came=SNAPSHOT))
    check = ReaderCheck("reader", ("trade.*", "quote.A"), TRUTH, from_start=False)
    check.handle(Block({"confirmed": 2}, TOPICS, rows, 0))
    assert check.finish().faults.keys() >= {"gap", "durable reported as lost"}


def test_what_another_reader_got_before_the_daemons_end_is_counted_apart() -> None:
    short = [row for row in RIGHT if row not in (notice("lost", "quote.A", 2), quote(9))]
    checks = [ReaderCheck(name, ("trade.*", "quote.A"), TRUTH, from_start=True) for name in ("short", "long")]
    for check, rows in zip(checks, (short, RIGHT), strict=True):
        check.handle(Block(None, TOPICS, rows, 0))
    first, second = tallies_of(checks)
    assert (first.unexplained, first.unprovable, second.unprovable) == (0, 3, 0)


def test_a_torn_block_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "reader"
    recorder = Recorder(path)

    class NullStream:
        position = None

    recorder.write(NullStream())  # type: ignore[arg-type]
    whole = path.read_bytes()
    for cut in (1, HEAD.size, HEAD.size + 1):
        path.write_bytes(whole + whole[:cut])
        assert len(list(blocks(path))) == 1
    again = Recorder(path)
    again.write(NullStream())  # type: ignore[arg-type]
    assert [block.rows for block in blocks(path)] == [[[RUN, 1]], [[RUN, 2]]]


def test_a_plan_has_every_kind_of_fault_and_is_the_same_for_the_same_seed() -> None:
    names = ["one", "two"]
    first, again, other = (planned(seed, 60, 100.0, names) for seed in (1, 1, 2))
    assert first == again != other
    assert {fault.kind for fault in first} == set(MEANINGS)
    assert len(first) == 60
    assert [fault.at_s for fault in first] == sorted(fault.at_s for fault in first)
