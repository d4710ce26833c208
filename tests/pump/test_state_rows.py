"""Rows of a snapshot: made when they are read, of what was there when it was taken."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mt4pump.mt4.record import Fields
from mt4pump.pump.snapshot import StateRow, rows_by_field, state_rows, touches
from mt4pump.wire import HEARTBEAT, TRADE


def test_a_row_has_its_topic_with_the_suffix_and_its_fields() -> None:
    rows = state_rows([(TRADE, rows_by_field([{"login": 1, "order": 5}], "login"))], "|")
    assert list(rows) == [StateRow(b"trade.1|", {"login": 1, "order": 5})]


def test_what_changes_after_the_snapshot_is_not_in_it() -> None:
    rows = [{"login": 1}]
    snapshot = state_rows([(TRADE, rows_by_field(rows, "login"))], "")
    rows.append({"login": 2})
    assert [row.topic for row in snapshot] == [b"trade.1"]


def test_rows_are_made_while_they_are_read() -> None:
    made: list[int] = []

    def source() -> Iterator[tuple[object, Fields]]:
        for number in range(3):
            made.append(number)
            yield number, {"login": number}

    rows = state_rows([(TRADE, source())], "")
    assert (next(rows).topic, made) == (b"trade.0", [0])


@pytest.mark.parametrize(
    ("prefix", "touched"),
    [
        (b"", True),
        (b"t", True),
        (b"trade", True),
        (b"trade.", True),
        (b"trade.10", True),
        (b"trades", False),
        (b"quote.", False),
        (b"u", False),
    ],
)
def test_a_prefix_touches_the_kinds_that_it_may_be_the_beginning_of(prefix: bytes, *, touched: bool) -> None:
    assert touches(TRADE, [prefix]) is touched


def test_no_prefix_touches_everything() -> None:
    assert all(touches(kind, []) for kind in (TRADE, HEARTBEAT))
