"""Which events a session receives, by its flags and the faults."""

from __future__ import annotations

import pytest

from mt4pump.mt4.codes import PumpCode, PumpFlag
from mt4pump.mt4.layout import CALLBACK_RECORD
from mt4pump.simulator.manager import CallbackSender

from .reader import RawEvent


class Session:
    """A callback sender with a session, and what it received."""

    def __init__(self, flags: int = 0) -> None:
        self.received: list[RawEvent] = []
        self.callbacks = CallbackSender()
        self.callbacks.open(flags, self.notify)
        assert self.callbacks.start()
        self.received.clear()

    def notify(self, code: int, action: int, data: bytes) -> None:
        self.received.append((code, action, data))


def test_nothing_is_received_before_start() -> None:
    callbacks = CallbackSender()
    received: list[RawEvent] = []
    callbacks.open(0, lambda *event: received.append(event))
    callbacks.emit(9, 0, b"x")
    callbacks.send_bidask()
    callbacks.send_ping()
    assert received == []
    assert callbacks.events_unseen == 1
    callbacks.start()
    callbacks.emit(9, 0, b"x")
    assert received == [(PumpCode.START_PUMPING, 0, b""), (9, 0, b"x")]
    assert not callbacks.start()


def test_a_session_that_closes_before_it_started_receives_nothing() -> None:
    callbacks = CallbackSender()
    received: list[RawEvent] = []
    callbacks.open(0, lambda *event: received.append(event))
    assert callbacks.close() is None
    assert not callbacks.start()
    callbacks.emit(9, 0, b"x")
    assert received == []


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
    session = Session(flag)
    codes_sent = set(PumpCode) - {0, 5, 14, 15}
    for code in codes_sent:
        session.callbacks.emit(code, 0, b"")
    assert {code for code, _, _ in session.received} == codes_sent - codes
    assert session.callbacks.events_hidden == len(codes)


def test_hidden_ticks_send_no_bidask() -> None:
    session = Session(PumpFlag.HIDETICKS)
    session.callbacks.send_bidask()
    assert session.received == []
    assert not session.callbacks.wants_quotes


def test_full_news_come_with_their_body() -> None:
    session = Session(PumpFlag.SENDFULLNEWS)
    session.callbacks.emit(PumpCode.UPDATE_NEWS, 0, b"topic")
    assert [code for code, _, _ in session.received] == [PumpCode.UPDATE_NEWS, PumpCode.UPDATE_NEWS_BODY]


def test_codes_are_plain_numbers_as_from_the_dll() -> None:
    session = Session()
    session.callbacks.emit(PumpCode.UPDATE_TRADES, 2, b"x")
    session.callbacks.send_bidask()
    assert all(type(code) is int and type(action) is int for code, action, _ in session.received)


def test_skipped_are_the_next_trade_events_only() -> None:
    session = Session()
    session.callbacks.skip(2)
    for code, data in ((3, b"user"), (9, b"1"), (9, b"2"), (9, b"3")):
        session.callbacks.emit(code, 0, data)
    assert session.received == [(3, 0, b"user"), (9, 0, b"3")]
    assert session.callbacks.events_skipped == 2


def test_null_takes_the_record_of_the_next_event_of_every_code_that_has_one() -> None:
    session = Session()
    session.callbacks.null(1)
    for code in CALLBACK_RECORD:
        session.callbacks.emit(code, 2, b"one")
        session.callbacks.emit(code, 2, b"two")
    expected = [event for code in CALLBACK_RECORD for event in ((code, 0, b""), (code, 2, b"two"))]
    assert session.received == expected
    assert session.callbacks.events_nulled == len(CALLBACK_RECORD)


def test_a_mute_session_receives_nothing_not_even_stop() -> None:
    session = Session()
    session.callbacks.mute()
    session.callbacks.emit(9, 0, b"x")
    session.callbacks.send_bidask()
    session.callbacks.send_ping()
    assert session.callbacks.close() is None
    assert session.received == []
    assert session.callbacks.events_unseen == 1


def test_faults_of_one_session_end_with_the_next() -> None:
    session = Session()
    session.callbacks.mute()
    session.callbacks.skip(5)
    session.callbacks.null(5)
    session.callbacks.close()
    session.callbacks.open(0, session.notify)
    session.callbacks.start()
    session.callbacks.emit(9, 1, b"x")
    assert session.received == [(PumpCode.START_PUMPING, 0, b""), (9, 1, b"x")]


def test_an_exception_of_notify_is_counted_logged_once_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    callbacks = CallbackSender()

    def fail(_code: int, _action: int, _data: bytes) -> None:
        msg = "no"
        raise ValueError(msg)

    callbacks.open(0, fail)
    callbacks.start()
    callbacks.emit(9, 0, b"x")
    assert callbacks.notify_errors == 2
    assert len(caplog.records) == 1
