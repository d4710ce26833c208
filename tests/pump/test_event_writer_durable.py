"""What is durable: committed before it is published, and never called stored when it is not."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgpack
import pytest

from mt4pump.journal import Journal, JournalOptions, JournalReader
from mt4pump.pump.event_writer import GROUP_LIMIT, EventWriter
from mt4pump.wire import MARGIN, NEWS, SESSION, TRADE, Encoder
from tests.bus import Bus, bus

EPOCH = 1_700_000_000_000
OPTIONS = JournalOptions(identity="test")


@pytest.fixture(name="everything")
def _everything() -> Iterator[Bus]:
    with bus() as made:
        yield made


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite3"


@pytest.fixture(name="journal")
def _journal(path: Path) -> Iterator[Journal]:
    made = Journal(path, OPTIONS, time.time_ns)
    yield made
    made.close()


@pytest.fixture(name="writer")
def _writer(everything: Bus, journal: Journal) -> EventWriter:
    return EventWriter(Encoder(EPOCH), everything.publisher, journal, {"trade", "session", "margin"})


def stored(path: Path) -> list[tuple[int, bytes, bytes]]:
    reader = JournalReader(path)
    try:
        page = reader.page(after=0, to=None, prefixes=(b"",), limit=10_000)
        return [(event.offset, event.topic, event.body) for event in page.events]
    finally:
        reader.close()


def test_a_durable_event_is_published_only_once_its_group_is_committed(
    writer: EventWriter, everything: Bus, path: Path
) -> None:
    writer.write(TRADE, 1, {"order": 5}, 7)
    writer.write(MARGIN, 1, {"login": 1}, 8)
    assert everything.events() == []
    writer.flush()
    events = everything.events()
    assert [(topic, body["offset"], body["seq"], body["ts"]) for topic, body in events] == [
        *(("trade.1", 1, 1, 7), ("margin.1", 2, 1, 8))
    ]
    assert [(offset, topic.decode(), msgpack.unpackb(body)) for offset, topic, body in stored(path)] == [
        (1, *events[0]),
        (2, *events[1]),
    ]


def test_offsets_go_on_over_groups_and_kinds_that_are_not_durable_have_none(
    writer: EventWriter, everything: Bus
) -> None:
    for _ in range(3):
        writer.write(TRADE, 1, {"order": 5}, 7)
        writer.write(NEWS, 1, {}, 7)
        writer.flush()
    offsets = [(topic, body.get("offset")) for topic, body in everything.events()]
    assert offsets == [
        ("news.1", None),
        ("trade.1", 1),
        ("news.1", None),
        ("trade.1", 2),
        ("news.1", None),
        ("trade.1", 3),
    ]


def test_a_passing_event_of_a_durable_kind_goes_out_at_once_without_an_offset(
    writer: EventWriter, everything: Bus, path: Path
) -> None:
    writer.write(SESSION, "ping", {}, 7, transient=True)
    ((topic, body),) = everything.events()
    assert (topic, "offset" in body) == ("session.ping", False)
    assert stored(path) == []


def test_a_group_that_is_too_large_goes_out_in_parts_and_in_order(
    writer: EventWriter, everything: Bus, path: Path
) -> None:
    for number in range(2 * GROUP_LIMIT + 10):
        writer.write(TRADE, 1, {"order": number}, 7)
    writer.flush()
    assert [body["order"] for _, body in everything.events()] == list(range(2 * GROUP_LIMIT + 10))
    assert [offset for offset, _, _ in stored(path)] == list(range(1, 2 * GROUP_LIMIT + 11))


def test_an_event_that_nobody_wants_is_stored_all_the_same(journal: Journal, path: Path) -> None:
    with bus(b"quote.") as deaf:
        writer = EventWriter(Encoder(EPOCH), deaf.publisher, journal, {"trade"})
        writer.write(TRADE, 1, {"order": 5}, 7)
        writer.flush()
        assert deaf.events() == []
    assert [topic for _, topic, _ in stored(path)] == [b"trade.1"]


def test_while_the_journal_fails_events_go_out_without_an_offset_and_with_their_numbers(
    writer: EventWriter, everything: Bus, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.write(TRADE, 1, {"order": 1}, 7)
    writer.flush()
    monkeypatch.setattr(journal, "append", lambda _events, _orders: False)
    writer.write(TRADE, 1, {"order": 2}, 7, synthetic=True)
    writer.flush()
    monkeypatch.undo()
    writer.write(TRADE, 1, {"order": 3}, 7)
    writer.flush()
    assert [(body["order"], body["seq"], body.get("offset")) for _, body in everything.events()] == [
        *((1, 1, 1), (2, 2, None), (3, 3, 2))
    ]


def test_the_journal_remembers_open_orders_and_forgets_ended_ones(
    writer: EventWriter, journal: Journal, path: Path
) -> None:
    writer.store_orders({4: msgpack.packb({"order": 4})})
    for order, is_open in ((5, True), (6, True), (5, False)):
        writer.write(TRADE, 1, {"order": order, "login": 1}, 7, ticket=order if is_open else -order)
    writer.flush()
    journal.close()
    again = Journal(path, OPTIONS, time.time_ns)
    try:
        assert again.has_orders
        assert {order: msgpack.unpackb(row)["order"] for order, row in again.open_orders().items()} == {4: 4, 6: 6}
        assert again.last_offset == 3
    finally:
        again.close()


def test_without_a_journal_nothing_is_durable(everything: Bus) -> None:
    writer = EventWriter(Encoder(EPOCH), everything.publisher, None, {"trade"})
    writer.write(TRADE, 1, {"order": 1, "login": 1}, 7, ticket=1)
    writer.store_orders({1: b""})
    writer.flush()
    ((topic, body),) = everything.events()
    assert (topic, "offset" in body) == ("trade.1", False)


def test_the_file_holds_what_was_published_byte_for_byte(writer: EventWriter, everything: Bus, path: Path) -> None:
    writer.write(TRADE, 1, {"order": 5, "text": "x" * 300}, 7)
    writer.flush()
    everything.publisher.send(b"fence", b"")
    frames = everything.socket.recv_multipart()
    with closing(sqlite3.connect(path)) as database:
        ((topic, body),) = database.execute("SELECT topic, body FROM events").fetchall()
    assert [bytes(topic), bytes(body)] == frames
    everything.socket.recv_multipart()
