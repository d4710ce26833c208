"""The lock is held by one at a time, and no reader starves; a record array keeps what it was given."""

from __future__ import annotations

from random import Random
from threading import Event, Thread

from mt4pump.simulator.context import FairLock, RecordArray


def test_the_holder_may_enter_again() -> None:
    lock = FairLock()
    with lock, lock:
        assert lock.wait_until_free(0.01)


def test_a_reader_gets_the_lock_from_a_thread_that_never_rests() -> None:
    lock, done = FairLock(), Event()

    def grab() -> None:
        while not done.is_set():
            with lock:
                sum(range(1000))

    greedy = Thread(target=grab)
    greedy.start()
    try:
        for _ in range(200):
            with lock:
                pass
    finally:
        done.set()
        greedy.join()


def test_waiting_for_the_lock_gives_up_while_it_is_held() -> None:
    lock, held, done = FairLock(), Event(), Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait(40)

    holder = Thread(target=hold)
    holder.start()
    try:
        assert held.wait(40)
        assert not lock.wait_until_free(0.01)
    finally:
        done.set()
        holder.join()
    assert lock.wait_until_free(1)


def test_a_record_array_holds_what_a_dict_would() -> None:
    random, array, expected = Random(1), RecordArray(4), dict[int, bytes]()  # noqa: S311 - chance that can be repeated
    for number in range(5_000):
        key = random.randrange(50)
        if random.random() < 0.6:
            array[key] = expected[key] = number.to_bytes(4, "little")
        else:
            array.discard(key)
            expected.pop(key, None)
        assert (key in array) == (key in expected)
    assert {key: array[key] for key in expected} == expected
    data = bytes(array)
    assert sorted(data[start : start + 4] for start in range(0, len(data), 4)) == sorted(expected.values())
