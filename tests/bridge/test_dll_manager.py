"""A whole session on the fake library: the Manager protocol, what it reads, and its errors.

Private access: the vendor's interface and the lock of a table's reads, because a stop, or another read, must come while
a table is read, and the fake library has no call at that moment.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from mt4pump.bridge import dll_manager as module
from mt4pump.bridge.dll_manager import QUOTES_PER_CALL, DllManager
from mt4pump.bridge.interface import LARGE_ARRAY_BYTES, POINTER_BYTES, TABLE_METHODS
from mt4pump.errors import ConnectionLost, LoginError, ManagerError
from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import CON_PLUGIN, CON_SYMBOL, MAIL_BOX, PLUGIN_CFG, SYMBOL_INFO, TRADE_RECORD
from mt4pump.mt4.manager import TABLES, Manager
from mt4pump.mt4.record import Record
from mt4pump.pump.session import CurrentSession, ManagerSession
from tests.bridge.conftest import Open
from tests.bridge.reads import READS, stuck_read
from tests.bridge.recorder import NotifyRecorder
from tests.bus import LIMIT_S, until
from tests.vendor.control import NEWS_READABLE, Vendor

START, STOP, PING, NEWS_BODY = (
    PumpCode.START_PUMPING,
    PumpCode.STOP_PUMPING,
    PumpCode.PING,
    PumpCode.UPDATE_NEWS_BODY,
)
READABLE = [name for name in TABLES if NEWS_READABLE or name != "news"]
needs_news = pytest.mark.skipif(not NEWS_READABLE, reason="the vendor's 64-bit DLL has no functions that read news")


def as_manager(manager: DllManager) -> Manager:
    """Return the bridge's manager as what the daemon sees; the type checker holds the two together."""
    return manager


def tick(symbol: str, bid: float) -> bytes:
    """Return a SymbolInfo record."""
    return SYMBOL_INFO.pack({"symbol": symbol, "digits": 5, "bid": bid, "ask": bid})


class BusyLock:
    """A lock that is free once and then is held for longer than anybody waits."""

    def __init__(self) -> None:
        self.asked = 0

    def acquire(self, timeout: float = -1) -> bool:
        """Return whether this is the first to ask; who waits without a limit must be."""
        self.asked += 1
        assert self.asked == 1 or timeout >= 0, "waits for ever"
        return self.asked == 1

    def release(self) -> None:
        """Let nobody in all the same."""

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class TestSessionStart:
    """Connect, Login, PumpingSwitchEx."""

    def test_session_runs_from_connect_to_start(
        self, manager: DllManager, recorder: NotifyRecorder, vendor: Vendor
    ) -> None:
        vendor.accept("mt4.example.com:443", 77, "s3cret")
        manager.connect("mt4.example.com:443")
        assert manager.is_connected()
        manager.login(77, "s3cret")
        manager.pump(8 | 64, recorder)
        vendor.wait()
        assert recorder.codes() == [START]
        given = vendor.given(0)
        assert given
        assert given.server == b"mt4.example.com:443"
        assert (vendor.count("last_login"), vendor.count("last_flags")) == (77, 8 | 64)

    def test_wrong_password_is_a_login_error_with_the_api_s_description(
        self, manager: DllManager, vendor: Vendor
    ) -> None:
        vendor.accept("", 77, "s3cret")
        manager.connect("s:1")
        with pytest.raises(LoginError, match=r"Login: RET_BAD_ACCOUNT_INFO \(65\): Invalid account") as failure:
            manager.login(77, "wrong-canary")
        assert "wrong-canary" not in str(failure.value)
        assert failure.value.code == 65

    def test_unreachable_server_is_a_lost_connection(self, manager: DllManager, vendor: Vendor) -> None:
        vendor.accept("right:443", 1, "x")
        with pytest.raises(ConnectionLost, match=r"Connect: unknown \(255\): Network problem"):
            manager.connect("wrong:443")
        assert not manager.is_connected()

    def test_login_without_a_link_is_a_lost_connection(self, manager: DllManager) -> None:
        with pytest.raises(ConnectionLost, match="RET_NO_CONNECT"):
            manager.login(1, "x")

    @pytest.mark.parametrize("code", [2, 7, 8])
    def test_refused_switch_raises_its_code(
        self, manager: DllManager, recorder: NotifyRecorder, vendor: Vendor, code: int
    ) -> None:
        vendor.script("PumpingSwitchEx", code)
        manager.connect("s")
        manager.login(1, "x")
        with pytest.raises(ManagerError) as failure:
            manager.pump(0, recorder)
        assert (failure.value.call, failure.value.code) == ("PumpingSwitchEx", code)

    def test_refused_switch_may_stop_synchronously(
        self, manager: DllManager, recorder: NotifyRecorder, vendor: Vendor
    ) -> None:
        vendor.script("PumpingSwitchEx", 2)
        vendor.set_stops(failed_switch=2)
        manager.connect("s")
        manager.login(1, "x")
        with pytest.raises(ManagerError):
            manager.pump(0, recorder)
        assert recorder.codes() == [STOP, STOP]

    def test_switch_is_taken_though_start_never_comes(
        self, manager: DllManager, recorder: NotifyRecorder, vendor: Vendor
    ) -> None:
        vendor.start_after(None)
        manager.connect("s")
        manager.login(1, "x")
        manager.pump(0, recorder)
        vendor.emit(PING)
        vendor.wait()
        assert recorder.codes() == [PING]

    def test_each_interface_has_its_own_working_folder(
        self, open_manager: Open, vendor: Vendor, tmp_path: Path
    ) -> None:
        for _ in range(2):
            open_manager()
        folders = [Path(given.directory.decode()) for given in (vendor.given(0), vendor.given(1)) if given]
        assert folders == [tmp_path / "session 0", tmp_path / "session 1"]
        assert all(folder.is_dir() for folder in folders)

    def test_working_folder_is_set_before_connect(self, manager: DllManager, vendor: Vendor) -> None:
        assert vendor.calls("WorkingDirectory") == 1
        assert vendor.calls("Connect") == 0
        manager.connect("s")

    def test_bridge_s_manager_is_a_manager(self, manager: DllManager) -> None:
        assert as_manager(manager) is manager


class TestTables:
    """Whole tables, empty ones, and what a failed read leaves behind."""

    @pytest.mark.parametrize("name", READABLE)
    def test_table_is_read_whole_and_freed(self, name: str, pumping: DllManager, vendor: Vendor) -> None:
        size = Record.known[TABLES[name]].size
        records = [bytes([number + 1]) * size for number in range(5)]
        vendor.set_table(TABLE_METHODS[name], records)
        assert pumping.table(name) == b"".join(records)
        assert (vendor.count("memfree_calls"), vendor.count("outstanding")) == (1, 0)

    @pytest.mark.parametrize("name", READABLE)
    def test_null_table_is_empty(self, name: str, pumping: DllManager, vendor: Vendor) -> None:
        assert pumping.table(name) == b""
        assert vendor.calls(TABLE_METHODS[name]) == 1

    def test_table_that_contradicts_itself_is_an_error_and_freed(self, pumping: DllManager, vendor: Vendor) -> None:
        vendor.script("TradesGet", -3, pointer=True)
        with pytest.raises(ManagerError, match="TradesGet"):
            pumping.table("trades")
        assert vendor.count("outstanding") == 0
        assert pumping.table("trades") == b"", "the next read works"

    def test_no_request_method_is_ever_called_on_the_pump(self, pumping: DllManager, vendor: Vendor) -> None:
        vendor.set_table("PluginsGet", [CON_PLUGIN.pack({})])
        vendor.set_table("SymbolsGetAll", [CON_SYMBOL.pack({"symbol": "EURUSD"})])
        for read in READS.values():
            read(pumping)
        assert vendor.count("traps") == 0


class TestQuotes:
    """SymbolAdd and SymbolInfoUpdated."""

    def test_only_selected_symbols_come_latest_value_each(self, pumping: DllManager, vendor: Vendor) -> None:
        vendor.set_quotes([tick("EURUSD", 1.0), tick("GBPUSD", 1.0)])
        pumping.select_symbol(b"EURUSD\0\0\0\0\0\0")
        vendor.set_quotes([tick("EURUSD", 1.1), tick("EURUSD", 1.2), tick("GBPUSD", 1.3)])
        assert bytes(pumping.updated_quotes()) == tick("EURUSD", 1.2)
        assert bytes(pumping.updated_quotes()) == b""

    def test_a_hidden_symbol_comes_no_more(self, pumping: DllManager, vendor: Vendor) -> None:
        vendor.set_quotes([tick("EURUSD", 1.0), tick("GBPUSD", 1.0)])
        for name in (b"EURUSD", b"GBPUSD"):
            pumping.select_symbol(name)
        pumping.hide_symbol(b"EURUSD\0\0\0\0\0\0")
        vendor.set_quotes([tick("EURUSD", 1.1), tick("GBPUSD", 1.3)])
        assert bytes(pumping.updated_quotes()) == tick("GBPUSD", 1.3)

    def test_name_of_twelve_letters_has_no_nul_and_is_found(self, pumping: DllManager, vendor: Vendor) -> None:
        vendor.set_quotes([tick("TWELVELETTER", 1.0)])
        pumping.select_symbol(b"TWELVELETTER")
        assert vendor.count("symbols_added") == 1

    def test_bytes_behind_the_nul_are_not_part_of_the_name(self, pumping: DllManager, vendor: Vendor) -> None:
        vendor.set_quotes([tick("EUR", 1.0)])
        pumping.select_symbol(b"EUR\0\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc")
        assert vendor.count("symbols_added") == 1

    def test_unknown_symbol_is_an_error_that_ends_nothing(self, pumping: DllManager) -> None:
        with pytest.raises(ManagerError, match=r"SymbolAdd: RET_ERROR \(2\)"):
            pumping.select_symbol(b"NOSUCH")
        assert pumping.is_connected()

    def test_more_than_one_call_s_worth_is_drained_in_order(self, pumping: DllManager, vendor: Vendor) -> None:
        ticks = [tick("EURUSD", 1 + place / 100_000) for place in range(2 * QUOTES_PER_CALL + 7)]
        vendor.set_quotes(ticks[:1])
        pumping.select_symbol(b"EURUSD")
        vendor.keep_every_tick(len(ticks))
        vendor.set_quotes(ticks)
        drained = []
        while records := bytes(pumping.updated_quotes()):
            drained.append(records)
        assert [len(records) // SYMBOL_INFO.size for records in drained] == [QUOTES_PER_CALL, QUOTES_PER_CALL, 7]
        assert b"".join(drained) == b"".join(ticks)

    @pytest.mark.parametrize("count", [-1, QUOTES_PER_CALL + 1, 2**31 - 1])
    def test_count_out_of_bounds_never_reads_beyond_the_buffer(
        self, pumping: DllManager, vendor: Vendor, count: int
    ) -> None:
        vendor.script("SymbolInfoUpdated", count)
        assert len(pumping.updated_quotes()) in {0, QUOTES_PER_CALL * SYMBOL_INFO.size}

    def test_ticks_from_a_native_thread_all_arrive_while_it_rings(
        self, pumping: DllManager, vendor: Vendor, recorder: NotifyRecorder
    ) -> None:
        vendor.set_quotes([tick("EURUSD", 1.0)])
        pumping.select_symbol(b"EURUSD")
        vendor.keep_every_tick(512)
        vendor.run_quotes(5000, 1)
        received: list[bytes] = []

        def drained() -> bool:
            received.append(bytes(pumping.updated_quotes()))
            return sum(map(len, received)) == 5000 * SYMBOL_INFO.size

        until(drained, "5000 ticks")
        vendor.wait()
        assert vendor.count("ticks_dropped") == 0
        assert recorder.codes().count(PumpCode.UPDATE_BIDASK) == 5000


class TestBodiesAndParameters:
    """News bodies, mail files, plugin parameters."""

    @needs_news
    def test_news_body_comes_after_its_request_and_is_freed(
        self, pumping: DllManager, vendor: Vendor, recorder: NotifyRecorder
    ) -> None:
        vendor.set_news_body(5, "Zinsen unverändert".encode("cp1252"))
        assert pumping.news_body(5) is None
        pumping.request_news_body(5)
        vendor.wait()
        assert NEWS_BODY in recorder.codes()
        assert pumping.news_body(5) == "Zinsen unverändert".encode("cp1252")
        assert (vendor.count("memfree_calls"), vendor.count("outstanding")) == (1, 0)

    @needs_news
    def test_empty_body_is_empty_not_missing(self, pumping: DllManager, vendor: Vendor) -> None:
        vendor.set_news_body(5, b"")
        pumping.request_news_body(5)
        assert pumping.news_body(5) == b""
        assert vendor.count("outstanding") == 0

    @needs_news
    def test_key_above_two_thousand_million_is_passed_as_the_same_32_bits(
        self, pumping: DllManager, vendor: Vendor
    ) -> None:
        vendor.set_news_body(-5, b"text")
        pumping.request_news_body(2**32 - 5)
        assert pumping.news_body(2**32 - 5) == b"text"

    def test_unknown_key_has_no_body(self, pumping: DllManager) -> None:
        pumping.request_news_body(404)
        assert pumping.news_body(404) is None

    @pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
    def test_mail_is_read_from_the_file_that_the_api_names(
        self,
        pumping: DllManager,
        vendor: Vendor,
        tmp_path: Path,
        absolute: bool,  # noqa: FBT001 - a parameter of the test
    ) -> None:
        stored = MAIL_BOX.pack({"subject": "Margin call", "to": 7}) + b"<html>pay</html>"
        folder = tmp_path / "session 0" / "mailbox"
        folder.mkdir()
        (folder / "1.eml").write_bytes(stored)
        vendor.set_mail(bytes(folder / "1.eml") if absolute else b"mailbox/1.eml", len(stored))
        assert pumping.last_mail() == stored

    def test_no_mail_is_none(self, pumping: DllManager) -> None:
        assert pumping.last_mail() is None

    def test_mail_file_that_is_not_there_is_none_with_a_warning(
        self, pumping: DllManager, vendor: Vendor, caplog: pytest.LogCaptureFixture
    ) -> None:
        vendor.set_mail(b"mailbox/gone.eml", 5)
        assert pumping.last_mail() is None
        (record,) = caplog.records
        assert "gone.eml" in record.getMessage()

    def test_mail_file_larger_than_the_limit_is_cut(
        self, pumping: DllManager, vendor: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAIL_LIMIT_BYTES", 300)
        (tmp_path / "session 0" / "1").write_bytes(bytes(1000))
        vendor.set_mail(b"1", 1000)
        assert pumping.last_mail() == bytes(300)

    def test_failed_mail_call_raises(self, pumping: DllManager, vendor: Vendor) -> None:
        vendor.script("MailLast", 2)
        with pytest.raises(ManagerError, match="MailLast"):
            pumping.last_mail()

    def test_plugin_parameters_are_read_where_the_pointer_is_whole_and_never_elsewhere(
        self, pumping: DllManager, vendor: Vendor
    ) -> None:
        parameters = [PLUGIN_CFG.pack({"name": "limit", "value": str(number)}) for number in range(3)]
        vendor.set_table("PluginsGet", [CON_PLUGIN.pack({"file": "risk.dll"})])
        vendor.set_plugin_params(0, parameters)
        expected = b"".join(parameters) if POINTER_BYTES == 4 else None
        assert pumping.plugin_parameters(0) == expected

    def test_plugin_that_is_not_there_is_an_error(self, pumping: DllManager) -> None:
        with pytest.raises(ManagerError, match=r"PluginParamGet: RET_INVALID_DATA \(3\)"):
            pumping.plugin_parameters(3)


class TestLink:
    """What the session says about its link."""

    def test_lost_link_stops_and_is_not_connected(
        self, pumping: DllManager, vendor: Vendor, recorder: NotifyRecorder
    ) -> None:
        vendor.lose_link(stops=3)
        vendor.wait()
        assert recorder.codes() == [START, STOP, STOP, STOP]
        assert not pumping.is_connected()

    @pytest.mark.parametrize("name", TABLES)
    def test_table_of_a_lost_link_is_not_believed(self, name: str, pumping: DllManager, vendor: Vendor) -> None:
        vendor.lose_link(stops=0)
        with pytest.raises(ConnectionLost, match=f"gone by the time table {name} was read"):
            pumping.table(name)

    def test_whole_table_of_a_lost_link_is_not_believed_but_freed(self, pumping: DllManager, vendor: Vendor) -> None:
        vendor.set_table("TradesGet", [TRADE_RECORD.pack({"order": 1})])
        vendor.set_connected(connected=False)
        with pytest.raises(ConnectionLost):
            pumping.table("trades")
        assert vendor.count("outstanding") == 0

    def test_empty_tables_of_a_session_that_stopped_are_not_believed_though_it_says_connected(
        self, pumping: DllManager, vendor: Vendor
    ) -> None:
        vendor.set_table("TradesGet", [TRADE_RECORD.pack({"order": 1})])
        assert pumping.table("trades")
        vendor.break_protocol()
        vendor.wait()
        assert pumping.is_connected(), "as the vendor's library says"
        reads = vendor.calls("TradesGet")
        with pytest.raises(ConnectionLost, match="STOP_PUMPING came before table trades was read"):
            pumping.table("trades")
        assert vendor.calls("TradesGet") == reads
        assert vendor.count("outstanding") == 0

    def test_table_during_whose_read_the_session_stops_is_not_believed(
        self, pumping: DllManager, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop_first(*_: object) -> bytes:
            vendor.break_protocol()
            vendor.wait()
            return b""

        monkeypatch.setattr(pumping._interface, "array", stop_first)  # noqa: SLF001
        with pytest.raises(ConnectionLost, match="STOP_PUMPING came while table trades was read"):
            pumping.table("trades")

    def test_stop_of_one_session_ends_no_other(
        self, pumping: DllManager, open_manager: Open, vendor: Vendor, recorder: NotifyRecorder
    ) -> None:
        vendor.break_protocol()
        vendor.wait()
        other = open_manager()
        other.connect("s")
        other.login(1, "x")
        other.pump(0, recorder)
        assert other.table("trades") == b""
        with pytest.raises(ConnectionLost):
            pumping.table("trades")

    def test_faults_of_the_library_s_log_are_this_session_s(self, pumping: DllManager, vendor: Vendor) -> None:
        assert pumping.last_faults() == ""
        vendor.lose_link()
        assert pumping.last_faults().endswith(" host:443 pumping mode stopped (Network problem)")

    def test_table_of_a_lost_link_is_not_believed_while_another_thread_is_inside(
        self, pumping: DllManager, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # As the supervisor, in a slow IsConnected, has the lock as soon as the read releases it.
        reader = CurrentSession()
        reader.attach(ManagerSession(pumping, "host:443", 1))
        vendor.lose_link(stops=0)
        with monkeypatch.context() as patch:
            patch.setattr(pumping, "_table_lock", BusyLock())
            with pytest.raises(ConnectionLost):
                reader.table("trades", has_rows=True, again=lambda _ts: None)

    def test_mute_link_still_says_connected(self, pumping: DllManager, vendor: Vendor) -> None:
        assert pumping.is_connected()
        vendor.set_connected(connected=False)
        assert not pumping.is_connected()

    def test_running_read_does_not_hold_up_the_question(
        self, pumping: DllManager, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "CONNECTED_WAIT_S", 0.01)
        vendor.set_connected(connected=False)
        with stuck_read(pumping, vendor):
            assert pumping.is_connected(), "a read that is under way is a sign of life"

    def test_quotes_are_read_while_a_table_is_read_and_the_question_waits_for_it(
        self, pumping: DllManager, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "CONNECTED_WAIT_S", LIMIT_S)
        with stuck_read(pumping, vendor):
            asking = threading.Thread(target=pumping.is_connected)
            asking.start()
            for _ in range(20):
                assert pumping.updated_quotes() == b""
            assert asking.is_alive(), "it waits for the table, and holds nothing that quotes need"
        asking.join(LIMIT_S)
        assert not asking.is_alive()

    def test_a_large_table_is_copied_whole(self, pumping: DllManager, vendor: Vendor) -> None:
        rows = [TRADE_RECORD.pack({"order": number, "login": 1}) for number in range(10_000)]
        vendor.set_table("TradesGet", rows)
        assert len(rows) * TRADE_RECORD.size > LARGE_ARRAY_BYTES
        array = pumping.table("trades")
        assert isinstance(array, memoryview)
        assert array.readonly
        assert array == b"".join(rows)
        assert vendor.count("outstanding") == 0
