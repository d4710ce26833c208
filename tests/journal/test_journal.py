"""What is appended is there, in order, under its offset, also after the next start."""

import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mt4pump.daemon import journal_options
from mt4pump.journal import Journal, JournalOptions, JournalReader, Stored
from mt4pump.journal import store as store_module
from mt4pump.settings import load
from tests.journal.journals import (
    NOW_NS,
    OPTIONS,
    Clock,
    add,
    events,
    first_page,
    kill,
    no_orders,
    open_journal,
    opened,
    read_all,
    store_of,
)

TOPICS = st.lists(st.sampled_from([b"trade.1", b"trade.10", b"user.1", b"quote.\xff\xfe", b""]), max_size=90)
STEPS = st.lists(st.one_of(TOPICS, st.sampled_from(["restart", "kill", "maintain"])), max_size=12)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_sequence_of_groups_restarts_and_kills_reads_back_as_one_list(
    steps: list[list[bytes] | str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("model") / "journal.sqlite3"
    model: list[tuple[int, bytes, bytes]] = []
    journal = open_journal(path)
    log_id = journal.log_id
    for step in steps:
        if step == "maintain":
            journal.maintain(no_orders)
        elif isinstance(step, str):
            journal.close() if step == "restart" else kill(journal)
            journal = open_journal(path)
        else:
            group = events(journal, *step)
            assert journal.append(group, {})
            model += [(event.offset, event.topic, event.body) for event in group]
        assert journal.last_offset == len(model)
    kinds = {topic.partition(b".")[0].decode(): offset for offset, topic, _ in model}
    assert (journal.last_offsets, journal.log_id) == (kinds, log_id)
    with closing(JournalReader(path)) as reader:
        page = reader.page(after=0)
    assert [tuple(event) for event in page.events] == model
    assert (page.next, page.last, page.first_available, page.whole) == (None, len(model), min(1, len(model)), True)
    journal.close()


@pytest.mark.skipif(sys.platform == "win32", reason="a folder of Windows has the rights of the one above it, no modes")
def test_the_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "journal.sqlite3"
    with opened(path) as journal:
        assert journal.durable
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (path.parent, path.parent.parent)] == [0o700, 0o700]


def test_a_clean_end_leaves_one_file_and_no_jump(path: Path) -> None:
    with opened(path) as journal:
        add(journal, 3)
    assert [part.name for part in path.parent.iterdir()] == [path.name]
    with opened(path) as journal:
        add(journal, 1)
        assert journal.last_offset == 4
    assert first_page(path).whole


def test_a_new_file_has_a_log_id_of_its_own(tmp_path: Path) -> None:
    with opened(tmp_path / "a.sqlite3") as one, opened(tmp_path / "b.sqlite3") as other:
        assert len(one.log_id) == 16
        assert one.log_id != other.log_id


def test_last_offsets_survive_kill_and_retention_of_every_event(path: Path, clock: Clock) -> None:
    journal = open_journal(path, clock=clock)
    assert journal.append(events(journal, b"trade.1", b"user.2", b"trade.3", b"k\xff.1"), {})
    kill(journal)
    with opened(path, clock=clock) as journal:
        assert journal.last_offsets == {"trade": 3, "user": 2, "k\ufffd": 4}
        clock.advance(OPTIONS.max_age_s + 1)
        journal.maintain(no_orders)
        assert journal.counters()["deleted"] == 4
    with opened(path, clock=clock) as journal:
        assert journal.last_offsets == {"trade": 3, "user": 2, "k\ufffd": 4}
        assert journal.last_offset == 4


def test_the_table_of_kinds_is_written_long_before_the_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "KINDS_EVERY", 10)
    journal = open_journal(path)
    add(journal, 25)
    with closing(sqlite3.connect(path)) as reader:
        assert reader.execute("SELECT last FROM kinds").fetchone() == (25,)
    journal.close()


def test_open_orders_come_back_as_they_were_left(path: Path) -> None:
    with opened(path) as journal:
        assert not journal.has_orders
        assert journal.append((), {1: b"one", 2: b"two", 3: b"three"})
        assert journal.append(events(journal, b"trade.1"), {2: None, 3: b"THREE", 4: b"four"})
        assert journal.has_orders
    with opened(path) as journal:
        assert journal.has_orders
        assert journal.open_orders() == {1: b"one", 3: b"THREE", 4: b"four"}


def test_orders_that_events_opened_and_ended_just_before_a_kill_are_read_from_these(path: Path) -> None:
    journal = open_journal(path)
    assert journal.append((), {1: b"one", 2: b"two"})
    assert journal.append([Stored(1, NOW_NS, b"trade.1", b"three", 3), Stored(2, NOW_NS, b"trade.1", b"", -2)], {})
    kill(journal)
    with opened(path) as journal:
        assert journal.open_orders() == {1: b"one", 3: b"three"}


def test_no_orders_are_pending_that_were_written(path: Path) -> None:
    with opened(path) as journal:
        assert journal.append((), {})
        assert journal.append([Stored(1, NOW_NS, b"trade.1", b"one", 1), Stored(2, NOW_NS, b"trade.1", b"", -7)], {})
        journal.maintain(no_orders)
        assert store_of(journal).orders.pending == {}
        assert journal.open_orders() == {1: b"one"}


def test_many_orders_change_in_one_commit(path: Path) -> None:
    with opened(path) as journal:
        assert journal.append((), {ticket: b"%d" % ticket for ticket in range(1000)})
        assert journal.append(events(journal, b"trade.1"), dict.fromkeys(range(0, 1000, 2)))
        assert journal.open_orders() == {ticket: b"%d" % ticket for ticket in range(1, 1000, 2)}
        assert journal.counters()["commits"] == 2


def stored_orders(path: Path) -> tuple[bool, dict[int, bytes]]:
    """Return whether the table of open orders is complete, and what it holds."""
    with closing(sqlite3.connect(path)) as file:
        (is_complete,) = file.execute("SELECT value FROM meta WHERE name = 'mirror'").fetchone()
        return bool(is_complete), dict(file.execute('SELECT ticket, "row" FROM orders'))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "ORDERS_PER_COMMIT", 10)
    monkeypatch.setattr(store_module, "ORDERS_PENDING_LIMIT", 20)
    monkeypatch.setattr(store_module, "ORDERS_PER_MAINTENANCE", 20)


MANY = {ticket: b"%d" % ticket for ticket in range(1, 101)}


@pytest.mark.usefixtures("small_parts")
def test_very_many_orders_are_written_in_parts_so_that_no_commit_is_long(path: Path) -> None:
    with opened(path) as journal:
        assert journal.append((), MANY)
        sizes = [len(stored_orders(path)[1])]
        for _ in range(2):
            assert journal.append([Stored(journal.last_offset + 1, NOW_NS, b"trade.1", b"changed", 100)], {})
            sizes.append(len(stored_orders(path)[1]))
        while not stored_orders(path)[0]:
            assert journal.open_orders() == MANY | {100: b"changed"}
            journal.maintain(no_orders)
            sizes.append(len(stored_orders(path)[1]))
        assert sizes == [10, 20, 30, 50, 70, 90, 100]
    assert stored_orders(path) == (True, MANY | {100: b"changed"})


@pytest.mark.usefixtures("small_parts")
def test_a_clean_end_completes_the_orders_and_a_kill_before_that_leaves_none(path: Path) -> None:
    journal = open_journal(path)
    assert journal.append((), MANY)
    kill(journal)
    with opened(path) as journal:
        assert not journal.has_orders
        assert journal.append((), MANY)
    with opened(path) as journal:
        assert journal.open_orders() == MANY


@pytest.mark.usefixtures("small_parts")
def test_a_kill_while_orders_are_replaced_loses_none_of_either(path: Path) -> None:
    """The next start compares them with the server's: one that is too many is published as closed."""
    with opened(path) as journal:
        assert journal.append((), MANY)
    journal = open_journal(path)
    replacement = dict.fromkeys(range(51, 151), b"new")
    journal.replace_orders(replacement)
    assert journal.open_orders() == replacement
    kill(journal)
    with opened(path) as journal:
        assert journal.open_orders().keys() >= MANY.keys() - set(range(1, 51))
        journal.replace_orders(replacement)
    assert stored_orders(path) == (True, replacement)


def test_no_open_orders_are_stored_like_any(path: Path) -> None:
    with opened(path) as journal:
        add(journal, 1)
        assert not journal.has_orders
        assert journal.append((), {})
    with opened(path) as journal:
        assert journal.has_orders
        assert journal.open_orders() == {}


def test_another_identity_sees_no_orders_and_its_first_ones_replace_them(path: Path) -> None:
    with opened(path) as journal:
        assert journal.append((), {1: b"one"})
    other = JournalOptions(identity="dll/2")
    with opened(path, other) as journal:
        assert not journal.has_orders
        assert journal.open_orders() == {}
        add(journal, 1)
    with opened(path) as journal:
        assert journal.open_orders() == {1: b"one"}, "an event alone does not touch another's orders"
    with opened(path, other) as journal:
        assert journal.append((), {7: b"seven"})
        assert journal.open_orders() == {7: b"seven"}
    with opened(path) as journal:
        assert not journal.has_orders


def test_events_with_wrong_offsets_are_not_stored_and_leave_a_break(path: Path, clock: Clock) -> None:
    with opened(path, clock=clock) as journal:
        add(journal, 2)
        assert not journal.append([Stored(7, NOW_NS, b"trade.1", b"")], {})
        assert not journal.durable
        assert "7" in journal.error
        clock.advance(1)
        journal.maintain(no_orders)
        add(journal, 1)
        assert journal.last_offset == 3
    assert not first_page(path, after=2).whole
    assert first_page(path, after=3).whole


def test_a_number_that_sqlite_cannot_hold_costs_its_group_only(path: Path, clock: Clock) -> None:
    with opened(path, clock=clock) as journal:
        assert not journal.append(events(journal, b"trade.1", ts=2**64), {})
        clock.advance(1)
        journal.maintain(no_orders)
        add(journal, 1)
    assert read_all(path) == [1]


def test_vitals_are_those_of_the_heartbeat(path: Path) -> None:
    with opened(path) as journal:
        add(journal, 2)
        journal.maintain(no_orders)
        counters = journal.counters()
    assert set(counters) == {
        *("stored", "unstored", "commits", "errors", "set_aside", "deleted"),
        *("first_offset", "size_bytes", "wal_bytes", "wal_limit_bytes", "wal_held_s", "clock_ahead_s", "error"),
    }
    assert (counters["stored"], counters["commits"], counters["first_offset"], counters["error"]) == (2, 1, 1, "")


@pytest.mark.parametrize("level", ["off", "normal", "full"])
def test_every_level_of_synchronous_stores_and_reads_back(path: Path, level: str) -> None:
    with opened(path, JournalOptions(synchronous=level)) as journal:
        add(journal, 5)
    assert read_all(path) == [1, 2, 3, 4, 5]


def test_the_old_level_extra_is_full_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = {"source": "simulator", "data_dir": tmp_path, "journal_synchronous": "extra"}
    assert journal_options(load(given, environ={}, config=None)).synchronous == "full"
    assert "journal_synchronous = extra is the same as full: write full" in caplog.text


def test_an_unknown_level_of_synchronous_is_refused() -> None:
    with pytest.raises(ValueError, match="sometimes"):
        JournalOptions(synchronous="sometimes")


def test_a_group_of_nothing_touches_nothing(path: Path) -> None:
    with opened(path) as journal:
        assert journal.append((), {1: b"one"})
        commits = journal.counters()["commits"]
        assert journal.append((), {})
        assert journal.counters()["commits"] == commits


def test_closing_twice_does_no_harm(path: Path) -> None:
    journal = open_journal(path)
    journal.close()
    journal.close()
    assert not journal.durable
    assert isinstance(journal, Journal)
