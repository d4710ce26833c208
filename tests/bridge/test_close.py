"""Closing a session under every condition: Disconnect, then Release, and no call after it.

Private access: the lock of a table's reads, because the session must close while a caller waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from mt4pump.bridge import dll_manager as module
from mt4pump.bridge.dll_manager import DllManager
from mt4pump.bridge.library import Library
from mt4pump.errors import ConnectionLost
from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import TRADE_RECORD
from tests.bridge.conftest import Open
from tests.bridge.reads import READS, Read, stuck_read
from tests.bridge.recorder import NotifyRecorder
from tests.bus import LIMIT_S, until
from tests.vendor.control import SILENCE_LIMIT_S, Vendor

START, STOP, PING = PumpCode.START_PUMPING, PumpCode.STOP_PUMPING, PumpCode.PING


class ClosingLock:
    """A lock whose first holder finds the session closed just before it gets it."""

    def __init__(self, manager: DllManager) -> None:
        self._lock = threading.Lock()
        self._closes = [manager.close]

    def acquire(self, timeout: float) -> bool:
        """Close the session once, then take the lock."""
        if self._closes:
            self._closes.pop()()
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        """Let go of the lock."""
        self._lock.release()


class TestClose:
    """Disconnect, then Release, whatever else goes on."""

    @pytest.mark.parametrize("stops", [0, 1, 5])
    def test_stop_from_inside_disconnect_is_received_and_blocks_nothing(
        self, pumping: DllManager, vendor: Vendor, recorder: NotifyRecorder, stops: int
    ) -> None:
        vendor.set_stops(stops, native=False)
        pumping.close()
        assert recorder.codes() == [START, *[STOP] * stops]
        assert all(event.thread == threading.get_native_id() for event in recorder.events[1:])

    def test_stop_from_the_dll_s_thread_while_disconnect_waits_for_it_is_received(
        self, pumping: DllManager, vendor: Vendor, recorder: NotifyRecorder
    ) -> None:
        vendor.set_stops(2)
        pumping.close()
        assert recorder.codes() == [START, STOP, STOP]
        assert vendor.count("disconnect_timeouts") == 0

    def test_disconnect_comes_before_release_and_each_once(self, pumping: DllManager, vendor: Vendor) -> None:
        pumping.close()
        pumping.close()
        counts = vendor.counts()
        assert (counts["disconnects"], counts["releases"], counts["live_interfaces"]) == (1, 1, 0)
        assert (counts["releases_while_pumping"], counts["calls_after_release"]) == (0, 0)

    def test_close_before_connect_releases(self, manager: DllManager, vendor: Vendor) -> None:
        manager.close()
        assert vendor.count("live_interfaces") == 0

    def test_failed_disconnect_still_releases(self, pumping: DllManager, vendor: Vendor) -> None:
        vendor.script("Disconnect", 2)
        pumping.close()
        assert vendor.count("live_interfaces") == 0

    @pytest.mark.parametrize("name", READS)
    def test_read_after_close_raises_connection_lost_and_reaches_no_dll(
        self, name: str, pumping: DllManager, vendor: Vendor
    ) -> None:
        pumping.close()
        with pytest.raises(ConnectionLost, match="closed"):
            READS[name](pumping)
        assert vendor.count("calls_after_release") == 0

    def test_session_that_closes_while_the_question_waits_is_not_asked(
        self, pumping: DllManager, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pumping, "_table_lock", ClosingLock(pumping))
        assert not pumping.is_connected()
        assert vendor.count("live_interfaces") == 0
        assert vendor.count("calls_after_release") == 0, "a call on a released interface crashes the real DLL"

    def test_closed_session_is_not_connected(self, pumping: DllManager, vendor: Vendor) -> None:
        pumping.close()
        assert not pumping.is_connected()
        assert vendor.count("calls_after_release") == 0

    @pytest.mark.parametrize(
        "step",
        [
            lambda manager: manager.connect("s"),
            lambda manager: manager.login(1, "x"),
            lambda manager: manager.pump(0, NotifyRecorder()),
        ],
        ids=["connect", "login", "pump"],
    )
    def test_session_cannot_be_started_again_after_close(self, pumping: DllManager, vendor: Vendor, step: Read) -> None:
        pumping.close()
        with pytest.raises(ConnectionLost):
            step(pumping)
        assert vendor.count("calls_after_release") == 0, "a call on a released interface crashes the real DLL"

    def test_closing_under_reads_of_other_threads_never_crashes_or_leaks(
        self, open_manager: Open, vendor: Vendor, recorder: NotifyRecorder
    ) -> None:
        vendor.set_table("TradesGet", [TRADE_RECORD.pack({"order": number}) for number in range(100)])
        for _ in range(20):
            manager = open_manager()
            manager.connect("s")
            manager.login(1, "x")
            manager.pump(0, recorder)
            reads: list[int] = []
            readers = [threading.Thread(target=read_until_lost, args=(manager, reads)) for _ in range(3)]
            for reader in readers:
                reader.start()
            until(lambda reads=reads: len(reads) > 5, "some reads")  # type: ignore[misc]
            manager.close()
            for reader in readers:
                reader.join(40)
            assert not any(reader.is_alive() for reader in readers)
        counts = vendor.counts()
        for mistake in (
            "calls_after_release",
            "releases_in_use",
            "releases_while_pumping",
            "outstanding",
            "double_frees",
        ):
            assert counts[mistake] == 0, mistake

    def test_closing_under_a_storm_of_callbacks_never_crashes(
        self, open_manager: Open, vendor: Vendor, library: Library
    ) -> None:
        errors = library.callback.errors
        for _ in range(20):
            manager, recorder = open_manager(), NotifyRecorder()
            manager.connect("s")
            manager.login(1, "x")
            manager.pump(0, recorder)
            for worker in range(4):
                vendor.emit(PumpCode.UPDATE_TRADES, 2, bytes(224), times=10**6, worker=worker)
            until(lambda recorder=recorder: len(recorder.events) > 20, "events")  # type: ignore[misc]
            manager.close()
            received, missed = len(recorder.events), vendor.count("events_missed")
            until(lambda missed=missed: vendor.count("events_missed") > missed, "emission goes on")  # type: ignore[misc]
            assert len(recorder.events) == received
            vendor.reset()
        assert library.callback.errors == errors

    def test_read_that_never_comes_back_leaves_its_interface_unreleased_and_counted(
        self, pumping: DllManager, vendor: Vendor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(module, "CLOSE_WAIT_S", 0.01)
        abandoned = DllManager.abandoned
        with stuck_read(pumping, vendor):
            pumping.close()
            assert DllManager.abandoned == abandoned + 1
            assert vendor.count("releases") == 0, "not under the reader's feet"
        assert "did not come back" in caplog.text

    def test_abandoned_session_is_closed_for_reads_and_for_the_question(
        self, pumping: DllManager, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "CLOSE_WAIT_S", 0.01)
        monkeypatch.setattr(module, "CONNECTED_WAIT_S", 0.01)
        with stuck_read(pumping, vendor):
            pumping.close()
            assert not pumping.is_connected()
        with pytest.raises(ConnectionLost):
            pumping.table("trades")

    def test_abandoned_session_s_events_are_stale(
        self,
        pumping: DllManager,
        vendor: Vendor,
        library: Library,
        recorder: NotifyRecorder,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(module, "CLOSE_WAIT_S", 0.01)
        with stuck_read(pumping, vendor):
            pumping.close()
            stale = library.callback.stale
            vendor.emit(PING)
            vendor.wait()
            assert recorder.codes() == [START]
            assert library.callback.stale == stale + 1


CALLS: dict[str, Callable[[DllManager], object]] = {
    "Connect": lambda manager: manager.connect("s"),
    "Login": lambda manager: manager.login(1, "x"),
}


class TestAbort:
    """Disconnect from another thread, under a call that waits for its server."""

    @pytest.mark.parametrize("method", CALLS)
    def test_call_that_waits_ends_and_everything_is_given_back(
        self, manager: DllManager, vendor: Vendor, method: str
    ) -> None:
        errors: list[Exception] = []

        def call() -> None:
            try:
                CALLS[method](manager)
            except ConnectionLost as error:
                errors.append(error)

        if method == "Login":
            manager.connect("s")
        vendor.script(method, 255, delay_s=SILENCE_LIMIT_S * 20)
        caller = threading.Thread(target=call)
        caller.start()
        until(lambda: vendor.calls(method), "the call begins")

        def aborted() -> list[Exception]:  # again, as the first time may come just before the call waits
            manager.abort()
            return errors

        until(aborted, "the call ends")
        caller.join(LIMIT_S)
        manager.close()
        counts = vendor.counts()
        assert (counts["live_interfaces"], counts["releases"], counts["releases_in_use"]) == (0, 1, 0)
        assert counts["calls_interrupted"] == 1

    @pytest.mark.parametrize("method", CALLS)
    def test_no_call_begins_after_it(self, manager: DllManager, vendor: Vendor, method: str) -> None:
        manager.abort()
        with pytest.raises(ConnectionLost, match="aborted"):
            CALLS[method](manager)
        assert vendor.calls(method) == 0

    def test_switch_does_not_begin_after_it(
        self, manager: DllManager, vendor: Vendor, recorder: NotifyRecorder
    ) -> None:
        manager.connect("s")
        manager.login(1, "x")
        manager.abort()
        with pytest.raises(ConnectionLost, match="aborted"):
            manager.pump(0, recorder)
        assert vendor.calls("PumpingSwitchEx") == 0

    def test_closed_session_is_not_touched(self, manager: DllManager, vendor: Vendor) -> None:
        manager.close()
        manager.abort()
        assert vendor.count("calls_after_release") == 0
        assert vendor.calls("Disconnect") == 1

    def test_it_gives_up_where_a_read_has_the_interface(
        self, pumping: DllManager, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "ABORT_WAIT_S", 0.01)
        with stuck_read(pumping, vendor):
            pumping.abort()
            assert vendor.calls("Disconnect") == 0


def read_until_lost(manager: DllManager, reads: list[int]) -> None:
    """Read tables until the session is closed; note each length, which is all or nothing."""
    while True:
        try:
            length = len(manager.table("trades"))
        except ConnectionLost:
            return
        assert length in {0, 100 * TRADE_RECORD.size}
        reads.append(length)
