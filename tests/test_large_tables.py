"""The whole daemon on a compiled library with thousands of accounts, which a thread of its own reads beside quotes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mt4pump.mt4.codes import PumpCode, Transaction
from mt4pump.mt4.layout import CON_SYMBOL, SYMBOL_INFO, TRADE_RECORD, USER_RECORD
from tests.bus import LIMIT_S, until
from tests.live import PASSWORD, Running, running_dll
from tests.vendor.control import Vendor

LOGINS = range(1, 2_001)
HOUR_S = 3600.0
HANG_TIMEOUT_S = 0.3


def accounts(balance: float) -> list[bytes]:
    return [USER_RECORD.pack({"login": login, "group": "demo", "balance": balance}) for login in LOGINS]


def order(login: int) -> bytes:
    fields = {"order": login, "login": login, "symbol": "EURUSD", "digits": 5, "volume": 100, "open_time": 99}
    return TRADE_RECORD.pack(fields)


def quote(bid: float) -> bytes:
    return SYMBOL_INFO.pack({"symbol": "EURUSD", "digits": 5, "bid": bid, "ask": bid + 0.0002, "lasttime": 1})


@pytest.fixture
def fake(vendor: Vendor) -> Iterator[Vendor]:
    """Return the controls of a library with 2,000 accounts of one order each; what waits in it goes on at the end."""
    vendor.accept("", 5, PASSWORD)
    vendor.set_table("SymbolsGetAll", [CON_SYMBOL.pack({"symbol": "EURUSD", "digits": 5})])
    vendor.set_quotes([quote(1.0)])
    vendor.set_table("UsersGet", accounts(5.0))
    vendor.set_table("TradesGet", map(order, LOGINS))
    yield vendor
    vendor.reset()


def begin_read(run: Running, fake: Vendor) -> None:
    """Return while a read of all accounts waits in the library."""
    until(lambda: run.daemon.has_baseline, "the tables were read once")
    calls = fake.calls("UsersGet")
    fake.script("UsersGet", delay_s=HOUR_S)
    fake.emit(PumpCode.UPDATE_USERS)
    until(lambda: fake.calls("UsersGet") > calls, "the read begins")


def receive_quotes(run: Running, fake: Vendor) -> None:
    """Return once three new prices were published."""
    for bid in (1.2, 1.3, 1.4):
        fake.replay_quotes(quote(bid))
        assert run.topic("quote.EURUSD").body["bid"] == bid


def received(run: Running, kind: bytes) -> int:
    """Return how many events of ``kind`` came so far."""
    return sum(frames[0].startswith(kind + b".") for frames in run.frames)


def test_quotes_are_published_while_all_accounts_are_read_and_every_change_after_it(
    fake: Vendor, vendor_library: Path, tmp_path: Path
) -> None:
    with running_dll(tmp_path, vendor_library) as run:
        run.pumping()
        begin_read(run, fake)
        fake.set_table("UsersGet", accounts(6.0))
        receive_quotes(run, fake)
        assert received(run, b"user") == 0
        fake.let_go("UsersGet")
        bodies = [run.next(lambda message: message.topic.startswith("user.")).body for _ in LOGINS]
        assert [(body["login"], body["balance"]) for body in bodies] == [(login, 6.0) for login in LOGINS]
    counts = fake.counts()
    assert (counts["outstanding"], counts["live_interfaces"], counts["releases_in_use"]) == (0, 0, 0)


@pytest.mark.parametrize("at_start", [True, False], ids=["the first read", "a later read"])
def test_a_stop_during_a_read_returns_and_the_read_that_returns_later_uses_nothing_released(
    fake: Vendor, vendor_library: Path, tmp_path: Path, *, at_start: bool
) -> None:
    if at_start:
        fake.script("UsersGet", delay_s=HOUR_S)
    with running_dll(tmp_path, vendor_library) as run:
        if at_start:
            until(lambda: fake.calls("UsersGet"), "the read begins")
        else:
            begin_read(run, fake)
        assert not run.daemon.stop(), "the threads that wait for the read are reported"
        assert fake.count("releases_in_use") == 0
        fake.let_go("UsersGet")
        last = run.next(lambda message: message.body.get("state") == "stopping")
        assert last.topic == "heartbeat"
        until(run.daemon.stop, "all threads have ended")
    counts = fake.counts()
    assert (counts["outstanding"], counts["calls_after_release"], counts["releases_in_use"]) == (0, 0, 0)


@pytest.mark.parametrize("end", [Vendor.lose_link, Vendor.break_protocol], ids=["link lost", "protocol error"])
def test_a_session_that_ends_during_a_read_ends_no_account_and_no_order(
    fake: Vendor, vendor_library: Path, tmp_path: Path, end: Callable[[Vendor], None]
) -> None:
    with running_dll(tmp_path, vendor_library) as run:
        run.pumping()
        begin_read(run, fake)
        end(fake)
        fake.wait()  # STOP has come; the library's tables are empty
        fake.let_go("UsersGet")
        run.topic("session.stop")
        run.topic("session.start")
        closed = TRADE_RECORD.pack({"order": 7, "login": 7, "symbol": "EURUSD", "close_time": 9, "state": 3})
        fake.emit(PumpCode.UPDATE_TRADES, Transaction.DELETE, closed)
        assert run.topic("trade.7").body["change"] == "closed"
        assert (received(run, b"user"), received(run, b"trade")) == (0, 1)
    assert fake.count("outstanding") == 0


def test_a_read_that_never_returns_is_a_hang_of_the_pump_though_quotes_are_published(
    fake: Vendor, vendor_library: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_dll(tmp_path, vendor_library, hang_timeout_s=HANG_TIMEOUT_S) as run:
        run.pumping()
        begin_read(run, fake)
        receive_quotes(run, fake)

        def crash() -> BaseException | None:
            run.daemon.check_threads()
            return run.daemon.crash

        until(crash, "the hang is detected", LIMIT_S)
        assert "the pump thread made no progress" in str(crash())
        assert "the stack of the read of table users thread" in caplog.text
        fake.let_go("UsersGet")
