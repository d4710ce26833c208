"""A request for a snapshot, its answer over two threads, and the rows of what was there when it was taken."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Thread

import pytest

from mt4pump.mt4.record import Fields
from mt4pump.pump.snapshot import SnapshotRequest, StateRow, StateSnapshot, rows_by_field, state_rows, touches
from mt4pump.wire import HEARTBEAT, TRADE

SNAPSHOT = StateSnapshot(epoch=1, log=None, offset=0, offsets={}, ts=2, seqs={}, rows=())


def test_an_answer_wakes_the_waiting_thread() -> None:
    request = SnapshotRequest((b"quote.",))
    other = Thread(target=request.answer, args=(SNAPSHOT,))
    other.start()
    assert request.wait(40) is SNAPSHOT
    other.join()
    assert request.prefixes == (b"quote.",)


def test_an_answer_that_came_first_is_there_at_once() -> None:
    request = SnapshotRequest((b"",))
    request.answer(SNAPSHOT)
    assert request.wait(0) is SNAPSHOT
    assert not request.is_open


def test_without_an_answer_the_wait_ends_and_the_request_stays_open() -> None:
    request = SnapshotRequest((b"",))
    assert request.wait(0.001) is None
    assert request.is_open


def test_a_snapshot_that_failed_is_answered_with_none_at_once() -> None:
    request = SnapshotRequest((b"",))
    request.answer(None)
    assert request.wait(40) is None
    assert not request.is_open


def test_a_cancelled_request_need_not_be_answered() -> None:
    request = SnapshotRequest((b"",))
    request.cancel()
    assert not request.is_open


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
