"""The fake library calls back from its own threads, when and how the test says, with data that dies at once."""

from __future__ import annotations

import threading
from ctypes import string_at
from pathlib import Path

import pytest

from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import TRADE_RECORD
from tests.bus import LIMIT_S, until
from tests.vendor.control import NETWORK_PROBLEM, SILENCE_LIMIT_S, Vendor
from tests.vendor.raw import RawCallback, RawInterface

TRADES = PumpCode.UPDATE_TRADES
START = PumpCode.START_PUMPING
STOP = PumpCode.STOP_PUMPING
PING = PumpCode.PING
TRADE = TRADE_RECORD.pack({"order": 7, "login": 100, "symbol": "EURUSD", "comment": "first"})


class TestPumping:
    """PumpingSwitchEx, START, STOP, and the threads that call back."""

    def test_switch_needs_a_login(self, api: RawInterface, callback: RawCallback) -> None:
        assert api.call("PumpingSwitchEx", callback.function, 0, None) == 6
        api.call("Connect", b"s")
        assert api.call("PumpingSwitchEx", callback.function, 0, None) == 2

    def test_start_comes_from_a_native_thread_with_param_unchanged(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        assert api.start(callback, flags=8 | 64, param=0x1234) == 0
        vendor.wait()
        (start,) = callback.received
        assert (start.code, start.action, start.address, start.param) == (START, 0, None, 0x1234)
        assert start.thread != threading.get_native_id()
        assert vendor.count("last_flags") == 8 | 64
        assert vendor.count("last_param") == 0x1234

    def test_start_may_never_come(self, api: RawInterface, vendor: Vendor, callback: RawCallback) -> None:
        vendor.start_after(None)
        assert api.start(callback) == 0
        vendor.emit(PING)
        vendor.wait()
        assert callback.codes() == [PING]

    def test_late_start_of_an_ended_session_is_not_sent(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        vendor.start_after(60)
        vendor.set_stops(0)
        api.start(callback)
        api.call("Disconnect")
        vendor.start_after(0)
        api.start(callback)
        vendor.wait()
        assert callback.codes() == [START]

    def test_disconnect_calls_stop_on_the_calling_thread_as_often_as_set(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        vendor.set_stops(3, native=False)
        api.start(callback)
        vendor.wait()
        api.call("Disconnect")
        assert callback.codes() == [START, STOP, STOP, STOP]
        assert {event.thread for event in callback.received[1:]} == {threading.get_native_id()}
        api.call("Disconnect")
        assert len(callback.received) == 4, "a link that does not pump has nothing to stop"

    def test_disconnect_can_wait_for_stop_from_a_native_thread(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        vendor.set_stops(2)
        api.start(callback)
        vendor.wait()
        api.call("Disconnect")
        assert callback.codes() == [START, STOP, STOP]
        assert threading.get_native_id() not in {event.thread for event in callback.received}
        assert vendor.count("disconnect_timeouts") == 0

    def test_failed_switch_can_stop_synchronously(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        vendor.set_stops(failed_switch=1)
        vendor.script("PumpingSwitchEx", 7)
        assert api.start(callback) == 7
        assert callback.codes() == [STOP]

    def test_lost_link_stops_from_a_native_thread_and_empties_the_tables(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        vendor.set_table("TradesGet", [TRADE])
        api.start(callback)
        vendor.wait()
        vendor.lose_link(stops=2)
        vendor.wait()
        assert callback.codes() == [START, STOP, STOP]
        assert api.call("IsConnected") == 0
        assert api.array("UsersGet") == (None, 0)
        assert callback.received[-1].thread not in {callback.received[0].thread, threading.get_native_id()}

    def test_broken_protocol_empties_the_tables_at_once_and_stays_connected(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        vendor.set_table("UsersGet", [bytes(1120)])
        api.start(callback)
        vendor.wait()
        vendor.break_protocol(delay_s=3600)
        assert callback.codes() == [START], "STOP is late"
        assert api.array("UsersGet") == (None, 0)
        assert api.call("IsConnected") == 1

    def test_broken_protocol_stops_once_from_a_thread_of_the_library(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        api.start(callback)
        vendor.wait()
        vendor.break_protocol()
        vendor.wait()
        assert callback.codes() == [START, STOP]
        assert callback.received[-1].thread != threading.get_native_id()
        assert api.call("IsConnected") == 1

    def test_connected_flag_is_set_alone(self, api: RawInterface, vendor: Vendor, callback: RawCallback) -> None:
        api.start(callback)
        vendor.set_connected(connected=False)
        assert api.call("IsConnected") == 0
        vendor.emit(PING)
        vendor.wait()
        assert callback.codes() == [START, PING]

    def test_workers_are_different_threads_that_stay(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        api.start(callback)
        for worker in (0, 1, 0, 1):
            vendor.emit(PING, worker=worker)
            vendor.wait()
        zero, first, second, third, fourth = (event.thread for event in callback.received)
        assert zero == first == third != second == fourth

    def test_new_threads_are_all_different(self, api: RawInterface, vendor: Vendor, callback: RawCallback) -> None:
        vendor.start_after(None)
        api.start(callback)
        vendor.emit_on_new_threads(8, PING)
        assert len({event.thread for event in callback.received}) == 8

    def test_ping_comes_by_itself_until_it_is_ended(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        api.start(callback)
        vendor.ping_every(0.001)
        until(lambda: callback.codes().count(PING) >= 3, "three pings")
        vendor.ping_every(0)
        count = len(callback.codes())
        vendor.emit(TRADES)
        vendor.wait()
        assert len(callback.codes()) == count + 1

    def test_every_pumping_interface_receives_and_a_stale_one_only_on_request(self, vendor: Vendor) -> None:
        callbacks = RawCallback(), RawCallback()
        first, second = RawInterface(vendor), RawInterface(vendor)
        first.start(callbacks[0], param=1)
        second.start(callbacks[1], param=2)
        vendor.emit(PING)
        vendor.wait()
        first.call("Disconnect")
        second.call("Disconnect")
        second.call("Release")
        vendor.emit(PING)
        vendor.emit_stale(TRADES)
        vendor.wait()
        assert callbacks[0].codes() == [START, PING, STOP]
        assert callbacks[1].codes() == [START, PING, STOP, TRADES]
        assert callbacks[1].received[-1].param == 2
        assert vendor.count("events_missed") == 1


class TestSilence:
    """A server that accepts and says nothing."""

    @pytest.mark.parametrize("method", ["Connect", "Login"])
    def test_disconnect_on_another_thread_ends_a_call_that_waits(
        self, api: RawInterface, vendor: Vendor, method: str
    ) -> None:
        codes: list[int] = []
        arguments = {"Connect": (b"s",), "Login": (1, b"x")}[method]
        vendor.script(method, NETWORK_PROBLEM, delay_s=SILENCE_LIMIT_S * 20)
        if method == "Login":
            api.call("Connect", b"s")
        waiting = threading.Thread(target=lambda: codes.append(api.call(method, *arguments)))
        waiting.start()
        until(lambda: vendor.calls(method), "the call begins")
        assert waiting.is_alive()
        api.call("Disconnect")
        waiting.join(LIMIT_S)
        assert (codes, vendor.count("calls_interrupted")) == ([NETWORK_PROBLEM], 1)

    def test_login_that_nobody_ends_is_a_network_problem_in_the_end(self, api: RawInterface, vendor: Vendor) -> None:
        vendor.fall_silent(0.001, times=1)
        api.call("Connect", b"s")
        assert api.call("Login", 1, b"x") == NETWORK_PROBLEM
        assert api.call("Login", 1, b"x") == 0

    def test_disconnect_ends_no_call_that_begins_after_it(self, api: RawInterface, vendor: Vendor) -> None:
        api.call("Disconnect")
        vendor.script("Connect", None, delay_s=0.001)
        assert api.call("Connect", b"s") == 0


class TestOwnLog:
    """What the library writes into its working folder."""

    def test_end_of_the_pump_is_logged_with_its_code(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback, tmp_path: Path
    ) -> None:
        api.call("WorkingDirectory", str(tmp_path).encode())
        api.start(callback)
        vendor.lose_link()
        vendor.wait()
        (file,) = (tmp_path / "logs").iterdir()
        lines = [line.split("\t") for line in file.read_text(encoding="ascii").splitlines()]
        assert [(line[0], *line[2:]) for line in lines] == [
            ("0", "host:443", "login OK"),
            ("255", "host:443", "pumping mode stopped (Network problem)"),
        ]

    def test_too_deep_a_folder_gets_nothing(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback, tmp_path: Path
    ) -> None:
        folder = tmp_path / ("d" * 200)
        folder.mkdir()
        api.call("WorkingDirectory", str(folder).encode())
        api.start(callback)
        vendor.lose_link()
        assert list(folder.iterdir()) == []


class TestData:
    """Callback data: a private copy that dies with the callback."""

    def test_data_is_a_copy_that_is_scribbled_over_afterwards(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        api.start(callback)
        vendor.emit(TRADES, 2, TRADE, times=2)
        vendor.wait()
        events = [event for event in callback.received if event.code == TRADES]
        assert [(event.action, event.data) for event in events] == [(2, TRADE)] * 2
        for event in events:
            assert event.address
            assert string_at(event.address, len(TRADE)) == b"\xdd" * len(TRADE)

    def test_what_lies_behind_the_data_is_not_nul(self, api: RawInterface, vendor: Vendor) -> None:
        callback = RawCallback({int(TRADES): TRADE_RECORD.size + 8})
        api.start(callback)
        vendor.emit(TRADES, 0, TRADE)
        vendor.wait()
        assert callback.received[-1].data == TRADE + b"\xee" * 8

    def test_without_data_the_pointer_is_null(self, api: RawInterface, vendor: Vendor, callback: RawCallback) -> None:
        api.start(callback)
        vendor.emit(TRADES, 1)
        vendor.wait()
        assert callback.received[-1].address is None
        assert callback.received[-1].action == 1

    def test_many_records_go_round_in_order_and_each_callback_is_timed(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        records = [TRADE_RECORD.pack({"order": order}) for order in range(3)]
        vendor.start_after(None)
        api.start(callback)
        vendor.clear_durations()
        vendor.emit_many(TRADES, 0, b"".join(records), TRADE_RECORD.size, 7)
        vendor.wait()
        assert [event.data for event in callback.received] == (records * 3)[:7]
        durations = vendor.durations_ns()
        assert len(durations) == 7
        assert all(durations)

    def test_paced_events_wait_for_their_turn(self, api: RawInterface, vendor: Vendor, callback: RawCallback) -> None:
        api.start(callback)
        vendor.emit_many(PING, 0, b"", 1, 2, pace_s=3600)
        until(lambda: PING in callback.codes(), "the first ping")
        with pytest.raises(AssertionError, match="still emitting"):
            vendor.wait(0.05)
        assert callback.codes().count(PING) == 1

    def test_reset_ends_an_emission_that_would_take_hours(
        self, api: RawInterface, vendor: Vendor, callback: RawCallback
    ) -> None:
        api.start(callback)
        vendor.emit_many(PING, 0, b"", 1, 10**9, pace_s=0.001)
        until(lambda: len(callback.codes()) > 2, "pings")
        vendor.reset()
        assert vendor.count("callbacks") == 0

    def test_a_full_queue_refuses(self, api: RawInterface, vendor: Vendor, callback: RawCallback) -> None:
        api.start(callback)
        vendor.emit_many(PING, 0, b"", 1, 2, pace_s=3600)
        until(lambda: PING in callback.codes(), "the worker is busy and stays so")
        for _ in range(1024):
            vendor.emit(PING)
        with pytest.raises(AssertionError, match="fake_emit"):
            vendor.emit(PING)
        assert vendor.count("emits_refused") == 1
