"""Numbers per topic, and what a reader can prove from them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mt4pump.cli.stream import GapDetector

A, B = b"trade.1", b"trade.2"


def test_numbers_in_a_row_are_no_gap() -> None:
    detector = GapDetector()
    assert [detector.accept(A, 1, seq) for seq in (1, 2, 3)] == [0, 0, 0]
    assert (detector.gaps, detector.missed, detector.repeats) == (0, 0, 0)


def test_nothing_before_the_first_message_counts_as_lost() -> None:
    assert GapDetector().accept(A, 1, 500) == 0


def test_a_gap_shows_how_many_are_missing() -> None:
    detector = GapDetector()
    detector.accept(A, 1, 1)
    assert detector.accept(A, 1, 5) == 3
    assert detector.accept(A, 1, 7) == 1
    assert (detector.gaps, detector.missed) == (2, 4)


def test_a_repeat_and_an_older_one_are_seen_and_do_not_set_the_count_back() -> None:
    detector = GapDetector()
    for seq in (1, 2, 3):
        detector.accept(A, 1, seq)
    assert [detector.accept(A, 1, seq) for seq in (3, 1, 4)] == [-1, -1, 0]
    assert (detector.repeats, detector.missed) == (2, 0)


def test_topics_do_not_disturb_each_other() -> None:
    detector = GapDetector()
    assert [detector.accept(*message) for message in ((A, 1, 1), (B, 1, 9), (A, 1, 2), (B, 1, 10))] == [0] * 4


def test_a_new_epoch_starts_every_topic_afresh() -> None:
    detector = GapDetector()
    detector.accept(A, 1, 100)
    assert detector.accept(A, 2, 3) == 0
    assert detector.accept(A, 2, 5) == 1


@given(st.sets(st.integers(1, 60), min_size=1))
def test_missed_is_exactly_what_was_left_out_between_the_first_and_the_last(received: set[int]) -> None:
    detector = GapDetector()
    for seq in sorted(received):
        detector.accept(A, 1, seq)
    assert detector.missed == max(received) - min(received) + 1 - len(received)
