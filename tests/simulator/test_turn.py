"""The world is held by one at a time, and no reader starves."""

from __future__ import annotations

from threading import Event, Thread

from mt4pump.simulator.context import FairLock


def test_the_holder_may_enter_again() -> None:
    turn = FairLock()
    with turn(), turn():
        assert turn.wait_s(0.01)


def test_a_reader_gets_its_turn_from_a_thread_that_never_rests() -> None:
    turn, done = FairLock(), Event()

    def grab() -> None:
        while not done.is_set():
            with turn():
                sum(range(1000))

    greedy = Thread(target=grab)
    greedy.start()
    try:
        for _ in range(200):
            with turn():
                pass
    finally:
        done.set()
        greedy.join()


def test_waiting_for_the_world_gives_up_while_it_is_held() -> None:
    turn, held, done = FairLock(), Event(), Event()

    def hold() -> None:
        with turn():
            held.set()
            done.wait(40)

    holder = Thread(target=hold)
    holder.start()
    try:
        assert held.wait(40)
        assert not turn.wait_s(0.01)
    finally:
        done.set()
        holder.join()
    assert turn.wait_s(1)
