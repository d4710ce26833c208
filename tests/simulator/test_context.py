"""The lock is held by one at a time, and no reader starves; a record array keeps what it was given."""

from __future__ import annotations

from random import Random
from threading import Event, Thread

from mt4pump.mt4.layout import ONLINE_RECORD, USER_RECORD
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
    random, array, expected = Random(1), RecordArray(ONLINE_RECORD), dict[int, bytes]()  # noqa: S311 - chance that can be repeated
    for number in range(5_000):
        key = random.randrange(50)
        if random.random() < 0.6:
            array[key] = expected[key] = ONLINE_RECORD.pack({"counter": number, "login": key, "group": "demo"})
        else:
            array.discard(key)
            expected.pop(key, None)
        assert (key in array) == (key in expected)
    assert {key: array[key] for key in expected} == expected
    data, size = array.table(), ONLINE_RECORD.size
    assert sorted(data[start : start + size] for start in range(0, len(data), size)) == sorted(expected.values())


def test_fields_of_one_record_are_changed_in_place() -> None:
    array = RecordArray(USER_RECORD)
    for login in (1, 2, 3):
        array[login] = USER_RECORD.pack({"login": login, "group": "a-long-name", "balance": 10.0, "lastdate": 7})
    array.update(2, group=b"b", balance=-0.5, lastdate=8)
    assert array[2] == USER_RECORD.pack({"login": 2, "group": "b", "balance": -0.5, "lastdate": 8})
    for login in (1, 3):
        assert array[login] == USER_RECORD.pack(
            {"login": login, "group": "a-long-name", "balance": 10.0, "lastdate": 7}
        )
