"""Number, pack, publish: with a subscriber and without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mt4pump.pump import event_writer as writer_module
from mt4pump.pump.event_writer import EventWriter
from mt4pump.wire import HEARTBEAT, KINDS, NEWS, TRADE, Encoder
from tests.bus import Bus, bus

EPOCH = 1_700_000_000_000


@pytest.fixture(name="trades")
def _trades() -> Iterator[Bus]:
    with bus(b"trade.") as made:
        yield made


@pytest.fixture(name="writer")
def _writer(trades: Bus) -> EventWriter:
    return EventWriter(Encoder(EPOCH), trades.publisher)


def test_an_event_goes_out_on_its_topic_with_number_epoch_and_stamp(writer: EventWriter, trades: Bus) -> None:
    writer.write(TRADE, 1001, {"order": 5}, 77)
    assert trades.events() == [("trade.1001", {"order": 5, "epoch": EPOCH, "seq": 1, "ts": 77})]


def test_what_was_inferred_is_flagged_and_what_was_received_is_not(writer: EventWriter, trades: Bus) -> None:
    fields = {"order": 5}
    writer.write(TRADE, 1, fields, 7, synthetic=True)
    writer.write(TRADE, 1, fields, 7)
    first, second = trades.events()
    assert first.body["synthetic"] is True
    assert "synthetic" not in second.body
    assert fields == {"order": 5}


def test_every_topic_has_its_own_numbers(writer: EventWriter, trades: Bus) -> None:
    for login in (1, 2, 1, 1):
        writer.write(TRADE, login, {}, 7)
    assert [(topic, body["seq"]) for topic, body in trades.events()] == [
        *(("trade.1", 1), ("trade.2", 1), ("trade.1", 2), ("trade.1", 3))
    ]


def test_an_event_that_nobody_wants_is_numbered_and_counted_but_neither_packed_nor_sent(
    writer: EventWriter, trades: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = trades.publisher.sent
    with monkeypatch.context() as patch:
        patch.setattr(writer.encoder, "body", None)
        writer.write(KINDS["user"], 1, {}, 7)
        writer.write(KINDS["user"], 1, {}, 7)
    assert (writer.counts["user"], trades.publisher.sent) == (2, sent)
    trades.publisher.subscriptions.add(b"user.")
    writer.write(KINDS["user"], 1, {}, 7)
    assert trades.publisher.sent == sent + 1
    assert writer.seqs(KINDS["user"]) == {b"user.1": 3}


def test_counts_are_per_kind(writer: EventWriter) -> None:
    for kind, key in ((TRADE, 1), (TRADE, 2), (HEARTBEAT, "")):
        writer.write(kind, key, {}, 7)
    assert writer.counts == {"trade": 2, "heartbeat": 1}


def test_the_heartbeat_has_a_topic_without_a_key(writer: EventWriter, trades: Bus) -> None:
    trades.publisher.subscriptions.add(b"heartbeat")
    writer.write(HEARTBEAT, "", {}, 7)
    assert writer.seqs(HEARTBEAT) == {b"heartbeat": 1}


def test_numbers_of_old_news_are_forgotten_beyond_a_bound(writer: EventWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "NEWS_TOPICS_LIMIT", 3)
    for key in (1, 2, 3, 1):
        writer.write(NEWS, key, {}, 7)
    assert writer.seqs(NEWS) == {b"news.1": 2, b"news.2": 1, b"news.3": 1}
    writer.write(NEWS, 4, {}, 7)
    assert writer.seqs(NEWS) == {b"news.2": 1, b"news.3": 1, b"news.4": 1}
    writer.write(NEWS, 1, {}, 7)
    assert writer.seqs(NEWS) == {b"news.3": 1, b"news.4": 1, b"news.1": 1}


def test_only_news_are_forgotten(writer: EventWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "NEWS_TOPICS_LIMIT", 1)
    for key in range(5):
        writer.write(TRADE, key, {}, 7)
    assert writer.seqs(TRADE) == {b"trade.%d" % key: 1 for key in range(5)}
