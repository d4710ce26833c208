"""The queue between threads: bounded, coalescing, and nothing lost that it did not count."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterator
from threading import Barrier, Thread

import pytest

from mt4pump.mt4.codes import PumpCode
from mt4pump.pump.inbox import DOORBELLS, Inbox, RawRecord
from tests.bus import LIMIT_S

BIDASK, TRADES, START, STOP = (
    int(code)
    for code in (PumpCode.UPDATE_BIDASK, PumpCode.UPDATE_TRADES, PumpCode.START_PUMPING, PumpCode.STOP_PUMPING)
)


BARRIER = 2**31


def inbox(limit: int = 100) -> Inbox:
    """Return an inbox whose stamps are 1, 2, 3 and so on."""
    return Inbox(limit, itertools.count(1).__next__)


def taken(made: Inbox) -> list[RawRecord]:
    return list(iter(made.get, None))


def codes(made: Inbox) -> list[int]:
    return [record[0] for record in taken(made)]


def test_a_record_comes_out_as_it_went_in_with_its_stamp() -> None:
    made = inbox()
    made.notify(TRADES, 2, b"record")
    assert taken(made) == [(TRADES, 2, b"record", 1)]
    assert made.last_callback_ts == 1


def test_records_come_out_in_order() -> None:
    made = inbox()
    for number in range(10):
        made.notify(TRADES, number, b"x")
    assert [record[1] for record in taken(made)] == list(range(10))


def test_an_empty_inbox_gives_nothing_and_waits_no_longer_than_asked() -> None:
    assert inbox().get() is None
    assert inbox().get(0.001) is None


def test_a_wait_ends_when_a_record_comes() -> None:
    made = inbox()
    ringer = Thread(target=made.notify, args=(TRADES, 0, b"x"))
    ringer.start()
    record = made.get(LIMIT_S)
    ringer.join()
    assert record is not None
    assert record[:3] == (TRADES, 0, b"x")


def test_records_beyond_the_limit_are_refused_and_counted() -> None:
    made = inbox(limit=3)
    for number in range(5):
        made.notify(TRADES, number, b"x")
    assert (len(made), made.refused, made.received) == (3, 2, 5)
    assert [record[1] for record in taken(made)] == [0, 1, 2]
    made.notify(TRADES, 9, b"x")
    assert (len(made), made.refused) == (1, 2)


@pytest.mark.parametrize("code", sorted(set(PumpCode) - {PumpCode.START_PUMPING}))
def test_a_full_inbox_still_receives_every_doorbell(code: int) -> None:
    made = inbox(limit=1)
    made.notify(TRADES, 0, b"x")
    made.notify(code, 0, b"")
    assert codes(made) == [TRADES, code]
    assert made.refused == 0


def test_commands_are_never_refused() -> None:
    made = inbox(limit=1)
    made.notify(TRADES, 0, b"x")
    made.put_command(-1, "payload")
    made.put_command(-1, "again")
    assert taken(made)[1:] == [(-1, 0, "payload", 2), (-1, 0, "again", 3)]


def test_a_doorbell_rung_while_it_waits_is_swallowed_and_counted() -> None:
    made = inbox()
    for _ in range(1000):
        made.notify(BIDASK, 0, b"")
    assert (len(made), made.coalesced, made.received) == (1, 999, 1000)
    assert codes(made) == [BIDASK]


def test_a_doorbell_rung_after_it_was_taken_rings_again() -> None:
    made = inbox()
    made.notify(BIDASK, 0, b"")
    assert codes(made) == [BIDASK]
    made.notify(BIDASK, 0, b"")
    assert codes(made) == [BIDASK]
    assert made.coalesced == 0


def test_a_doorbell_does_not_swallow_records_of_its_code_nor_they_it() -> None:
    made = inbox()
    for data in (b"", b"x", b"", b"y"):
        made.notify(TRADES, 0, data)
    assert [record[2] for record in taken(made)] == [b"", b"x", b"y"]


@pytest.mark.parametrize(
    ("rung", "received"),
    [
        ((BIDASK, TRADES, BIDASK, TRADES), [BIDASK, TRADES]),
        ((DOORBELLS, DOORBELLS, 10**6, -5), [DOORBELLS, DOORBELLS, 10**6, -5]),
        ((START, STOP, STOP, STOP), [START, STOP]),
        ((STOP, STOP, START, STOP), [STOP, START, STOP]),
        ((START, START), [START, START]),
    ],
    ids=["one of each code", "no doorbells", "STOP is one", "but the STOP after a new START", "every START"],
)
def test_a_doorbell_waits_once_per_code(rung: tuple[int, ...], received: list[int]) -> None:
    made = inbox()
    for code in rung:
        made.notify(code, 0, b"")
    assert codes(made) == received


def test_every_call_is_a_sign_of_a_live_session_also_a_refused_or_swallowed_one() -> None:
    made = inbox(limit=1)
    for code, data in ((TRADES, b"x"), (TRADES, b"y"), (BIDASK, b""), (BIDASK, b"")):
        before = made.received
        made.notify(code, 0, data)
        assert made.received == before + 1
    assert (made.refused, made.coalesced) == (1, 1)


@pytest.fixture(name="_many_switches")
def _fixture_many_switches() -> Iterator[None]:
    """Have threads switch as often as can be."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval_s)


def from_many_threads(made: Inbox, code: int, each: int, data: bytes, threads: int = 8) -> list[RawRecord]:
    """Notify from many threads at once while this one takes; return what was taken."""
    together = Barrier(threads + 1)

    def ring(number: int) -> None:
        together.wait()
        for _ in range(each):
            made.notify(code, number, data)

    ringers = [Thread(target=ring, args=(number,)) for number in range(threads)]
    for ringer in ringers:
        ringer.start()
    together.wait()
    records: list[RawRecord] = []
    while any(ringer.is_alive() for ringer in ringers):
        records += taken(made)
    return records + taken(made)


@pytest.mark.usefixtures("_many_switches")
def test_many_threads_lose_nothing() -> None:
    made = Inbox(10**6)
    records = from_many_threads(made, TRADES, 2_000, b"x")
    assert Counter(record[1] for record in records) == dict.fromkeys(range(8), 2_000)
    assert (made.received, made.refused) == (16_000, 0)


@pytest.mark.usefixtures("_many_switches")
def test_many_threads_at_a_small_inbox_lose_only_what_is_counted() -> None:
    made = Inbox(5)
    records = from_many_threads(made, TRADES, 2_000, b"x")
    assert len(records) + made.refused == made.received == 16_000


@pytest.mark.usefixtures("_many_switches")
def test_a_ring_from_many_threads_is_never_lost() -> None:
    made = Inbox(5)
    records = from_many_threads(made, BIDASK, 2_000, b"")
    assert len(records) + made.coalesced == made.received == 16_000
    assert len(made) == 0
    made.notify(BIDASK, 0, b"")
    assert codes(made) == [BIDASK]


def test_start_fits_into_a_full_inbox_as_without_it_a_session_never_runs() -> None:
    made = Inbox(1)
    made.notify(TRADES, 0, b"record")
    made.notify(TRADES, 0, b"record")
    made.notify(START, 0, b"")
    assert codes(made) == [TRADES, START]
    assert made.refused == 1


def test_a_doorbell_passes_what_waits_before_it_and_the_order_of_the_rest_stays() -> None:
    made = inbox()
    made.notify(TRADES, 0, b"first")
    made.notify(TRADES, 0, b"")
    made.notify(BIDASK, 0, b"")
    made.notify(TRADES, 0, b"last")
    assert made.get_doorbell(BIDASK, BARRIER) == (BIDASK, 0, b"", 3)
    assert made.get_doorbell(BIDASK, BARRIER) is None
    assert len(made) == 3
    made.notify(BIDASK, 0, b"")
    made.notify(TRADES, 0, b"")  # one waits: passed over, not got
    assert made.coalesced == 1
    assert [data for _, _, data, _ in taken(made)] == [b"first", b"", b"last", b""]


def test_a_doorbell_passes_no_more_than_the_limit_of_the_inbox() -> None:
    made = inbox(2)
    made.notify(TRADES, 0, b"1")
    made.notify(TRADES, 0, b"2")
    assert made.get_doorbell(BIDASK, BARRIER) is None
    made.notify(TRADES, 0, b"3")
    made.notify(BIDASK, 0, b"")
    assert made.get_doorbell(BIDASK, BARRIER) is None
    assert [data for _, _, data, _ in taken(made)] == [b"1", b"2", b"3", b""]
    assert made.refused == 0


def test_a_doorbell_behind_the_barrier_is_not_found() -> None:
    made = inbox()
    made.notify(TRADES, 0, b"record")
    made.put_command(BARRIER, None)
    made.notify(BIDASK, 0, b"")
    for _ in range(2):
        assert made.get_doorbell(BIDASK, BARRIER) is None
    assert codes(made) == [TRADES, BARRIER, BIDASK]
