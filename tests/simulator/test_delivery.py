"""What flags and faults leave of the events."""

from __future__ import annotations

import pytest

from mt4pump.mt4.codes import PumpCode, PumpFlag
from mt4pump.mt4.layout import CALLBACK_RECORD
from mt4pump.simulator.callbacks import CallbackSender

from .reader import RawEvent


class Ear:
    """A delivery with a session, and what it heard."""

    def __init__(self, flags: int = 0) -> None:
        self.heard: list[RawEvent] = []
        self.delivery = CallbackSender()
        self.delivery.open(flags, self.notify)
        assert self.delivery.start()
        self.heard.clear()

    def notify(self, code: int, action: int, data: bytes) -> None:
        self.heard.append((code, action, data))


def test_nothing_is_heard_before_start() -> None:
    delivery = CallbackSender()
    heard: list[RawEvent] = []
    delivery.open(0, lambda *event: heard.append(event))
    delivery.emit(9, 0, b"x")
    delivery.ring()
    delivery.ping()
    assert heard == []
    assert delivery.events_unseen == 1
    delivery.start()
    delivery.emit(9, 0, b"x")
    assert heard == [(PumpCode.START_PUMPING, 0, b""), (9, 0, b"x")]
    assert not delivery.start()


def test_a_session_that_closes_before_it_started_hears_nothing() -> None:
    delivery = CallbackSender()
    heard: list[RawEvent] = []
    delivery.open(0, lambda *event: heard.append(event))
    assert delivery.close() is None
    assert not delivery.start()
    delivery.emit(9, 0, b"x")
    assert heard == []


@pytest.mark.parametrize(
    ("flag", "codes"),
    [
        (PumpFlag.HIDENEWS, {6, 7, 16}),
        (PumpFlag.HIDEMAIL, {8}),
        (PumpFlag.HIDEONLINE, {4}),
        (PumpFlag.HIDEUSERS, {3}),
    ],
)
def test_a_flag_hides_its_codes_and_no_others(flag: int, codes: set[int]) -> None:
    ear = Ear(flag)
    told = set(PumpCode) - {0, 5, 14, 15}
    for code in told:
        ear.delivery.emit(code, 0, b"")
    assert {code for code, _, _ in ear.heard} == told - codes
    assert ear.delivery.events_hidden == len(codes)


def test_hidden_ticks_ring_no_bell() -> None:
    ear = Ear(PumpFlag.HIDETICKS)
    ear.delivery.ring()
    assert ear.heard == []
    assert not ear.delivery.wants_quotes


def test_full_news_come_with_their_body() -> None:
    ear = Ear(PumpFlag.SENDFULLNEWS)
    ear.delivery.emit(PumpCode.UPDATE_NEWS, 0, b"topic")
    assert [code for code, _, _ in ear.heard] == [PumpCode.UPDATE_NEWS, PumpCode.UPDATE_NEWS_BODY]


def test_codes_are_plain_numbers_as_from_the_dll() -> None:
    ear = Ear()
    ear.delivery.emit(PumpCode.UPDATE_TRADES, 2, b"x")
    ear.delivery.ring()
    assert all(type(code) is int and type(action) is int for code, action, _ in ear.heard)


def test_skipped_are_the_next_trade_events_only() -> None:
    ear = Ear()
    ear.delivery.skip(2)
    for code, data in ((3, b"user"), (9, b"1"), (9, b"2"), (9, b"3")):
        ear.delivery.emit(code, 0, data)
    assert ear.heard == [(3, 0, b"user"), (9, 0, b"3")]
    assert ear.delivery.events_skipped == 2


def test_null_takes_the_record_of_the_next_event_of_every_code_that_has_one() -> None:
    ear = Ear()
    ear.delivery.null(1)
    for code in CALLBACK_RECORD:
        ear.delivery.emit(code, 2, b"one")
        ear.delivery.emit(code, 2, b"two")
    expected = [event for code in CALLBACK_RECORD for event in ((code, 0, b""), (code, 2, b"two"))]
    assert ear.heard == expected
    assert ear.delivery.events_nulled == len(CALLBACK_RECORD)


def test_a_mute_session_hears_nothing_not_even_stop() -> None:
    ear = Ear()
    ear.delivery.mute()
    ear.delivery.emit(9, 0, b"x")
    ear.delivery.ring()
    ear.delivery.ping()
    assert ear.delivery.close() is None
    assert ear.heard == []
    assert ear.delivery.events_unseen == 1


def test_faults_of_one_session_end_with_the_next() -> None:
    ear = Ear()
    ear.delivery.mute()
    ear.delivery.skip(5)
    ear.delivery.null(5)
    ear.delivery.close()
    ear.delivery.open(0, ear.notify)
    ear.delivery.start()
    ear.delivery.emit(9, 1, b"x")
    assert ear.heard == [(PumpCode.START_PUMPING, 0, b""), (9, 1, b"x")]


def test_an_exception_of_notify_is_counted_logged_once_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    delivery = CallbackSender()

    def fail(_code: int, _action: int, _data: bytes) -> None:
        msg = "no"
        raise ValueError(msg)

    delivery.open(0, fail)
    delivery.start()
    delivery.emit(9, 0, b"x")
    assert delivery.notify_errors == 2
    assert len(caplog.records) == 1
