"""A call into the DLL that never comes back ends the daemon, so that it can be started anew; nothing else does."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from mt4pump.cli.run import FileWatch, run
from mt4pump.daemon import CHECK_GAP_MAX_S, HangDetector
from mt4pump.errors import HangError
from mt4pump.mt4.codes import PumpCode
from mt4pump.settings import load
from tests.bus import ANY_PORT, until
from tests.live import PASSWORD, Running, running, running_dll
from tests.vendor.control import Vendor

HANG_S = 3_600.0
LIMIT_S = 2 * CHECK_GAP_MAX_S
"""A machine that stands still for once must not have another thread blamed."""


class Watched:
    """Threads that are checked, and a clock that is set by hand."""

    def __init__(self, limit_s: float) -> None:
        self.now_s = 50.0
        self.detector = HangDetector(limit_s, lambda: self.now_s)
        self.one, self.other = Thread(name="one"), Thread(name="other")

    def check(self, one: int | None, other: int | None = None, passed_s: float = 0.5) -> HangError | None:
        self.now_s += passed_s
        return self.detector.check({self.one: one, self.other: other})


def test_a_thread_that_shows_the_same_progress_for_too_long_is_named() -> None:
    watched = Watched(2.0)
    assert [watched.check(7, turn) for turn in range(4)] == [None] * 4
    found = watched.check(7, 9)
    assert found is not None
    assert "the one thread made no progress for 2 s" in str(found)


def test_a_thread_that_goes_on_begins_anew() -> None:
    watched = Watched(1.0)
    assert [watched.check(turn // 2) for turn in range(20)] == [None] * 20


def test_a_thread_that_may_wait_never_stands_still() -> None:
    watched = Watched(1.0)
    assert [watched.check(None) for _ in range(20)] == [None] * 20
    assert [watched.check(1), watched.check(1), watched.check(None), watched.check(1), watched.check(1)] == [None] * 5


def test_without_a_limit_nothing_is_too_long() -> None:
    watched = Watched(0.0)
    assert [watched.check(1) for _ in range(100)] == [None] * 100


def test_a_machine_that_slept_is_not_the_thread_s_fault() -> None:
    watched = Watched(3 * CHECK_GAP_MAX_S)
    watched.check(1)
    assert watched.check(1, passed_s=HANG_S) is None
    assert watched.check(1, passed_s=HANG_S) is None
    assert watched.check(1, passed_s=HANG_S) is not None


def test_where_it_hangs_is_in_the_error_and_its_stack_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    goes_on = Event()

    def wait_here() -> None:
        goes_on.wait()

    thread = Thread(target=wait_here, name="waiter")
    thread.start()
    detector = HangDetector(1e-9)
    try:
        assert detector.check({thread: 1}) is None
        until(lambda: detector.check({thread: 1}) is not None, "found")
        assert "in wait (" in str(detector.check({thread: 1}))
        assert "the stack of the waiter thread" in caplog.text
        assert "wait_here" in caplog.text
    finally:
        goes_on.set()
        thread.join()


@pytest.fixture
def fake(vendor: Vendor) -> Iterator[Vendor]:
    """Return the controls of a library that accepts our login; what hangs in it comes back at the end."""
    vendor.accept("", 5, PASSWORD)
    yield vendor
    vendor.reset()


def found(at: Running) -> BaseException | None:
    at.daemon.check_threads()
    return at.daemon.crash


@pytest.mark.parametrize(
    ("call", "thread"),
    [("Connect", "supervisor"), ("IsConnected", "supervisor"), ("Disconnect", "supervisor"), ("TradesGet", "pump")],
)
def test_a_call_that_never_comes_back_is_a_crash(
    call: str, thread: str, fake: Vendor, vendor_library: Path, tmp_path: Path
) -> None:
    if call == "Connect":
        fake.script(call, delay_s=HANG_S)
        fake.script("Disconnect", times=-1, delay_s=HANG_S)  # which would end it
    with running_dll(tmp_path, vendor_library, hang_timeout_s=LIMIT_S) as at:
        if call != "Connect":
            at.pumping()
            fake.script(call, delay_s=HANG_S)
        if call == "Disconnect":
            fake.lose_link()
        elif call == "TradesGet":
            fake.emit(PumpCode.UPDATE_TRADES)
        until(lambda: found(at), "found")
        assert f"the {thread} thread made no progress" in str(found(at))
        assert "hang_timeout_s" in str(found(at))
        fake.reset()


def test_a_quiet_daemon_does_not_stand_still(tmp_path: Path) -> None:
    with running(tmp_path, source="simulator", hang_timeout_s=1e-9, rate=0) as at:
        turns = at.daemon.iterations
        until(lambda: at.daemon.iterations > turns + 2, "the pump turned")
        at.daemon.check_threads()
        until(lambda: at.daemon.iterations > turns + 5, "the pump turned")
        at.daemon.check_threads()
        assert at.daemon.crash is None


def test_the_program_ends_with_1_and_says_why(
    fake: Vendor, vendor_library: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake.script("Connect", delay_s=HANG_S)
    fake.script("Disconnect", times=-1, delay_s=HANG_S)  # which would end it
    places = {"pub_endpoint": ANY_PORT, "query_endpoint": ANY_PORT, "data_dir": tmp_path, "dll_path": vendor_library}
    session = {"source": "dll", "servers": ("fake:443",), "login": 5, "password": PASSWORD, "hang_timeout_s": LIMIT_S}
    settings = load({**places, **session}, environ={}, config=None)
    interval_s = sys.getswitchinterval()
    caplog.set_level(logging.INFO)
    try:
        assert run(settings, lambda: settings, FileWatch(tmp_path / "mt4pump.toml")) == 1
    finally:
        sys.setswitchinterval(interval_s)
    assert "ended by a crash of its own: HangError('the supervisor thread made no progress" in caplog.text
    assert "a call into the Manager API did not return; its thread was abandoned" in caplog.text
