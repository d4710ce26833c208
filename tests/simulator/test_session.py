"""A session keeps to the Manager protocol: states, refusals, reads, and an end from either side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from threading import Event, Thread, current_thread

import pytest

from mt4pump.errors import ConnectionLost, LoginError, ManagerError
from mt4pump.mt4.codes import PumpCode, PumpFlag
from mt4pump.mt4.layout import MAIL_BOX, MAIL_PERSONAL, NEWS_TOPIC, PLUGIN_CFG, SYMBOL_INFO
from mt4pump.mt4.manager import TABLES, Manager
from mt4pump.mt4.record import Decoder
from mt4pump.simulator.options import SimulatorOptions
from mt4pump.simulator.server import Simulator
from tests.bus import until

from .reader import LIMIT_S, Reader, pump, running

READS: dict[str, Callable[[Manager], object]] = {
    "select_symbol": lambda manager: manager.select_symbol(b"EURUSD"),
    "hide_symbol": lambda manager: manager.hide_symbol(b"EURUSD"),
    "updated_quotes": lambda manager: manager.updated_quotes(),
    "table": lambda manager: manager.table("trades"),
    "request_news_body": lambda manager: manager.request_news_body(7001),
    "news_body": lambda manager: manager.news_body(7001),
    "last_mail": lambda manager: manager.last_mail(),
    "plugin_parameters": lambda manager: manager.plugin_parameters(0),
}


@pytest.fixture
def idle() -> Iterator[Simulator]:
    with running(rate=0, ping_interval_s=0.02, accounts=20) as simulator:
        yield simulator


def test_start_comes_on_the_simulators_thread_and_before_anything_else(idle: Simulator) -> None:
    threads: list[str] = []
    received = Event()

    def notify(_code: int, _action: int, _data: bytes) -> None:
        threads.append(current_thread().name)
        received.set()

    pump(idle.manager(), notify)
    assert received.wait(LIMIT_S)
    assert set(threads) == {"simulator"}
    reader = Reader(idle)
    reader.read_until(lambda: len(reader.events) > 2)
    assert reader.codes()[0] == PumpCode.START_PUMPING


def test_an_idle_market_pings_and_nothing_else(idle: Simulator) -> None:
    reader = Reader(idle)
    reader.read_until(lambda: reader.codes().count(PumpCode.PING) >= 3)
    assert set(reader.codes()) == {PumpCode.START_PUMPING, PumpCode.PING}
    assert reader.quote_count() == 0


def test_login_65_is_refused(idle: Simulator) -> None:
    manager = idle.manager()
    manager.connect("anything")
    with pytest.raises(LoginError, match="RET_BAD_ACCOUNT_INFO") as error:
        manager.login(65, "whatever")
    assert error.value.code == 65


def waiting_for_login(manager: Manager, ends: list[Exception | None]) -> Thread:
    """Return a thread that logs in; ``ends`` gets how that ended."""

    def log_in() -> None:
        try:
            manager.login(1, "")
        except ManagerError as error:
            ends.append(error)
        else:
            ends.append(None)

    thread = Thread(target=log_in)
    thread.start()
    return thread


def silenced(simulator: Simulator, silent_s: float) -> Manager:
    """Return a session that a silent server let in."""
    simulator.inject("silent", silent_s)
    until(lambda: simulator.registry.silent_s() > 0 or not silent_s, "silence")
    manager = simulator.manager()
    manager.connect("anything")
    return manager


def test_a_silent_server_lets_a_session_in_and_its_login_ends_by_an_abort(idle: Simulator) -> None:
    manager, ends = silenced(idle, 3600), list[Exception | None]()
    thread = waiting_for_login(manager, ends)
    assert thread.is_alive()
    manager.abort()
    thread.join(LIMIT_S)
    (error,) = ends
    assert isinstance(error, ConnectionLost)
    assert error.code == 255
    assert not manager.is_connected()
    with pytest.raises(ConnectionLost, match="aborted"):
        manager.connect("anything")


def test_a_login_that_is_waited_out_succeeds(idle: Simulator) -> None:
    manager, ends = silenced(idle, 0.2), list[Exception | None]()
    waiting_for_login(manager, ends).join(LIMIT_S)
    assert ends == [None]


def test_a_server_that_falls_silent_loses_its_session(idle: Simulator) -> None:
    reader = Reader(idle)
    idle.inject("silent", 3600)
    reader.read_until(lambda: PumpCode.STOP_PUMPING in reader.codes())


def test_the_order_connect_login_pump_is_demanded(idle: Simulator) -> None:
    manager = idle.manager()
    assert not manager.is_connected()
    with pytest.raises(ConnectionLost, match="not connected"):
        manager.login(1, "")
    manager.connect("anything")
    assert manager.is_connected()
    with pytest.raises(ManagerError, match="log in"):
        manager.pump(0, lambda *_: None)


def test_no_session_without_a_running_server() -> None:
    simulator = Simulator(SimulatorOptions())
    with pytest.raises(ConnectionLost, match="not running"):
        simulator.manager().connect("anything")
    simulator.start()
    simulator.stop()
    with pytest.raises(ConnectionLost, match="not running"):
        simulator.manager().connect("anything")
    with pytest.raises(RuntimeError, match="make a new one"):
        simulator.start()


@pytest.mark.parametrize("reason", ["closed", "fault drop"])
@pytest.mark.parametrize("read", READS)
def test_reads_after_the_end_raise_with_its_reason(idle: Simulator, read: str, reason: str) -> None:
    reader = Reader(idle)
    reader.read_until(reader.codes)
    READS[read](reader.manager)
    if reason == "closed":
        reader.manager.close()
    else:
        idle.inject("drop")
        reader.read_until(lambda: PumpCode.STOP_PUMPING in reader.codes())
    assert not reader.manager.is_connected()
    with pytest.raises(ConnectionLost, match=reason):
        READS[read](reader.manager)


def test_a_closed_session_receives_stop_once_and_nothing_more(idle: Simulator) -> None:
    reader = Reader(idle)
    reader.read_until(reader.codes)
    reader.manager.close()
    reader.manager.close()
    received = list(reader.events)
    assert reader.codes().count(PumpCode.STOP_PUMPING) == 1
    other = Reader(idle)
    other.read_until(lambda: other.codes().count(PumpCode.PING) >= 3)
    assert reader.events == received


def test_a_session_can_be_closed_inside_its_callback(idle: Simulator) -> None:
    manager = idle.manager()
    closed = Event()

    def notify(code: int, _action: int, _data: bytes) -> None:
        if code == PumpCode.PING:
            manager.close()
            closed.set()

    pump(manager, notify)
    assert closed.wait(LIMIT_S)
    assert not manager.is_connected()


def test_reads_are_safe_while_another_thread_closes() -> None:
    with running(rate=math.inf, accounts=50) as simulator:
        reader = Reader(simulator)
        reader.read_until(lambda: reader.quote_count() > 1000)
        reads, errors = [0], list[Exception]()

        def hammer() -> None:
            try:
                while True:
                    for read in READS.values():
                        read(reader.manager)
                    reads[0] += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
                errors.append(error)

        threads = [Thread(target=hammer) for _ in range(3)]
        for thread in threads:
            thread.start()
        reader.read_until(lambda: reads[0] > 5)
        reader.manager.close()
        for thread in threads:
            thread.join(LIMIT_S)
        assert [type(error) for error in errors] == [ConnectionLost] * 3


def test_a_second_session_that_pumps_ends_the_first(idle: Simulator) -> None:
    first = Reader(idle)
    first.read_until(first.codes)
    second = Reader(idle)
    second.read_until(second.codes)
    assert first.codes()[-1] == PumpCode.STOP_PUMPING
    assert not first.manager.is_connected()
    assert second.manager.is_connected()
    first.manager.close()
    second.read_until(lambda: PumpCode.PING in second.codes())
    assert idle.session_count == 2


def test_every_table_is_an_array_of_its_record(idle: Simulator) -> None:
    reader = Reader(idle)
    for name in TABLES:
        assert reader.manager.table(name) == idle.broker.tables[name]()
    with pytest.raises(KeyError, match="no table 'deals'"):
        reader.manager.table("deals")


@pytest.mark.parametrize(
    ("flag", "hidden"),
    [(PumpFlag.HIDEUSERS, "users"), (PumpFlag.HIDEONLINE, "online"), (PumpFlag.HIDENEWS, "news")],
)
def test_flags_hide_their_table(idle: Simulator, flag: int, hidden: str) -> None:
    reader = Reader(idle, flags=flag)
    assert {name for name in ("users", "online", "news", "trades") if not reader.manager.table(name)} == {hidden}


def test_only_selected_symbols_are_quoted() -> None:
    with running(rate=math.inf) as simulator:
        reader = Reader(simulator, select=False)
        reader.manager.select_symbol(b"XAUUSD")
        reader.manager.select_symbol(b"US30\0garbage.")
        reader.read_until(lambda: reader.quote_count() > 500)
        assert {quote["symbol"] for quote in reader.decoded_quotes()} == {"XAUUSD", "US30"}
        with pytest.raises(ManagerError, match="no symbol"):
            reader.manager.select_symbol(b"NOTHING")


def test_a_hidden_symbol_is_quoted_no_more() -> None:
    with running(rate=math.inf) as simulator:
        reader = Reader(simulator, select=False)
        for name in (b"XAUUSD", b"US30"):
            reader.manager.select_symbol(name)
        reader.read_until(lambda: reader.quote_count() > 100)
        reader.manager.hide_symbol(b"US30")
        before = reader.quote_count()
        reader.read_until(lambda: reader.quote_count() > before + 100)
        assert {quote["symbol"] for quote in list(reader.decoded_quotes())[before:]} == {"XAUUSD"}


def test_a_call_gives_256_quotes_at_most() -> None:
    with running(rate=math.inf, quote_buffer=2048) as simulator:
        reader = Reader(simulator, select=False)
        for raw_name in simulator.broker.market.by_raw_name:
            reader.manager.select_symbol(raw_name)
        reader.wake.wait(LIMIT_S)
        most = 0
        while most < 256:
            most = max(most, len(reader.manager.updated_quotes()) // SYMBOL_INFO.size)
        assert most == 256


def test_hidden_ticks_stop_no_trading() -> None:
    with running(rate=math.inf) as simulator:
        reader = Reader(simulator, flags=PumpFlag.HIDETICKS)
        reader.read_until(lambda: len(reader.trades()) > 20)
        assert reader.quote_count() == 0
        assert PumpCode.UPDATE_BIDASK not in reader.codes()
        assert simulator.ticks_sent == 0


def test_a_walk_does_not_wait_for_a_reader_without_symbols() -> None:
    with running(rate=math.inf, quote_buffer=1024) as simulator:
        reader = Reader(simulator, select=False)
        reader.read_until(lambda: simulator.ticks_sent > 20_000)


def test_a_body_comes_after_it_was_asked_for(idle: Simulator) -> None:
    reader = Reader(idle)
    reader.read_until(reader.codes)
    key = Decoder(NEWS_TOPIC)(bytes(reader.manager.table("news")[: NEWS_TOPIC.size]))["key"]
    assert reader.manager.news_body(key) is None
    reader.manager.request_news_body(key)
    reader.read_until(lambda: PumpCode.UPDATE_NEWS_BODY in reader.codes())
    body = reader.manager.news_body(key)
    assert body
    assert b"made up by the simulator" in body
    reader.manager.request_news_body(1)
    assert reader.manager.news_body(1) is None


def test_full_news_need_no_request() -> None:
    with running(rate=math.inf) as simulator:
        reader = Reader(simulator, flags=PumpFlag.SENDFULLNEWS)
        reader.read_until(lambda: PumpCode.UPDATE_NEWS in reader.codes())
        key = Decoder(NEWS_TOPIC)(next(data for code, _, data in reader.events if code == 6))["key"]
        assert reader.manager.news_body(key)


def test_the_last_mail_is_its_record_and_its_body() -> None:
    with running(rate=math.inf) as simulator:
        reader = Reader(simulator)
        assert reader.manager.last_mail() is None
        reader.read_until(lambda: PumpCode.UPDATE_MAIL in reader.codes())
        mail = reader.manager.last_mail()
        assert mail
        fields = Decoder(MAIL_BOX, personal=MAIL_PERSONAL)(mail[: MAIL_BOX.size])
        assert fields["subject"]
        assert len(mail) == MAIL_BOX.size + fields["bodylen"]


def test_plugins_have_parameters(idle: Simulator) -> None:
    reader = Reader(idle)
    parameters = reader.manager.plugin_parameters(0)
    assert parameters
    assert [row["name"] for row in Decoder(PLUGIN_CFG).many(parameters)] == ["Liquidity provider", "Markup points"]
    assert reader.manager.plugin_parameters(99) is None
    assert reader.manager.plugin_parameters(-1) is None
