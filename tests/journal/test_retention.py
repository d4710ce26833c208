"""What is too old or too much goes, oldest first, in small steps."""

import itertools
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mt4pump.journal import JournalOptions, Stored
from mt4pump.journal import retention as retention_module
from tests.journal.journals import (
    NOW_NS,
    OPTIONS,
    Clock,
    add,
    events,
    first_page,
    kill,
    no_orders,
    number,
    opened,
    read_all,
)

DAY_S = 86400


def test_events_older_than_the_limit_go_and_younger_ones_stay(path: Path, clock: Clock) -> None:
    with opened(path, JournalOptions(max_age_s=DAY_S), clock) as journal:
        add(journal, 5, ts=clock.ns)
        clock.advance(DAY_S / 2)
        add(journal, 5, ts=clock.ns)
        journal.maintain(no_orders)
        assert journal.counters()["deleted"] == 0
        clock.advance(DAY_S / 2 + 1)
        journal.maintain(no_orders)
        counters = journal.counters()
        assert (counters["deleted"], counters["first_offset"]) == (5, 6)
    page = first_page(path)
    assert ([event.offset for event in page.events], page.first_available, page.whole) == (
        [6, 7, 8, 9, 10],
        6,
        False,
    )
    assert first_page(path, after=5).whole


def test_without_a_limit_of_age_the_proven_time_goes_on(path: Path, clock: Clock) -> None:
    with opened(path, JournalOptions(), clock) as journal:
        clock.advance(3 * DAY_S)
        journal.maintain(no_orders)
        assert journal.proven_ns() == clock.ns  # old files are deleted by it


def test_a_journal_whose_events_all_went_goes_on_by_one(path: Path, clock: Clock) -> None:
    with opened(path, JournalOptions(max_age_s=DAY_S), clock) as journal:
        add(journal, 5)
        clock.advance(2 * DAY_S)
        journal.maintain(no_orders)
        page = first_page(path)
        assert (page.events, page.first_available, page.last, page.whole) == ([], 0, 5, False)
        assert first_page(path, after=5).whole
    with opened(path, JournalOptions(max_age_s=DAY_S), clock) as journal:
        add(journal, 1, ts=clock.ns)
        assert journal.last_offset == 6
        journal.maintain(no_orders)
        assert journal.counters()["first_offset"] == 6


def test_an_event_stamped_in_the_future_is_not_deleted_early_nor_those_behind_it(path: Path, clock: Clock) -> None:
    with opened(path, JournalOptions(max_age_s=DAY_S), clock) as journal:
        add(journal, 1, ts=NOW_NS + 10 * DAY_S * 10**9)
        add(journal, 3, ts=NOW_NS)
        clock.advance(2 * DAY_S)
        journal.maintain(no_orders)
        assert journal.counters()["deleted"] == 0


def test_a_clock_that_is_far_ahead_for_a_moment_deletes_nothing(path: Path, clock: Clock) -> None:
    with opened(path, JournalOptions(max_age_s=7 * DAY_S), clock) as journal:
        add(journal, 5, ts=clock.ns)
        for jump_s in (30 * DAY_S, -30 * DAY_S, 3650 * DAY_S, -3650 * DAY_S, -400 * DAY_S, 400 * DAY_S):
            clock.ns += jump_s * 10**9
            for _ in range(12):
                clock.advance(1)
                add(journal, 1, ts=clock.ns)
                journal.maintain(no_orders)
        assert journal.counters()["deleted"] == 0
        clock.advance(8 * DAY_S)
        assert read_all(path) == list(range(1, 78))


@pytest.mark.parametrize("max_age_s", [60, 3600, DAY_S, 30 * DAY_S])
@pytest.mark.parametrize("restart", [False, True])
def test_the_age_limit_is_small_or_large_a_moment_ahead_deletes_nothing(
    path: Path, clock: Clock, max_age_s: int, *, restart: bool
) -> None:
    options = JournalOptions(max_age_s=max_age_s)
    with opened(path, options, clock) as journal:
        add(journal, 5, ts=clock.ns)
        clock.ns += 60 * DAY_S * 10**9
        for _ in range(12):
            clock.advance(1)
            journal.maintain(no_orders)
        assert journal.counters()["deleted"] == 0
        assert number(journal, "clock_ahead_s") > 59 * DAY_S
        if not restart:
            return
    for _ in range(3):
        with opened(path, options, clock) as journal:
            journal.maintain(no_orders)
            assert (journal.counters()["deleted"], journal.counters()["first_offset"]) == (0, 1)
            clock.advance(1)


def test_after_weeks_when_the_machine_was_off_old_events_go_in_the_end(path: Path, clock: Clock) -> None:
    options = JournalOptions(max_age_s=7 * DAY_S)
    with opened(path, options, clock) as journal:
        add(journal, 5, ts=clock.ns)
    clock.ns += 21 * DAY_S * 10**9
    for _ in range(30):  # an hour of each start counts, as the time that is believed is stored
        with opened(path, options, clock) as journal:
            add(journal, 1, ts=clock.ns)
            for _ in range(60):
                clock.advance(60)
                journal.maintain(no_orders)
            if not journal.counters()["clock_ahead_s"]:
                break
    else:
        raise AssertionError("the clock was never believed")
    assert read_all(path)[0] == 6


def test_events_stamped_by_a_clock_that_is_behind_outlive_its_being_set_right(path: Path, clock: Clock) -> None:
    """A machine whose battery is empty starts in the past, and gets the time from the network a minute later."""
    options = JournalOptions(max_age_s=7 * DAY_S)
    with opened(path, options, clock) as journal:
        add(journal, 5, ts=clock.ns)
    clock.ns -= 400 * DAY_S * 10**9
    with opened(path, options, clock) as journal:
        add(journal, 5, ts=clock.ns)
        clock.advance(60)
        clock.ns += 400 * DAY_S * 10**9
        add(journal, 1, ts=clock.ns)
        for _ in range(60):
            clock.advance(1)
            journal.maintain(no_orders)
        assert journal.counters()["deleted"] == 0
        clock.advance(8 * DAY_S)
        journal.maintain(no_orders)
        assert journal.counters()["deleted"] == 11


def test_a_clock_that_was_ahead_for_long_and_is_set_right_deletes_by_the_right_time(path: Path, clock: Clock) -> None:
    options = JournalOptions(max_age_s=7 * DAY_S)
    with opened(path, options, clock) as journal:
        clock.ns += 30 * DAY_S * 10**9
        clock.advance(2 * DAY_S)
        journal.maintain(no_orders)
        clock.ns -= 30 * DAY_S * 10**9
        add(journal, 5, ts=clock.ns)
        clock.advance(6 * DAY_S)
        journal.maintain(no_orders)
        assert journal.counters()["deleted"] == 0


def test_file_and_log_together_stay_within_the_size(path: Path) -> None:
    bound = 4 * 2**20
    options = JournalOptions(max_bytes=bound)
    with opened(path, options) as journal:
        for _ in range(300):
            add(journal, 50, size=700)
            journal.maintain(no_orders)
        assert number(journal, "size_bytes") + options.wal_limit_bytes < 1.1 * bound


def test_the_size_in_use_stays_near_its_bound_and_the_file_reuses_pages(path: Path) -> None:
    bound = 2 * 2**20
    with opened(path, JournalOptions(max_bytes=bound)) as journal:
        for _ in range(300):
            add(journal, 50, size=700)
            journal.maintain(no_orders)
        assert bound / 2 < number(journal, "size_bytes") < 1.2 * bound
    assert path.stat().st_size < 2 * bound
    assert len(read_all(path)) < 3000


def test_a_backlog_goes_in_bounded_steps_over_many_calls(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_module, "STEP_ROWS", 100)
    with opened(path) as journal:
        for _ in range(10):
            add(journal, 1000, size=300)
    clock.ns += 30 * DAY_S * 10**9
    with opened(path, clock=clock) as journal:
        clock.s += 2 * DAY_S  # so long it takes until the clock is believed
        deleted = [0.0]
        for _ in range(60):
            add(journal, 100, ts=clock.ns)
            journal.maintain(no_orders)
            deleted.append(number(journal, "deleted"))
        steps = [later - earlier for earlier, later in itertools.pairwise(deleted)]
        assert 0 < max(steps) <= 2 * 600 + 500, "credit of some commits, and a step of maintenance"
        assert deleted[-1] == 10_000
        assert journal.counters()["first_offset"] == 10_001


def test_zero_means_no_bound(path: Path, clock: Clock) -> None:
    with opened(path, JournalOptions(), clock) as journal:
        add(journal, 100, size=5000)
        clock.advance(1000 * DAY_S)
        journal.maintain(no_orders)
        assert journal.counters()["deleted"] == 0


def test_open_orders_are_not_subject_to_retention(path: Path, clock: Clock) -> None:
    with opened(path, JournalOptions(max_age_s=1, max_bytes=20_000), clock) as journal:
        assert journal.append(events(journal, b"trade.1"), dict.fromkeys(range(200), b"x" * 700))
        for _ in range(5):
            clock.advance(60)
            journal.maintain(no_orders)
        assert len(journal.open_orders()) == 200
        assert journal.counters()["deleted"] == 1


def test_while_there_is_too_much_commits_take_out_twice_what_they_bring(path: Path) -> None:
    with opened(path, JournalOptions(max_bytes=2**20)) as journal:
        add(journal, 3000, size=700)
        journal.maintain(no_orders)
        before = number(journal, "deleted")
        add(journal, 250, size=700)
        assert number(journal, "deleted") == before + 500


def test_a_flood_between_two_measurements_deletes_no_more_than_was_too_much(path: Path) -> None:
    with opened(path, JournalOptions(max_bytes=2**20)) as journal:
        add(journal, 3000, size=700)
        journal.maintain(no_orders)
        for _ in range(20):
            add(journal, 250, size=700)
        assert number(journal, "deleted") < 2500


def test_an_event_that_the_open_orders_still_need_outlives_a_flood_of_too_old_ones(path: Path, clock: Clock) -> None:
    options = JournalOptions(identity=OPTIONS.identity, max_age_s=DAY_S)
    with opened(path, options, clock) as journal:
        assert journal.append((), {})
        add(journal, 1000, topic=b"quote.A")
        clock.advance(2 * DAY_S)
        journal.maintain(no_orders)
        opening = Stored(journal.last_offset + 1, NOW_NS, b"trade.1", b"open order", 77)
        assert journal.append([opening], {})
        for _ in range(4):
            add(journal, 500, topic=b"quote.A")
        assert number(journal, "deleted") == opening.offset - 1
        kill(journal)
    with opened(path, options, clock) as journal:
        assert journal.open_orders() == {77: b"open order"}


def test_a_break_is_forgotten_with_the_events_around_it(path: Path, clock: Clock) -> None:
    def breaks() -> int:
        with closing(sqlite3.connect(path)) as file:
            return int(file.execute("SELECT count(*) FROM breaks").fetchone()[0])

    with opened(path, JournalOptions(max_age_s=DAY_S), clock) as journal:
        add(journal, 3)
        assert not journal.append([Stored(99, NOW_NS, b"", b"")], {})
        clock.advance(1)
        journal.maintain(no_orders)
        add(journal, 3)
        assert breaks() == 1
        clock.advance(2 * DAY_S)
        journal.maintain(no_orders)
        assert number(journal, "deleted") == 6
        assert breaks() == 0
