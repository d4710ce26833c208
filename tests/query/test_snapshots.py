"""Pages of a snapshot add up to it; a limited number of snapshots is kept for a limited time for their owners."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt4pump.pump.snapshot import StateSnapshot
from mt4pump.query.limits import QueryOptions, Stopped, WorkBudget
from mt4pump.query.requests import EVERY_TOPIC, Cursor, RequestError, parse_cursor
from mt4pump.query.snapshots import Peer, RowEncoder, SnapshotCache, SortedSnapshot, extend_map, page, sort_snapshot
from mt4pump.wire import Body
from tests.query.endpoint import EPOCH, LOG, TS, UNDISTURBED, accounts, snapshot_of

OPTIONS = QueryOptions(snapshots_held=3, page_bytes=100_000)
Page = tuple[Body, list[bytes]]
ME, OTHER = Peer(b"me", ""), Peer(b"other", "")


def unlimited() -> WorkBudget:
    return WorkBudget(60, 0, UNDISTURBED, now_s=lambda: 0.0)


def sort(snapshot: StateSnapshot, *prefixes: bytes, peer: Peer = ME) -> SortedSnapshot:
    return sort_snapshot(snapshot, peer, prefixes or EVERY_TOPIC, unlimited())


def pages(held: SortedSnapshot, limit: int, options: QueryOptions = OPTIONS, *, values: bool = True) -> list[Page]:
    replies: list[Page] = []
    start = 0
    while True:
        replies.append(page(held, start, limit, options, unlimited(), values=values))
        cursor = parse_cursor(replies[-1][0]["cursor"])
        if cursor is None:
            return replies
        assert cursor.token == held.token
        assert cursor.start > start
        start = cursor.start


def rows_of(replies: list[Page]) -> list[tuple[bytes, Any]]:
    return [
        (topic, msgpack.unpackb(body))
        for _, frames in replies
        for topic, body in zip(frames[::2], frames[1::2], strict=True)
    ]


def test_a_page_has_the_head_that_a_join_needs() -> None:
    snapshot = snapshot_of({b"quote.EURUSD": [{"bid": 1.5}]}, {b"quote.EURUSD": 4, b"trade.5": 2})
    (only,) = pages(sort(snapshot), 100)
    assert only[0] == {
        "ok": True,
        "epoch": EPOCH,
        "log": LOG,
        "offset": 7,
        "offsets": {"trade": 7},
        "ts": TS,
        "seqs": {"quote.EURUSD": 4, "trade.5": 2},
        "cursor": None,
    }
    assert rows_of([only]) == [(b"quote.EURUSD", {"bid": 1.5, "epoch": EPOCH, "seq": 4, "ts": TS, "snapshot": True})]


def test_a_row_whose_topic_was_never_published_has_seq_0() -> None:
    (only,) = pages(sort(snapshot_of({b"user.1": [msgpack.packb({"login": 1})]}, {})), 100)
    assert only[0]["seqs"] == {"user.1": 0}
    assert rows_of([only])[0][1]["seq"] == 0


def test_only_what_was_asked_for_is_in_it() -> None:
    snapshot = snapshot_of(
        {b"user.1": [{}], b"user.12": [{}], b"quote.A": [{}]}, {b"user.15": 1, b"trade.1": 1, b"quote.A": 2}
    )
    (only,) = pages(sort(snapshot, b"user.1", b"trade."), 100)
    assert only[0]["seqs"] == {"trade.1": 1, "user.1": 0, "user.12": 0, "user.15": 1}
    assert [topic for topic, _ in rows_of([only])] == [b"user.1", b"user.12"]


def test_an_empty_snapshot_is_one_empty_page() -> None:
    (only,) = pages(sort(snapshot_of({}, {})), 1)
    assert (only[0]["seqs"], only[1], only[0]["cursor"]) == ({}, [], None)


def test_without_values_only_the_numbers_come() -> None:
    replies = pages(sort(accounts(50)), 20, values=False)
    assert [len(reply[0]["seqs"]) for reply in replies] == [20, 20, 11]
    assert rows_of(replies) == []


def test_a_topic_that_is_larger_than_a_page_is_not_split() -> None:
    snapshot = snapshot_of(
        {b"trade.1": [{}], b"trade.2": [{"order": order} for order in range(500)], b"trade.3": [{}]}, {}
    )
    replies = pages(sort(snapshot), 10)
    assert [list(reply[0]["seqs"]) for reply in replies] == [["trade.1"], ["trade.2"], ["trade.3"]]
    assert [len(reply[1]) // 2 for reply in replies] == [1, 500, 1]


def test_a_page_ends_when_it_is_large_enough() -> None:
    snapshot = snapshot_of({b"news.%02d" % key: [{"body": "x" * 60_000}] for key in range(10)}, {})
    replies = pages(sort(snapshot), 10_000)
    assert [len(reply[1]) // 2 for reply in replies] == [2] * 5
    assert sum(map(len, replies[0][1])) < OPTIONS.page_bytes + 61_000


def test_a_page_ends_when_it_took_long_enough() -> None:
    replies = pages(sort(accounts(1_000)), 10_000, QueryOptions(page_s=0))
    assert len(replies) > 10
    assert len(rows_of(replies)) == 1_000


def test_a_large_snapshot_is_sorted() -> None:
    replies = pages(sort(accounts(20_000)), 10_000)
    topics = [topic for topic, _ in rows_of(replies)]
    assert topics == sorted(topics)
    assert len(set(topics)) == 20_000


def test_sorting_stops_when_the_thread_is_to_stop() -> None:
    with pytest.raises(Stopped):
        sort_snapshot(accounts(10), ME, EVERY_TOPIC, WorkBudget(0, 0, UNDISTURBED, lambda: True))


TOPICS = st.sampled_from([b"trade.%d" % number for number in range(30)] + [b"quote.A", b"quote.B", b"user.7"])


@settings(max_examples=60)
@given(
    st.dictionaries(TOPICS, st.lists(st.integers(0, 99).map(lambda order: {"order": order}), max_size=9)),
    st.dictionaries(TOPICS, st.integers(1, 99)),
    st.lists(st.sampled_from([b"trade.", b"trade.1", b"quote", b"user.7", b""]), min_size=1).map(tuple),
    st.integers(1, 40),
)
def test_all_pages_together_are_the_snapshot(
    rows: dict[bytes, list[bytes | dict[str, Any]]], seqs: dict[bytes, int], prefixes: tuple[bytes, ...], limit: int
) -> None:
    replies = pages(sort(snapshot_of(rows, seqs), *prefixes), limit)
    wanted = {topic: own for topic, own in rows.items() if topic.startswith(prefixes) and own}
    got: dict[bytes, list[Any]] = {}
    for topic, body in rows_of(replies):
        assert body["seq"] == seqs.get(topic, 0)
        got.setdefault(topic, []).append({"order": body["order"]})
    assert got == wanted
    reported = [topic for reply in replies for topic in reply[0]["seqs"]]
    assert reported == sorted(set(reported))
    assert set(reported) == {topic.decode() for topic in {*wanted, *seqs} if topic.startswith(prefixes)}
    for reply in replies:
        assert {topic.decode() for topic in reply[1][::2]} <= reply[0]["seqs"].keys()


class ClockedCache(SnapshotCache):
    """A cache with a clock of the test's own."""

    def __init__(self, options: QueryOptions = OPTIONS) -> None:
        self.now_s = 1_000.0
        super().__init__(options, lambda: self.now_s)

    def put(self, peer: Peer = ME) -> SortedSnapshot:
        snapshot = sort(accounts(3), peer=peer)
        self.keep(snapshot)
        return snapshot

    def has(self, snapshot: SortedSnapshot) -> bool:
        return snapshot.token in self._held


def test_a_held_snapshot_is_found_by_its_owner() -> None:
    cache = ClockedCache()
    snapshot = cache.put()
    assert cache.find(Cursor(snapshot.token, 1), ME) is snapshot


@pytest.mark.parametrize(("token", "start", "owner"), [("", 1, OTHER), ("", 99, ME), ("0" * 32, 1, ME)])
def test_a_cursor_of_somebody_else_or_of_nothing_is_refused_alike(token: str, start: int, owner: Peer) -> None:
    cache = ClockedCache()
    snapshot = cache.put()
    with pytest.raises(RequestError, match="ask for a new snapshot") as caught:
        cache.find(Cursor(token or snapshot.token, start), owner)
    assert caught.value.code == "cursor_expired"
    assert cache.has(snapshot)


def test_a_snapshot_expires_when_it_is_not_read() -> None:
    cache = ClockedCache()
    snapshot = cache.put()
    cache.now_s += 29
    cache.find(Cursor(snapshot.token, 1), ME)
    cache.now_s += 29
    cache.expire()
    assert cache.has(snapshot)
    cache.now_s += 1
    with pytest.raises(RequestError, match="ask for a new snapshot"):
        cache.find(Cursor(snapshot.token, 1), ME)
    assert len(cache) == 0


def peers(count: int) -> list[Peer]:
    return [Peer(b"%d" % number, "") for number in range(count)]


def test_with_all_places_taken_and_read_the_next_one_has_to_wait() -> None:
    cache = ClockedCache()
    snapshots = [cache.put(peer) for peer in peers(3)]
    cache.now_s += 1.9
    with pytest.raises(RequestError, match=r"ask again in 0\.1") as caught:
        cache.put()
    assert caught.value.code == "busy"
    assert all(map(cache.has, snapshots))


def test_the_one_not_read_for_the_longest_time_is_evicted() -> None:
    cache = ClockedCache()
    first, second, third = (cache.put(peer) for peer in peers(3))
    cache.now_s += 1.5
    cache.find(Cursor(first.token, 1), first.peer)
    cache.now_s += 1.5
    fourth = cache.put()
    assert [cache.has(each) for each in (first, second, third, fourth)] == [True, False, True, True]
    assert cache.evicted == 1


def test_one_that_was_read_to_its_end_is_evicted_at_once() -> None:
    cache = ClockedCache()
    first, second, third = (cache.put(peer) for peer in peers(3))
    third.is_done = True
    cache.put()
    assert [cache.has(each) for each in (first, second, third)] == [True, True, False]
    assert cache.evicted == 0


def test_one_connection_that_asks_for_more_gives_up_its_own_oldest() -> None:
    cache = ClockedCache()
    other = cache.put(OTHER)
    mine = [cache.put(ME) for _ in range(5)]
    assert [cache.has(each) for each in mine] == [False, False, False, True, True]
    assert cache.has(other)


def test_one_key_that_asks_for_more_over_many_connections_gives_up_its_own_oldest() -> None:
    cache = ClockedCache(QueryOptions(snapshots_held=8, snapshots_per_client=4))
    other = cache.put(Peer(b"x", "honest"))
    mine = [cache.put(Peer(peer.connection, "greedy")) for peer in peers(20)]
    assert [cache.has(each) for each in mine] == [False] * 16 + [True] * 4
    assert cache.has(other)


def test_no_snapshot_is_kept_for_ever_by_reading_it_again_and_again_while_others_ask() -> None:
    cache = ClockedCache()
    snapshots = [cache.put(peer) for peer in peers(3)]
    for _ in range(16):
        cache.now_s += 1
        for snapshot in snapshots:
            cache.find(Cursor(snapshot.token, 1), snapshot.peer)
    assert cache.has(cache.put())
    assert [cache.has(each) for each in snapshots] == [False, True, True]


def test_of_those_that_may_go_it_is_one_of_the_client_that_holds_most() -> None:
    cache = ClockedCache(QueryOptions(snapshots_held=3))
    honest = cache.put(OTHER)
    greedy = [cache.put(Peer(peer.connection, "greedy")) for peer in peers(2)]
    cache.now_s += 5
    cache.put()
    assert [cache.has(each) for each in (honest, *greedy)] == [True, False, True]


def test_cursors_cannot_be_guessed() -> None:
    tokens = {sort(snapshot_of({}, {})).token for _ in range(100)}
    assert len(tokens) == 100
    assert {len(token) for token in tokens} == {32}


COMMON = {"epoch": 5, "ts": 2**60, "snapshot": True}


def encoded(row: bytes | dict[str, Any], seq: int = 3) -> dict[str, Any]:
    body: dict[str, Any] = msgpack.unpackb(RowEncoder(5, 2**60).body(row, seq))
    return body


@pytest.mark.parametrize("count", [0, 1, 11, 12, 15, 16, 100, 65_531, 65_532, 65_536])
def test_a_packed_row_and_a_plain_one_give_the_same_body(count: int) -> None:
    fields = {f"f{number}": number for number in range(count)}
    assert encoded(msgpack.packb(fields)) == encoded(fields) == {**fields, **COMMON, "seq": 3}


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 9) | st.text()), st.integers(0, 2**63))
def test_any_row_keeps_its_fields(fields: dict[str, Any], seq: int) -> None:
    rest = {key: value for key, value in fields.items() if key not in {*COMMON, "seq"}}
    assert encoded(msgpack.packb(rest), seq) == {**rest, **COMMON, "seq": seq}


def test_a_row_with_a_time_of_its_own_keeps_it() -> None:
    assert encoded({"bid": 1.5, "ts": 77})["ts"] == 77


def test_text_that_is_no_unicode_is_replaced() -> None:
    assert encoded({"comment": "\ud800"})["comment"] == "?"


@pytest.mark.parametrize("packed", [b"", b"\x90", b"\xc0", b"\xde\x00", b"abc"])
def test_a_row_that_is_no_map_is_not_made_into_one(packed: bytes) -> None:
    with pytest.raises(ValueError, match="no msgpack map"):
        extend_map(packed, b"")
