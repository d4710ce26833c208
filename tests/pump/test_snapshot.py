"""A request for a snapshot and its answer, over two threads."""

from __future__ import annotations

from threading import Thread

from mt4pump.pump.snapshot import SnapshotRequest, StateSnapshot

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
