"""How the daemon ends, also when something does not, and what it takes over from its last run.

Private access: the threads and the dispatcher of the daemon, because the test lets threads go on that the daemon has
abandoned, and waits for what is not published.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest

from mt4pump import daemon as daemon_module
from mt4pump.daemon import Daemon
from mt4pump.errors import JournalError
from mt4pump.journal.store import OpenOrders
from mt4pump.session_source import Source, source_of
from mt4pump.settings import load
from tests.bus import ANY_PORT, LIMIT_S, until
from tests.fake_manager import FakeManager
from tests.pump.running import TRADES, trade

HUNG_SUPERVISOR = "a call into the Manager API did not return; its thread was abandoned"
HUNG_PUMP = "the pump thread hangs and was abandoned: "
SLOW_CLOSE = "the stop did not wait for the journal to close: "


def made(folder: Path, manager: FakeManager) -> Daemon:
    given = {"source": "simulator", "data_dir": folder, "pub_endpoint": ANY_PORT, "query_endpoint": "none"}
    settings = load(given, environ={}, config=None)
    return Daemon(settings, Source(lambda: manager, dict, lambda: None, lambda: None))


@contextmanager
def stopped(daemon: Daemon, let_go: Event) -> Iterator[bool]:
    """Stop a daemon, give whether that was clean, then let its threads end."""
    try:
        yield daemon.stop()
    finally:
        let_go.set()
        daemon._pump.join(LIMIT_S)  # noqa: SLF001
        daemon._supervisor.join(LIMIT_S)  # noqa: SLF001
        daemon._context.destroy(0)  # noqa: SLF001


def test_the_epoch_grows_from_run_to_run_also_while_the_clock_goes_back(
    tmp_path: Path, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_ns = 1_795_000_000 * 10**9
    epochs = []
    for back_s in (0, 0, 3600, 400 * 86_400, -60):
        now_ns = start_ns - back_s * 10**9
        monkeypatch.setattr("mt4pump.daemon.wall_clock", lambda now_ns=now_ns: (lambda: now_ns, lambda: None))
        daemon = made(tmp_path, manager)
        epochs.append(daemon.epoch)
        assert daemon.stop()
    start_ms = start_ns // 10**6
    assert epochs == [start_ms, start_ms + 1, start_ms + 2, start_ms + 3, start_ms + 60_000]


def test_a_clock_that_is_months_ahead_for_a_moment_deletes_no_old_files(
    tmp_path: Path, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_ns, day_ns = 1_795_000_000 * 10**9, 86_400 * 10**9
    left = [tmp_path / f"journal.sqlite3.damaged-{stamp}T000000Z" for stamp in ("20261001", "20261101")]
    for path in left:
        path.touch(mode=0o600)
    for ahead_days in (0, 400, 0):
        now_ns = start_ns + ahead_days * day_ns
        monkeypatch.setattr("mt4pump.daemon.wall_clock", lambda now_ns=now_ns: (lambda: now_ns, lambda: None))
        daemon = made(tmp_path, manager)
        daemon.delete_old_files()
        assert daemon._old_files.wait(LIMIT_S)  # noqa: SLF001
        assert daemon.stop()
        assert all(path.exists() for path in left)


def left_behind(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for text in caplog.messages if text.startswith((HUNG_SUPERVISOR, HUNG_PUMP, SLOW_CLOSE))]


@pytest.fixture(name="manager")
def _manager() -> FakeManager:
    return FakeManager()


def started(folder: Path, manager: FakeManager) -> Daemon:
    """Return a daemon whose session is being pumped."""
    daemon = made(folder, manager)
    run(daemon, manager)
    return daemon


def run(daemon: Daemon, manager: FakeManager) -> None:
    """Start a daemon, and have its session pump."""
    manager.entered["pump"].clear()
    daemon.start()
    assert manager.entered["pump"].wait(LIMIT_S)
    assert manager.notify is not None
    manager.notify(0, 0, b"")
    until(lambda: daemon.state == "pumping", "the session pumped")


def test_a_clean_stop_leaves_nothing_behind(
    tmp_path: Path, manager: FakeManager, caplog: pytest.LogCaptureFixture
) -> None:
    daemon = started(tmp_path, manager)
    with stopped(daemon, Event()) as clean:
        assert clean
        assert daemon._pump.is_shut_down  # noqa: SLF001
    assert left_behind(caplog) == []


def test_a_manager_that_hangs_is_blamed_and_the_last_heartbeat_is_published_all_the_same(
    tmp_path: Path, manager: FakeManager, caplog: pytest.LogCaptureFixture
) -> None:
    daemon, let_go = started(tmp_path, manager), Event()
    manager.holds["close"] = let_go
    with stopped(daemon, let_go) as clean:
        assert not clean
        assert daemon._pump.is_shut_down  # noqa: SLF001
    assert left_behind(caplog)[0] == HUNG_SUPERVISOR  # a slow disk may leave more behind


def test_a_pump_that_hangs_in_a_read_is_published_as_that(
    tmp_path: Path, manager: FakeManager, caplog: pytest.LogCaptureFixture
) -> None:
    daemon, let_go = started(tmp_path, manager), Event()
    manager.entered["table trades"].clear()
    manager.holds["table trades"] = let_go
    daemon.inbox.notify(TRADES, 0, b"")
    assert manager.entered["table trades"].wait(LIMIT_S)
    with stopped(daemon, let_go) as clean:
        assert not clean
    (text,) = left_behind(caplog)
    assert text.startswith(HUNG_PUMP)


def test_a_journal_that_closes_slowly_is_published_as_that(
    tmp_path: Path, manager: FakeManager, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon, let_go = started(tmp_path, manager), Event()
    assert daemon._dispatcher.writer.journal is not None  # noqa: SLF001
    close = daemon._dispatcher.writer.journal.close  # noqa: SLF001

    def close_late() -> None:
        let_go.wait(LIMIT_S)
        close()

    monkeypatch.setattr(daemon._dispatcher.writer.journal, "close", close_late)  # noqa: SLF001
    with stopped(daemon, let_go) as clean:
        assert not clean
    (text,) = left_behind(caplog)
    assert text.startswith(SLOW_CLOSE)


def test_open_orders_that_cannot_be_read_at_the_start_are_not_taken_for_none(
    tmp_path: Path, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise JournalError("the disk reports an error")

    manager.tables["trades"] = trade(1)
    with stopped(started(tmp_path, manager), Event()) as clean:
        assert clean
    with monkeypatch.context() as patch:
        patch.setattr(OpenOrders, "rows", fail)
        daemon = made(tmp_path, manager)
    run(daemon, manager)
    until(lambda: daemon._dispatcher.trades.orders.open, "the table was read")  # noqa: SLF001
    with stopped(daemon, Event()):
        assert daemon.published("trade") == 0


@pytest.fixture(name="patient")
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that are not held up may take their time to end: the machine may be busy."""
    for name in ("SUPERVISOR_STOP_S", "PUMP_END_S"):
        monkeypatch.setattr(daemon_module, name, LIMIT_S)


@pytest.mark.usefixtures("patient")
def test_a_simulated_server_that_is_silent_holds_up_no_stop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = {"source": "simulator", "data_dir": tmp_path, "pub_endpoint": ANY_PORT, "query_endpoint": "none"}
    settings = load({**given, "faults": "silent@0:3600", "reconnect_delay_s": 0.01}, environ={}, config=None)
    daemon = Daemon(settings, source_of(settings))
    daemon.start()
    until(lambda: daemon._supervisor.status.reconnects and daemon._supervisor.calling, "a login that waits")  # noqa: SLF001
    with stopped(daemon, Event()) as clean:
        assert clean
    assert left_behind(caplog) == []


@pytest.mark.usefixtures("patient")
def test_a_simulated_server_that_is_silent_costs_the_time_limit(tmp_path: Path) -> None:
    given = {"source": "simulator", "data_dir": tmp_path, "pub_endpoint": ANY_PORT, "query_endpoint": "none"}
    more = {"faults": "silent@0:3600", "reconnect_delay_s": 0.01, "login_timeout_s": 0.1, "servers": "one,two"}
    settings = load({**given, **more}, environ={}, config=None)
    daemon = Daemon(settings, source_of(settings))
    daemon.start()
    until(lambda: daemon._supervisor.status.reconnects >= 3, "the servers in turn")  # noqa: SLF001
    with stopped(daemon, Event()) as clean:
        assert clean
