"""The DLL's way in: every code with and without data, copies that outlive it, and nothing that is lost unseen.

Private access: the number of a session and the table of its callbacks, because the session passes a stop on by itself
and shows no moment between its note and the call.
"""

from __future__ import annotations

import threading
from ctypes import addressof, c_void_p, create_string_buffer

import pytest

from mt4pump.bridge import callback as callback_module
from mt4pump.bridge.callback import RECORD_BYTES, Callback
from mt4pump.bridge.dll_manager import DllManager
from mt4pump.bridge.interface import POINTER_BYTES
from mt4pump.bridge.library import Library
from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import CALLBACK_RECORD, MAIL_BOX, NEWS_TOPIC, NEWS_TOPIC_NEW
from tests.bridge.conftest import Open
from tests.bridge.low_memory import low_memory
from tests.bridge.recorder import NotifyRecorder
from tests.reference import api_layout
from tests.vendor.control import Vendor

TRADES, PING, ONLINE = PumpCode.UPDATE_TRADES, PumpCode.PING, PumpCode.UPDATE_ONLINE
UNKNOWN_CODES = [17, 255, 256, 2**31 - 1, -1]
WITHOUT_RECORD = sorted(set(PumpCode) - set(CALLBACK_RECORD))


def pattern(size: int) -> bytes:
    """Return bytes of which none is like its neighbour, and none like what the fake scribbles."""
    return bytes(place % 199 + 1 for place in range(size))


@pytest.mark.usefixtures("pumping")
class TestEvents:
    """What reaches ``notify``."""

    @pytest.mark.parametrize("code", PumpCode, ids=lambda code: code.name)
    def test_every_code_without_data_arrives_empty(
        self, code: PumpCode, vendor: Vendor, recorder: NotifyRecorder
    ) -> None:
        recorder.events.clear()
        vendor.emit(code, 2)
        vendor.wait()
        (event,) = recorder.events
        assert event[:3] == (code, 2, b"")
        assert type(event.code) is int

    @pytest.mark.parametrize("stops", [0, 1, 3])
    def test_a_stop_is_noted_before_it_is_passed_on(
        self, pumping: DllManager, library: Library, vendor: Vendor, stops: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        noted: list[tuple[int, bool]] = []

        def notify(code: int, _action: int, _data: bytes) -> None:
            noted.append((code, pumping._param in library.callback.stopped))  # noqa: SLF001

        monkeypatch.setitem(library.callback._notify, pumping._param, notify)  # noqa: SLF001
        vendor.emit(PING)
        vendor.wait()
        for _ in range(stops):
            vendor.emit(PumpCode.STOP_PUMPING)
        vendor.wait()
        assert noted == [(PING, False), *[(PumpCode.STOP_PUMPING, True)] * stops]
        pumping.close()
        assert pumping._param not in library.callback.stopped, "numbers of closed sessions do not pile up"  # noqa: SLF001

    @pytest.mark.parametrize("code", CALLBACK_RECORD, ids=lambda code: code.name)
    @pytest.mark.parametrize("action", [0, 1, 2, 3, -5])
    def test_every_record_arrives_whole_with_its_action(
        self, code: PumpCode, action: int, vendor: Vendor, recorder: NotifyRecorder
    ) -> None:
        record = pattern(CALLBACK_RECORD[code].size)
        recorder.events.clear()
        vendor.emit(code, action, record)
        vendor.wait()
        (event,) = recorder.events
        assert event[:3] == (code, action, record)

    @pytest.mark.parametrize("code", WITHOUT_RECORD, ids=lambda code: code.name)
    def test_data_of_a_code_that_has_no_record_is_not_read(
        self, code: PumpCode, vendor: Vendor, recorder: NotifyRecorder
    ) -> None:
        recorder.events.clear()
        vendor.emit(code, 1, b"\x01\x02\x03\x04")
        vendor.wait()
        (event,) = recorder.events
        assert event[:3] == (code, 1, b"")

    @pytest.mark.parametrize("code", UNKNOWN_CODES)
    @pytest.mark.parametrize("data", [b"", b"something"])
    def test_unknown_code_is_passed_on_as_its_number(
        self, code: int, data: bytes, vendor: Vendor, recorder: NotifyRecorder
    ) -> None:
        recorder.events.clear()
        vendor.emit(code, 9, data)
        vendor.wait()
        (event,) = recorder.events
        assert event[:3] == (code, 9, b"")

    def test_data_outlives_the_callback(self, vendor: Vendor, recorder: NotifyRecorder) -> None:
        records = [bytes([number]) * RECORD_BYTES[TRADES] for number in range(1, 200)]
        vendor.emit_many(TRADES, 2, b"".join(records), RECORD_BYTES[TRADES], len(records))
        vendor.wait()
        assert recorder.data(TRADES) == records
        assert not any(b"\xdd" in data or b"\xee" in data for data in recorder.data(TRADES))

    def test_events_of_one_thread_keep_their_order(self, vendor: Vendor, recorder: NotifyRecorder) -> None:
        recorder.events.clear()
        for code in (*PumpCode, *reversed(PumpCode)):
            vendor.emit(code)
        vendor.wait()
        assert recorder.codes() == [*PumpCode, *reversed(PumpCode)]

    def test_callback_does_not_run_on_a_thread_of_ours(self, vendor: Vendor, recorder: NotifyRecorder) -> None:
        vendor.emit(PING)
        vendor.wait()
        ours = {thread.native_id for thread in threading.enumerate()}
        assert not ours & {event.thread for event in recorder.events if event.code == PING} - {
            threading.get_native_id()
        }
        assert threading.get_native_id() not in {event.thread for event in recorder.events}

    @pytest.mark.parametrize("record", [NEWS_TOPIC, MAIL_BOX, NEWS_TOPIC_NEW], ids=lambda record: record.name)
    def test_a_body_s_pointer_is_never_followed_on_64_bit(
        self, record: object, vendor: Vendor, recorder: NotifyRecorder
    ) -> None:
        if POINTER_BYTES == 4:
            pytest.skip("on 32 bit the pointer is whole and is followed")
        (code,) = [code for code, found in CALLBACK_RECORD.items() if found is record]
        length = "body_len" if record is NEWS_TOPIC_NEW else "bodylen"
        data = CALLBACK_RECORD[code].pack({"body": 0xDEADBEEF, length: 1000})
        vendor.emit(code, 0, data)
        vendor.wait()
        assert recorder.data(code) == [data]


class TestBodies:
    """Texts behind a record, where its 32-bit pointer is whole."""

    @pytest.fixture(autouse=True)
    def _whole_pointers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(callback_module, "POINTER_BYTES", 4)

    def received(self, code: PumpCode, record: bytes) -> bytes:
        """Return what a callback with ``record`` hands on."""
        callback, recorder = Callback(), NotifyRecorder()
        data = create_string_buffer(record, len(record))
        callback.function(code, 0, c_void_p(addressof(data)), c_void_p(callback.open(recorder)))
        assert callback.errors == 0, callback.last_error
        return recorder.events[0].data

    @pytest.mark.parametrize(
        ("code", "length"),
        [
            (PumpCode.UPDATE_NEWS, "bodylen"),
            (PumpCode.UPDATE_MAIL, "bodylen"),
            (PumpCode.UPDATE_NEWS_NEW, "body_len"),
        ],
    )
    def test_body_arrives_behind_its_record_and_ends_where_the_record_says(self, code: PumpCode, length: str) -> None:
        with low_memory(b"a text, and what is none of it") as address:
            record = CALLBACK_RECORD[code].pack({"body": address, length: 6})
            assert self.received(code, record) == record + b"a text"

    @pytest.mark.parametrize("length", [0, -1, -2, -(2**31)])
    def test_body_without_a_length_is_not_read(self, length: int) -> None:
        with low_memory(b"not to be read\0") as address:
            record = NEWS_TOPIC.pack({"body": address, "bodylen": length})
            assert self.received(PumpCode.UPDATE_NEWS, record) == record

    def test_body_without_a_pointer_is_not_read(self) -> None:
        record = NEWS_TOPIC.pack({"body": 0, "bodylen": 6})
        assert self.received(PumpCode.UPDATE_NEWS, record) == record

    @pytest.mark.parametrize(("length", "body"), [(8, b"as long "), (9, b"")])
    def test_body_longer_than_the_limit_is_not_read(
        self, length: int, body: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(callback_module, "BODY_LIMIT_BYTES", 8)
        with low_memory(b"as long as this") as address:
            record = NEWS_TOPIC.pack({"body": address, "bodylen": length})
            assert self.received(PumpCode.UPDATE_NEWS, record) == record + body


class TestPointers:
    """Sizes and offsets that the callback reads by."""

    def test_sizes_to_copy_are_the_reference_s(self) -> None:
        structs = api_layout()
        for code, record in CALLBACK_RECORD.items():
            assert RECORD_BYTES[code] == structs[record.name]["size"]["x86"] == structs[record.name]["size"]["x64"]

    @pytest.mark.parametrize("value", [1, 100, 0xDEADBEEF, 2**31])
    def test_online_data_is_never_dereferenced(self, value: int) -> None:
        callback, recorder = Callback(), NotifyRecorder()
        callback.function(ONLINE, 0, c_void_p(value), c_void_p(callback.open(recorder)))
        assert recorder.events[0][:3] == (ONLINE, 0, b"")
        assert callback.errors == 0


class TestSessions:
    """Whose event it is."""

    def test_two_sessions_receive_their_own_by_param(self, open_manager: Open, vendor: Vendor) -> None:
        recorders = NotifyRecorder(), NotifyRecorder()
        for recorder in recorders:
            manager = open_manager()
            manager.connect("s")
            manager.login(1, "x")
            manager.pump(0, recorder)
        vendor.wait()
        vendor.emit(PING)
        vendor.wait()
        assert [recorder.codes() for recorder in recorders] == [[0, 15], [0, 15]]

    def test_event_after_close_is_counted_as_stale_not_delivered(
        self, library: Library, open_manager: Open, vendor: Vendor, recorder: NotifyRecorder
    ) -> None:
        manager = open_manager()
        manager.connect("s")
        manager.login(1, "x")
        manager.pump(0, recorder)
        vendor.wait()
        manager.close()
        received, stale = len(recorder.events), library.callback.stale
        vendor.emit_stale(TRADES, 0, pattern(224))
        vendor.emit_stale(PumpCode.STOP_PUMPING)
        vendor.wait()
        assert len(recorder.events) == received
        assert library.callback.stale == stale + 2
        assert library.callback.errors == 0

    @pytest.mark.parametrize("param", [None, 0, 99, 2**31 - 1])
    def test_param_of_nobody_is_stale(self, param: int | None) -> None:
        callback, recorder = Callback(), NotifyRecorder()
        callback.open(recorder)
        callback.function(PING, 0, None, c_void_p(param))
        assert (callback.stale, recorder.events) == (1, [])

    def test_closing_twice_or_what_was_never_open_is_harmless(self) -> None:
        callback = Callback()
        param = callback.open(NotifyRecorder())
        callback.close(param)
        callback.close(param)
        callback.close(0)

    def test_thunk_lives_as_long_as_the_library_not_as_the_session(
        self, library: Library, open_manager: Open, vendor: Vendor, recorder: NotifyRecorder
    ) -> None:
        function = library.callback.function
        for _ in range(3):
            manager = open_manager()
            manager.connect("s")
            manager.login(1, "x")
            manager.pump(0, recorder)
            manager.close()
        vendor.emit_stale(PING)
        vendor.wait()
        assert library.callback.function is function


class TestErrors:
    """An exception in ``notify`` is counted and kept, and the next event still arrives."""

    @pytest.mark.parametrize("error", [ValueError("bad bytes"), MemoryError(), KeyboardInterrupt(), SystemExit(3)])
    def test_exception_is_counted_and_logged(
        self, error: BaseException, library: Library, open_manager: Open, vendor: Vendor
    ) -> None:
        received: list[int] = []

        def notify(code: int, _action: int, _data: bytes) -> None:
            received.append(code)
            if code == TRADES:
                raise error

        manager = open_manager()
        manager.connect("s")
        manager.login(1, "x")
        manager.pump(0, notify)
        before = library.callback.errors
        vendor.emit(TRADES)
        vendor.emit(PING)
        vendor.wait()
        assert received == [0, TRADES, PING]
        assert library.callback.errors == before + 1
        assert library.callback.last_error == f"pump code {int(TRADES)}: {error!r}"


@pytest.mark.usefixtures("pumping")
class TestPinnedThreads:
    """Each foreign thread keeps its Python thread state from its first call on, and is counted."""

    def test_a_thread_is_pinned_once(self, library: Library, vendor: Vendor) -> None:
        vendor.emit(PING, worker=3)
        vendor.wait()
        pinned = library.callback.pinned_threads
        vendor.emit(PING, worker=3, times=20)
        vendor.wait()
        assert library.callback.pinned_threads == pinned

    def test_threads_that_live_together_are_each_pinned(self, library: Library, vendor: Vendor) -> None:
        pinned, state_kept = library.callback.pinned_threads, NotifyRecorder()
        vendor.emit_on_new_threads(8, PING)
        assert library.callback.pinned_threads == pinned + 8
        assert state_kept.events == []

    def test_a_new_thread_is_pinned_also_when_it_inherits_a_dead_one_s_identifier(
        self, library: Library, vendor: Vendor
    ) -> None:
        # Each reconnect gives a new native thread, and pthread identifiers are handed out again at once.
        vendor.emit_on_new_threads(1, PING)
        pinned = library.callback.pinned_threads
        for _ in range(5):
            vendor.emit_on_new_threads(1, PING)
        assert library.callback.pinned_threads == pinned + 5

    def test_our_own_thread_is_never_pinned(self, library: Library, open_manager: Open, vendor: Vendor) -> None:
        vendor.set_stops(4)
        manager, recorder = open_manager(), NotifyRecorder()
        manager.connect("s")
        manager.login(1, "x")
        manager.pump(0, recorder)
        vendor.wait()
        pinned = library.callback.pinned_threads
        manager.close()
        assert recorder.codes() == [0, 14, 14, 14, 14]
        assert library.callback.pinned_threads == pinned


class TestCounters:
    """What the heartbeat shows, and what the log says once a minute."""

    def test_an_exception_in_the_callback_is_logged_outside_of_it(self, caplog: pytest.LogCaptureFixture) -> None:
        callback = Callback()
        param = callback.open(lambda _code, _action, _data: 1 // 0)  # type: ignore[arg-type]
        callback.function(TRADES, 0, None, param)
        assert not caplog.records
        assert callback.counters()["callback_errors"] == 1
        assert "ZeroDivisionError" in caplog.text
        callback.counters()
        assert len(caplog.records) == 1

    def test_more_threads_than_sessions_explain_are_an_alarm(self, caplog: pytest.LogCaptureFixture) -> None:
        callback = Callback()
        callback.pinned_threads = 8
        callback.counters()
        assert not caplog.records
        callback.pinned_threads = 9
        assert callback.counters()["pinned_threads"] == 9
        assert "9 threads of the API pinned in 0 sessions" in caplog.text
