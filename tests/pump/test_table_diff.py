"""Differences between a table as last published and as read again.

Private access: the fingerprint of a row, because no event shows a change of fields that are never published, and the
decoder, because that a row is not decoded again shows only in time.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt4pump.errors import LayoutError
from mt4pump.mt4.codes import Transaction
from mt4pump.mt4.layout import MARGIN_LEVEL, ONLINE_RECORD, USER_RECORD
from mt4pump.mt4.record import Decoder, Fields
from mt4pump.pump.table_diff import FlagTable, Table, TableEvent, fingerprint

ADD, DELETE, UPDATE, CHANGE_GRP = Transaction


def reread(table: Table, array: bytes) -> list[TableEvent]:
    """Return the differences of a whole table."""
    return [event for event in table.compare(array) if event is not None]


def online(login: int, group: str = "demo", **more: Any) -> bytes:
    return ONLINE_RECORD.pack({"login": login, "group": group, **more})


def table(*first: bytes) -> Table:
    """Return a table that was read once."""
    made = Table(Decoder(ONLINE_RECORD), "login")
    assert reread(made, b"".join(first)) == []
    return made


def differences(made: Table, *rows: bytes) -> list[tuple[str, int, str]]:
    """Return action, login and group of what a read publishes."""
    return [(event.action, event.fields["login"], event.fields["group"]) for event in reread(made, b"".join(rows))]


def test_the_first_read_sets_the_baseline() -> None:
    made = Table(Decoder(ONLINE_RECORD), "login")
    assert not made.has_baseline
    assert reread(made, online(1) + online(2)) == []
    assert made.has_baseline
    assert len(made) == 2


def test_an_empty_first_read_counts_as_read() -> None:
    assert differences(table(), online(1)) == [("add", 1, "demo")]


def test_the_same_table_publishes_nothing_in_any_order() -> None:
    made = table(online(1), online(2), online(3))
    assert differences(made, online(3), online(1), online(2)) == []
    assert len(made) == 3


def test_new_changed_and_gone_rows_are_published() -> None:
    made = table(online(1), online(2), online(3))
    assert differences(made, online(1), online(2, "vip"), online(4)) == [
        ("update", 2, "vip"),
        ("add", 4, "demo"),
        ("delete", 3, "demo"),
    ]
    assert differences(made, online(1), online(2, "vip"), online(4)) == []


def test_everything_gone_is_published_row_by_row() -> None:
    made = table(online(1), online(2))
    assert sorted(differences(made)) == [("delete", 1, "demo"), ("delete", 2, "demo")]
    assert len(made) == 0


def test_a_row_that_differs_only_in_what_is_never_published_is_a_repeat() -> None:
    made = table(online(1, reserved=1, ip=1))
    assert differences(made, online(1, reserved=2, ip=2)) == []
    assert differences(made, online(1, reserved=2, ip=2)) == []


def test_the_fields_of_a_deleted_row_are_its_last_ones() -> None:
    made = table(online(1, counter=7))
    assert [event.fields for event in reread(made, b"")] == [{"counter": 7, "login": 1, "group": "demo"}]


def test_a_row_listed_twice_is_one_row() -> None:
    made = table(online(1), online(1))
    assert len(made) == 1
    assert differences(made, online(1), online(1)) == []
    assert differences(made) == [("delete", 1, "demo")]


def test_of_two_rows_with_one_key_the_later_one_stays() -> None:
    made = table()
    assert differences(made, online(1, "a"), online(1, "b")) == [("add", 1, "a"), ("update", 1, "b")]
    assert differences(made) == [("delete", 1, "b")]


@pytest.mark.parametrize("first_read", [True, False])
def test_a_reread_of_doubled_rows_publishes_nothing_in_any_order(*, first_read: bool) -> None:
    listed = [online(1, "a"), online(1, "b"), online(2), online(1, "c", ip=1), online(1, "c", ip=2)]
    made = table(*(listed if first_read else ()))
    differences(made, *listed)
    for order in permutations(listed):
        assert differences(made, *order) == []


def test_of_doubled_rows_those_that_are_new_or_changed_are_published() -> None:
    made = table(online(1, "a"), online(1, "b"))
    assert differences(made, online(1, "c"), online(1, "a"), online(1, "b")) == [("update", 1, "c")]
    assert differences(made, online(1, "a"), online(1, "d"), online(1, "b")) == [("update", 1, "d")]


def test_of_doubled_rows_one_that_is_gone_is_published_as_an_update_to_one_that_is_there() -> None:
    made = table(online(1, "a"), online(1, "b"))
    assert differences(made, online(1, "b")) == [("update", 1, "b")]
    assert differences(made, online(1, "b")) == []


def test_a_row_from_the_pump_is_for_its_key_alone() -> None:
    made = table(online(1, "a"), online(1, "b"))
    made.apply(UPDATE, online(1, "c"))
    assert differences(made, online(1, "c")) == []
    assert differences(made, online(1, "c"), online(1, "b")) == [("update", 1, "b")]


@pytest.mark.parametrize(
    ("action", "name", "kept"),
    [(ADD, "add", True), (UPDATE, "update", True), (CHANGE_GRP, "change_group", True), (DELETE, "delete", False)],
)
def test_a_row_as_the_pump_published_it_is_published_and_kept(action: int, name: str, *, kept: bool) -> None:
    made = table()
    event = made.apply(action, online(1))
    assert event
    assert (event.action, event.fields["login"]) == (name, 1)
    assert differences(made, online(1)) == ([] if kept else [("add", 1, "demo")])


def test_an_action_that_the_api_does_not_have_is_an_update() -> None:
    made = table()
    event = made.apply(77, online(1))
    assert event
    assert event.action == "update"
    assert len(made) == 1


def test_a_row_deleted_without_having_been_known_is_published_all_the_same() -> None:
    event = table().apply(DELETE, online(9))
    assert event
    assert event.action == "delete"


@pytest.mark.parametrize("action", [ADD, UPDATE, 77])
def test_a_row_that_the_read_published_already_is_a_repeat(action: int) -> None:
    made = table(online(1))
    assert made.apply(action, online(1)) is None
    assert differences(made, online(1), online(2)) == [("add", 2, "demo")]
    assert made.apply(action, online(2)) is None
    assert differences(made, online(1), online(2)) == []


def test_a_row_published_twice_is_a_repeat_and_a_row_that_differs_is_none() -> None:
    made = table()
    assert made.apply(ADD, online(1))
    assert made.apply(ADD, online(1)) is None
    assert made.apply(UPDATE, online(1, "b"))
    assert made.apply(UPDATE, online(1))


def test_a_row_in_which_only_what_nobody_may_see_changed_is_a_repeat_and_the_read_finds_it_known() -> None:
    made = Table(Decoder(USER_RECORD), "login")
    row = USER_RECORD.pack({"login": 1, "password": "one"})
    hidden = USER_RECORD.pack({"login": 1, "password": "two"})
    assert made.apply(ADD, row)
    assert made.apply(UPDATE, hidden) is None
    assert made._rows[1][0] == fingerprint(hidden)  # noqa: SLF001


def test_a_change_of_the_group_is_never_a_repeat() -> None:
    made = table(online(1))
    assert made.apply(CHANGE_GRP, online(1))


def test_the_end_of_a_row_that_the_read_published_is_a_repeat_once() -> None:
    made = table(online(1))
    assert differences(made) == [("delete", 1, "demo")]
    assert made.apply(DELETE, online(1)) is None
    assert made.apply(DELETE, online(1)), "the next end is no repeat of that read"


def test_a_row_that_came_back_after_the_read_published_its_end_ends_anew() -> None:
    made = table(online(1))
    differences(made)
    assert made.apply(ADD, online(1))
    assert made.apply(DELETE, online(1))
    differences(made, online(2))
    differences(made)
    assert differences(made, online(2)) == [("add", 2, "demo")]
    assert made.apply(DELETE, online(2))


def test_ends_that_reads_published_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt4pump.pump.table_diff.ENDED_LIMIT", 1)
    made = table(online(1), online(2))
    assert len(differences(made)) == 2
    assert sorted(bool(made.apply(DELETE, online(login))) for login in (1, 2)) == [False, True]


def test_a_row_of_an_account_that_is_online_twice_is_no_repeat() -> None:
    made = table(online(1, "a"), online(1, "b"))
    assert made.apply(UPDATE, online(1, "a"))


def test_a_row_deleted_by_the_pump_is_not_deleted_again_by_the_read() -> None:
    made = table(online(1))
    made.apply(DELETE, online(1))
    assert differences(made) == []


def test_a_row_of_a_wrong_length_is_refused_and_changes_nothing() -> None:
    made = table(online(1))
    with pytest.raises(LayoutError):
        made.apply(UPDATE, online(1)[:-1])
    assert differences(made, online(1)) == []


def test_an_array_with_bytes_left_over_is_refused_and_the_rows_before_it_stay_known() -> None:
    made = table(online(1), online(2))
    with pytest.raises(LayoutError):
        differences(made, online(1), online(2)[:-1])
    assert differences(made, online(1), online(2)) == []


def test_rows_that_did_not_change_are_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    decoder = Decoder(ONLINE_RECORD)

    def counting(data: bytes) -> Fields:
        decoded.append(data)
        return decoder(data)

    made = table(online(1), online(2))
    counting_decoder: Any = counting
    counting_decoder.record = ONLINE_RECORD
    monkeypatch.setattr(made, "_decoder", counting_decoder)
    assert differences(made, online(1), online(2, "vip")) == [("update", 2, "vip")]
    assert decoded == [online(2, "vip")]


def test_two_rows_with_one_fingerprint_are_still_two_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash has 32 bits on 32-bit Python: in a table of 100,000 accounts two rows may well share one."""
    alike = {online(1), online(2, "vip")}
    monkeypatch.setattr("mt4pump.pump.table_diff.hash", lambda row: 1 if row in alike else hash(row), raising=False)
    made = table(online(1), online(2))
    assert differences(made, online(1), online(2, "vip")) == [("update", 2, "vip")]


def test_a_user_without_any_shown_change_is_a_repeat() -> None:
    made = Table(Decoder(USER_RECORD), "login")
    reread(made, USER_RECORD.pack({"login": 1, "password": "old"}))
    assert reread(made, USER_RECORD.pack({"login": 1, "password": "new"})) == []


rows = st.dictionaries(st.integers(0, 5), st.sampled_from(["a", "b"]), max_size=5)


@settings(max_examples=100, deadline=None)
@given(rows, rows, rows)
def test_what_is_published_leads_from_one_table_to_the_other(
    first: dict[int, str], second: dict[int, str], third: dict[int, str]
) -> None:
    made = table(*packed(first))
    mirror = dict(first)
    for target in (second, third):
        for action, login, group in differences(made, *packed(target)):
            assert (action == "add") == (login not in mirror)
            if action == "delete":
                del mirror[login]
            else:
                mirror[login] = group
        assert mirror == target


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abc")), max_size=5), min_size=2, max_size=5))
def test_doubled_rows_are_published_when_a_keys_rows_change_and_what_was_published_last_is_among_them(
    reads: list[list[tuple[int, str]]],
) -> None:
    made = table()
    mirror: dict[int, str] = {}
    before: set[tuple[int, str]] = set()
    for listed in reads:
        touched = set()
        for action, login, group in differences(made, *(online(*row) for row in listed)):
            assert (action == "add") == (login not in mirror)
            touched.add(login)
            mirror[login] = group
            if action == "delete":
                del mirror[login]
        assert touched == {login for login, _ in before ^ set(listed)}
        assert mirror.keys() == {login for login, _ in listed}
        assert mirror.items() <= set(listed)
        assert {key: msgpack.unpackb(row)["group"] for key, row in made.rows()} == mirror
        before = set(listed)


def packed(wanted: dict[int, str]) -> Iterable[bytes]:
    return [online(login, group) for login, group in wanted.items()]


# Flags


def margins() -> FlagTable:
    return FlagTable(Decoder(MARGIN_LEVEL), "login", "level_type")


def changes(flags: FlagTable, *levels: tuple[int, int]) -> list[tuple[str, int, int]]:
    array = b"".join(MARGIN_LEVEL.pack({"login": login, "level_type": level, "equity": 1.0}) for login, level in levels)
    events = (event for event in flags.compare(array) if event is not None)
    return [(event.action, event.fields["login"], event.fields["level_type"]) for event in events]


def test_flags_that_came_changed_and_went_are_published_once() -> None:
    flags = margins()
    assert changes(flags, (1, 0), (2, 1)) == [("add", 2, 1)]
    assert changes(flags, (1, 0), (2, 1)) == []
    assert changes(flags, (1, 1), (2, 2)) == [("add", 1, 1), ("update", 2, 2)]
    assert changes(flags, (1, 0), (2, 2)) == [("delete", 1, 0)]
    assert changes(flags, (1, 0), (2, 2)) == []


def test_a_marked_row_that_left_the_table_lost_its_flag() -> None:
    flags = margins()
    changes(flags, (1, 2))
    (event,) = (event for event in flags.compare(b"") if event is not None)
    assert (event.action, event.fields["login"], event.fields["level_type"]) == ("delete", 1, 0)
    assert event.fields["equity"] == 1.0
    assert changes(flags) == []


def test_a_negative_flag_is_a_flag() -> None:
    flags = margins()
    assert changes(flags, (1, -1)) == [("add", 1, -1)]
    assert changes(flags, (1, 1)) == [("update", 1, 1)]


def test_the_rows_of_a_large_table_are_indexed_before_the_first_step() -> None:
    made, ran = table(online(1)), list[str]()

    def run_steps(steps: Iterable[None]) -> None:
        ran.extend("index" for _ in steps)

    found = [event for event in made.compare(online(1) + online(2), run_steps) if event]
    assert ([event.fields["login"] for event in found], ran) == ([2], ["index"])
