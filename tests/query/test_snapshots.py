"""Pages of a cut add up to the cut, and only so many cuts are held, for so long, for who made them."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt4pump.pump.snapshot import StateSnapshot
from mt4pump.query.limits import QueryOptions, Stopped, WorkBudget
from mt4pump.query.replies import OutgoingReply
from mt4pump.query.requests import EVERY_TOPIC, Cursor, RequestError, _cursor
from mt4pump.query.snapshots import Peer, SnapshotCache, SortedSnapshot, arranged, page
from tests.query.stand import EPOCH, LOG, TS, accounts, cut_of

OPTIONS = QueryOptions(cuts_held=3, page_bytes=100_000)
ME, OTHER = Peer(b"me", ""), Peer(b"other", "")


def unhurried() -> WorkBudget:
    return WorkBudget(60, 0, now_s=lambda: 0.0)


def arrange(cut: StateSnapshot, *prefixes: bytes, peer: Peer = ME) -> SortedSnapshot:
    return arranged(cut, peer, prefixes or EVERY_TOPIC, unhurried())


def pages(
    held: SortedSnapshot, limit: int, options: QueryOptions = OPTIONS, *, values: bool = True
) -> list[OutgoingReply]:
    replies: list[OutgoingReply] = []
    start = 0
    while True:
        replies.append(page(held, start, limit, options, unhurried(), values=values))
        cursor = _cursor(replies[-1].head["cursor"])
        if cursor is None:
            return replies
        assert cursor.token == held.token
        assert cursor.start > start
        start = cursor.start


def rows_of(replies: list[OutgoingReply]) -> list[tuple[bytes, Any]]:
    return [
        (topic, msgpack.unpackb(body))
        for reply in replies
        for topic, body in zip(reply.frames[::2], reply.frames[1::2], strict=True)
    ]


def test_a_page_has_the_head_that_a_join_needs() -> None:
    cut = cut_of({b"quote.EURUSD": [{"bid": 1.5}]}, {b"quote.EURUSD": 4, b"trade.5": 2})
    (only,) = pages(arrange(cut), 100)
    assert only.head == {
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
    (only,) = pages(arrange(cut_of({b"user.1": [msgpack.packb({"login": 1})]}, {})), 100)
    assert only.head["seqs"] == {"user.1": 0}
    assert rows_of([only])[0][1]["seq"] == 0


def test_only_what_was_asked_for_is_in_it() -> None:
    cut = cut_of({b"user.1": [{}], b"user.12": [{}], b"quote.A": [{}]}, {b"user.15": 1, b"trade.1": 1, b"quote.A": 2})
    (only,) = pages(arrange(cut, b"user.1", b"trade."), 100)
    assert only.head["seqs"] == {"trade.1": 1, "user.1": 0, "user.12": 0, "user.15": 1}
    assert [topic for topic, _ in rows_of([only])] == [b"user.1", b"user.12"]


def test_an_empty_cut_is_one_empty_page() -> None:
    (only,) = pages(arrange(cut_of({}, {})), 1)
    assert (only.head["seqs"], only.frames, only.head["cursor"]) == ({}, [], None)


def test_without_values_only_the_numbers_come() -> None:
    replies = pages(arrange(accounts(50)), 20, values=False)
    assert [len(reply.head["seqs"]) for reply in replies] == [20, 20, 11]
    assert rows_of(replies) == []


def test_a_topic_that_is_larger_than_a_page_is_not_split() -> None:
    cut = cut_of({b"trade.1": [{}], b"trade.2": [{"order": order} for order in range(500)], b"trade.3": [{}]}, {})
    replies = pages(arrange(cut), 10)
    assert [list(reply.head["seqs"]) for reply in replies] == [["trade.1"], ["trade.2"], ["trade.3"]]
    assert [reply.events for reply in replies] == [1, 500, 1]


def test_a_page_ends_when_it_is_large_enough() -> None:
    cut = cut_of({b"news.%02d" % key: [{"body": "x" * 60_000}] for key in range(10)}, {})
    replies = pages(arrange(cut), 10_000)
    assert [reply.events for reply in replies] == [2] * 5
    assert sum(map(len, replies[0].frames)) < OPTIONS.page_bytes + 61_000


def test_a_page_ends_when_it_took_long_enough() -> None:
    replies = pages(arrange(accounts(1_000)), 10_000, QueryOptions(page_s=0))
    assert len(replies) > 10
    assert len(rows_of(replies)) == 1_000


def test_a_large_cut_is_sorted() -> None:
    replies = pages(arrange(accounts(20_000)), 10_000)
    topics = [topic for topic, _ in rows_of(replies)]
    assert topics == sorted(topics)
    assert len(set(topics)) == 20_000


def test_arranging_stops_when_the_thread_is_to_stop() -> None:
    with pytest.raises(Stopped):
        arranged(accounts(10), ME, EVERY_TOPIC, WorkBudget(0, 0, lambda: True))


TOPICS = st.sampled_from([b"trade.%d" % number for number in range(30)] + [b"quote.A", b"quote.B", b"user.7"])


@settings(max_examples=60)
@given(
    st.dictionaries(TOPICS, st.lists(st.integers(0, 99).map(lambda order: {"order": order}), max_size=9)),
    st.dictionaries(TOPICS, st.integers(1, 99)),
    st.lists(st.sampled_from([b"trade.", b"trade.1", b"quote", b"user.7", b""]), min_size=1).map(tuple),
    st.integers(1, 40),
)
def test_all_pages_together_are_the_cut(
    rows: dict[bytes, list[bytes | dict[str, Any]]], seqs: dict[bytes, int], prefixes: tuple[bytes, ...], limit: int
) -> None:
    replies = pages(arrange(cut_of(rows, seqs), *prefixes), limit)
    wanted = {topic: own for topic, own in rows.items() if topic.startswith(prefixes) and own}
    got: dict[bytes, list[Any]] = {}
    for topic, body in rows_of(replies):
        assert body["seq"] == seqs.get(topic, 0)
        got.setdefault(topic, []).append({"order": body["order"]})
    assert got == wanted
    told = [topic for reply in replies for topic in reply.head["seqs"]]
    assert told == sorted(set(told))
    assert set(told) == {topic.decode() for topic in {*wanted, *seqs} if topic.startswith(prefixes)}
    for reply in replies:
        assert {topic.decode() for topic in reply.frames[::2]} <= reply.head["seqs"].keys()


class Shelf(SnapshotCache):
    """Held cuts with a clock of the test's own."""

    def __init__(self, options: QueryOptions = OPTIONS) -> None:
        self.now_s = 1_000.0
        super().__init__(options, lambda: self.now_s)

    def put(self, peer: Peer = ME) -> SortedSnapshot:
        cut = arrange(accounts(3), peer=peer)
        self.keep(cut)
        return cut

    def has(self, cut: SortedSnapshot) -> bool:
        return cut.token in self._held


def test_a_held_cut_is_found_by_who_made_it() -> None:
    shelf = Shelf()
    cut = shelf.put()
    assert shelf.find(Cursor(cut.token, 1), ME) is cut


@pytest.mark.parametrize(("token", "start", "owner"), [("", 1, OTHER), ("", 99, ME), ("0" * 32, 1, ME)])
def test_a_cursor_of_somebody_else_or_of_nothing_is_refused_alike(token: str, start: int, owner: Peer) -> None:
    shelf = Shelf()
    cut = shelf.put()
    with pytest.raises(RequestError, match="ask for a new snapshot") as caught:
        shelf.find(Cursor(token or cut.token, start), owner)
    assert caught.value.code == "cursor_expired"
    assert shelf.has(cut)


def test_a_cut_expires_when_it_is_not_read() -> None:
    shelf = Shelf()
    cut = shelf.put()
    shelf.now_s += 29
    shelf.find(Cursor(cut.token, 1), ME)
    shelf.now_s += 29
    shelf.expire()
    assert shelf.has(cut)
    shelf.now_s += 1
    with pytest.raises(RequestError, match="ask for a new snapshot"):
        shelf.find(Cursor(cut.token, 1), ME)
    assert len(shelf) == 0


def peers(count: int) -> list[Peer]:
    return [Peer(b"%d" % number, "") for number in range(count)]


def test_with_all_places_taken_and_read_the_next_one_has_to_wait() -> None:
    shelf = Shelf()
    cuts = [shelf.put(peer) for peer in peers(3)]
    shelf.now_s += 1.9
    with pytest.raises(RequestError, match=r"ask again in 0\.1") as caught:
        shelf.put()
    assert caught.value.code == "busy"
    assert all(map(shelf.has, cuts))


def test_the_one_that_was_left_alone_for_longest_makes_room() -> None:
    shelf = Shelf()
    first, second, third = (shelf.put(peer) for peer in peers(3))
    shelf.now_s += 1.5
    shelf.find(Cursor(first.token, 1), first.peer)
    shelf.now_s += 1.5
    fourth = shelf.put()
    assert [shelf.has(each) for each in (first, second, third, fourth)] == [True, False, True, True]
    assert shelf.evicted == 1


def test_one_that_was_read_to_its_end_makes_room_at_once() -> None:
    shelf = Shelf()
    first, second, third = (shelf.put(peer) for peer in peers(3))
    third.is_done = True
    shelf.put()
    assert [shelf.has(each) for each in (first, second, third)] == [True, True, False]
    assert shelf.evicted == 0


def test_one_connection_that_asks_for_more_gives_up_its_own_oldest() -> None:
    shelf = Shelf()
    other = shelf.put(OTHER)
    mine = [shelf.put(ME) for _ in range(5)]
    assert [shelf.has(each) for each in mine] == [False, False, False, True, True]
    assert shelf.has(other)


def test_one_key_that_asks_for_more_over_many_connections_gives_up_its_own_oldest() -> None:
    shelf = Shelf(QueryOptions(cuts_held=8, cuts_per_client=4))
    other = shelf.put(Peer(b"x", "honest"))
    mine = [shelf.put(Peer(peer.connection, "greedy")) for peer in peers(20)]
    assert [shelf.has(each) for each in mine] == [False] * 16 + [True] * 4
    assert shelf.has(other)


def test_no_cut_is_kept_for_ever_by_reading_it_again_and_again_while_others_ask() -> None:
    shelf = Shelf()
    cuts = [shelf.put(peer) for peer in peers(3)]
    for _ in range(16):
        shelf.now_s += 1
        for cut in cuts:
            shelf.find(Cursor(cut.token, 1), cut.peer)
    assert shelf.has(shelf.put())
    assert [shelf.has(each) for each in cuts] == [False, True, True]


def test_of_those_that_may_go_it_is_one_of_who_holds_most() -> None:
    shelf = Shelf(QueryOptions(cuts_held=3))
    honest = shelf.put(OTHER)
    greedy = [shelf.put(Peer(peer.connection, "greedy")) for peer in peers(2)]
    shelf.now_s += 5
    shelf.put()
    assert [shelf.has(each) for each in (honest, *greedy)] == [True, False, True]


def test_cursors_cannot_be_guessed() -> None:
    tokens = {arrange(cut_of({}, {})).token for _ in range(100)}
    assert len(tokens) == 100
    assert {len(token) for token in tokens} == {32}
