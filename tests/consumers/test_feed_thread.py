"""`mt4pump_consumers.feed_thread`: reading goes on after whatever happens, ever more rarely, and ends when asked to."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from threading import Event as ThreadEvent
from typing import Any, Self, cast

import pytest
from mt4pump_consumers import feed_thread
from mt4pump_consumers.feed_thread import FeedThread, keep_reading

from mt4pump.client import ClientError, Subscriber
from tests.consumers.metrics.metrics_run import until


class Pauses:
    """Takes no time for a pause; stopped in the eighth one."""

    def __init__(self) -> None:
        self.taken_s: list[float] = []

    def is_stopped(self) -> bool:
        return len(self.taken_s) == 8

    def wait(self, delay_s: float) -> None:
        self.taken_s.append(delay_s)


def test_a_stream_that_cannot_be_read_is_begun_again_ever_more_rarely(caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> None:
        raise ClientError("refused", "nobody is there")

    pauses = Pauses()
    keep_reading(refuse, pauses.is_stopped, pauses.wait)
    assert pauses.taken_s == [1, 2, 4, 8, 16, 30, 30, 30]
    assert "the stream ended (nobody is there): begun again in 16 s" in caplog.text


def test_after_a_stream_that_lasted_the_pauses_are_short_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses, now_s = Pauses(), [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])

    def read() -> None:
        now_s[0] += 31.0 if len(pauses.taken_s) == 3 else 1.0
        raise ClientError("refused", "nobody is there")

    keep_reading(read, pauses.is_stopped, pauses.wait)
    assert pauses.taken_s == [1, 2, 4, 1, 2, 4, 8, 16]
    logged = [record.getMessage() for record in caplog.records]
    assert logged == [
        f"the stream ended (nobody is there): begun again in {delay_s:.0f} s" for delay_s in pauses.taken_s
    ]


def test_an_error_that_should_not_happen_ends_reading_unless_it_is_to_survive(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ZeroDivisionError("oh")

    pauses = Pauses()
    with pytest.raises(ZeroDivisionError):
        keep_reading(fail, pauses.is_stopped, pauses.wait)
    assert pauses.taken_s == []
    keep_reading(fail, pauses.is_stopped, pauses.wait, survives=Exception)
    assert len(pauses.taken_s) == 8
    assert "ended by an error that should not happen" in caplog.text


@pytest.mark.parametrize("kind", [ClientError, ZeroDivisionError])
def test_what_failed_is_not_kept_while_it_waits(kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_thread.log, "disabled", True)  # a record that pytest keeps would keep the error
    pauses, kept = Pauses(), list[weakref.ref[Pauses]]()

    def fail() -> None:
        subscriber = Pauses()
        kept.append(weakref.ref(subscriber))
        raise kind("refused", "nobody is there")

    def wait(delay_s: float) -> None:
        assert kept[-1]() is None
        pauses.wait(delay_s)

    keep_reading(fail, pauses.is_stopped, wait, survives=Exception)
    assert len(kept) == 8


class FakeSubscriber:
    """Yields ``items``, then raises ``error``, or waits to be closed."""

    def __init__(self, items: list[int], error: Exception | None = None) -> None:
        self.items, self.error = items, error
        self.closed = ThreadEvent()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[int]:
        yield from self.items
        if self.error is not None:
            raise self.error
        self.closed.wait(60)

    def close(self) -> None:
        self.closed.set()


def feed(*subscribers: FakeSubscriber | Exception, read: list[Any]) -> FeedThread:
    waiting = list(subscribers)

    def subscribe() -> Subscriber:
        made = waiting.pop(0)
        if isinstance(made, Exception):
            raise made
        return cast("Subscriber", made)

    def read_all(subscriber: Subscriber) -> None:
        for item in subscriber:
            read.append(item)  # noqa: PERF402 - seen while it waits for more

    return FeedThread(subscribe, read_all)


def ended(made: FeedThread) -> bool:
    made.stop()
    made.join(60)
    return not made.is_alive()


def test_a_reader_that_fails_is_replaced_as_often_as_it_takes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feed_thread, "RETRY_FIRST_S", 0.01)
    broken, good = FakeSubscriber([1], ZeroDivisionError("oh")), FakeSubscriber([2])
    made = feed(broken, ClientError("arguments", "not now"), good, read=(read := list[Any]()))
    made.start()
    until(lambda: read == [1, 2], "the good one is read")
    assert ended(made)
    assert broken.closed.is_set()
    assert good.closed.is_set()
    assert made.restarts == 2
    assert "oh" in caplog.text
    assert "not now" in caplog.text


def test_what_is_wrong_from_the_start_comes_to_the_caller() -> None:
    with pytest.raises(ClientError, match="no good"):
        feed(ClientError("arguments", "no good"), read=[])


def test_a_feed_that_was_never_started_can_be_stopped() -> None:
    made = feed(subscriber := FakeSubscriber([]), read=[])
    made.stop()
    assert subscriber.closed.is_set()


def test_it_ends_also_while_it_waits_to_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_thread, "RETRY_FIRST_S", 30.0)
    broken = FakeSubscriber([], ZeroDivisionError("oh"))
    made = feed(broken, read=[])
    made.start()
    until(broken.closed.is_set, "it failed")
    assert ended(made)
    assert made.restarts == 0


def test_one_that_is_made_while_it_is_stopped_is_closed_and_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_thread, "RETRY_FIRST_S", 0.01)
    broken, late = FakeSubscriber([1], ZeroDivisionError("oh")), FakeSubscriber([2])
    made: FeedThread | None = None

    def subscribe() -> Subscriber:
        if made is None:
            return cast("Subscriber", broken)
        made.stop()
        return cast("Subscriber", late)

    read = list[Any]()
    made = FeedThread(subscribe, read.extend)
    made.start()
    made.join(60)
    assert not made.is_alive()
    assert (read, late.closed.is_set()) == ([1], True)
