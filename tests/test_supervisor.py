"""The supervisor against a scripted Manager; the test plays the pump thread.

Private access: the settings, the states and the waits of the supervisor, because its public status has the last state
alone and its real waits last for seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from threading import Event, get_ident
from typing import Any

import pytest
from pydantic import SecretStr

from mt4pump.errors import LibraryError, LoginError, StartError
from mt4pump.mt4.codes import PumpCode, PumpFlag
from mt4pump.mt4.manager import Manager
from mt4pump.pump.inbox import Inbox
from mt4pump.pump.session import CONNECTING, LOGGED_IN, LOST, PUMPING, STOPPING, Command, ManagerSession, SessionStatus
from mt4pump.settings import Settings
from mt4pump.supervisor import Supervisor, back_off_s, login_limit_s, pump_flags
from tests.bus import LIMIT_S, until
from tests.fake_manager import FakeManager, failed, lost

FOR_EVER_S = LIMIT_S * 100


def chosen(**changes: Any) -> Settings:
    """Return settings with waits that are too short, or too long, for users to choose."""
    account = Settings(servers=("one:443",), login=7, password=SecretStr("CANARY"))
    waits_s: dict[str, float] = {
        "start_timeout_s": FOR_EVER_S,
        "liveness_timeout_s": FOR_EVER_S,
        "watch_interval_s": 0.002,
        "reconnect_delay_s": 0.001,
        "reconnect_delay_max_s": 0.004,
        "refused_delay_s": FOR_EVER_S,
        "hang_timeout_s": 0.0,
    }
    return account.model_copy(update=waits_s | changes)


class Clock:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.now_s = 5000.0

    def __call__(self) -> float:
        return self.now_s


class SupervisorRun:
    """A supervisor, the managers it makes (``prepare`` scripts each before use), and the commands that it sends."""

    def __init__(self) -> None:
        self.inbox = Inbox(1000)
        self.clock = Clock()
        self.managers: list[FakeManager] = []
        self.prepare: Callable[[int, FakeManager], object] = lambda _number, _manager: None
        self.refuse_to_make: list[Exception] = []
        self.commands: list[tuple[int, Any]] = []
        self.statuses: list[SessionStatus] = []
        self.links: list[ManagerSession] = []
        self.supervisor = Supervisor(self._make, self.inbox, chosen(), self.clock)
        self._set_state = self.supervisor._set_state  # noqa: SLF001
        self.supervisor._set_state = self._record_state  # type: ignore[method-assign]  # noqa: SLF001

    def _make(self) -> Manager:
        if self.refuse_to_make:
            raise self.refuse_to_make.pop(0)
        manager = FakeManager()
        self.prepare(len(self.managers), manager)
        self.managers.append(manager)
        return manager

    def _record_state(self, state: str, server: str, reason: str = "") -> None:
        self._set_state(state, server, reason)
        self.statuses.append(self.supervisor.status)

    def read_commands(self) -> None:
        """Read the commands sent so far."""
        while (record := self.inbox.get()) is not None:
            code, _, payload, _ = record
            self.commands.append((code, payload))
            if code == Command.ATTACH:
                self.links.append(payload)

    def attached(self, number: int = 0) -> ManagerSession:
        """Wait for the session of manager ``number``, from 0, and return its link."""

        def there() -> list[ManagerSession]:
            self.read_commands()
            return [link for link in self.links if link.manager in self.managers[number : number + 1]]

        until(there, f"session of manager {number} attached")
        return there()[0]

    def pumping(self, number: int = 0) -> ManagerSession:
        """Have the session of manager ``number`` start, as the pump thread would, and wait until it pumps."""
        link = self.attached(number)
        link.mark_started()
        until(lambda: self.supervisor._session is link and self.statuses[-1].state == PUMPING, "pumping")  # noqa: SLF001
        return link

    def lost(self, number: int = 0) -> SessionStatus:
        """Wait until session ``number`` is over and return the status that says so."""

        def over() -> list[SessionStatus]:
            return [status for status in self.statuses if status.state in {LOST, STOPPING}]

        until(lambda: len(over()) > number, f"session {number} over")
        return over()[number]

    def stop(self) -> None:
        """Stop the supervisor and wait for its end."""
        self.supervisor.stop()
        self.supervisor.join(LIMIT_S)
        assert not self.supervisor.is_alive(), "the supervisor did not stop"
        self.read_commands()

    @property
    def state(self) -> str:
        return self.supervisor.status.state

    @property
    def states(self) -> list[str]:
        return [status.state for status in self.statuses]

    @property
    def detached(self) -> list[tuple[ManagerSession, str]]:
        """Return link and reason of each session given up."""
        return [payload for code, payload in self.commands if code == Command.DETACH]


@pytest.fixture(name="run")
def _run(caplog: pytest.LogCaptureFixture) -> Iterator[SupervisorRun]:
    caplog.set_level(logging.INFO)
    made = SupervisorRun()
    yield made
    finish(made)


def finish(made: SupervisorRun) -> None:
    """End a run whatever state it is in, and check what must hold of every session."""
    for manager in made.managers:
        for hold in manager.holds.values():
            hold.set()
    if made.supervisor.ident is not None:
        made.stop()
    assert made.supervisor.crash is None
    for manager in made.managers:
        assert manager.calls.count("close") == 1
        assert manager.calls[-1] == "close"
        assert set(manager.threads["close"]) == {made.supervisor.ident}


def failing(call: str, error: Exception, *numbers: int) -> Callable[[int, FakeManager], object]:
    """Return a script: ``call`` of these managers fails once (of every manager, when none is named)."""

    def prepare(number: int, manager: FakeManager) -> None:
        if not numbers or number in numbers:
            manager.failures[call].append(error)

    return prepare


def begin(made: SupervisorRun, **changes: Any) -> SupervisorRun:
    """Start the supervisor with changed settings."""
    made.supervisor._settings = chosen(**changes)  # noqa: SLF001
    made.supervisor.start()
    return made


def refusal(code: int = 65) -> LoginError:
    return LoginError("Login", code, "RET_BAD_ACCOUNT_INFO", "Invalid account")


def test_a_session_connects_logs_in_switches_and_pumps(run: SupervisorRun) -> None:
    begin(run, online=False, users=False)
    link = run.pumping()
    (manager,) = run.managers
    assert [call for call in manager.calls if call != "is_connected"] == ["connect", "login", "pump"]
    assert manager.arguments["connect"] == ("one:443",)
    assert manager.arguments["login"] == (7, "CANARY")
    assert manager.flags == 96
    assert manager.notify == run.inbox.notify
    assert (link.manager, link.server, link.login) == (manager, "one:443", 7)
    assert run.states == [CONNECTING, LOGGED_IN, PUMPING]
    assert run.supervisor.status.server == "one:443"


@pytest.mark.parametrize(
    ("account", "logged_in"),
    [
        ({}, (("simulator",), (1, ""))),
        ({"servers": ("demo:443",), "login": 65, "password": SecretStr("x")}, (("demo:443",), (65, "x"))),
    ],
)
def test_the_simulator_needs_no_account_and_takes_one(
    account: dict[str, Any], logged_in: tuple[tuple[str], tuple[int, str]]
) -> None:
    made = SupervisorRun()
    made.supervisor._settings = Settings(source="simulator", **account)  # noqa: SLF001
    made.supervisor.start()
    made.attached()
    finish(made)
    arguments = made.managers[0].arguments
    assert (arguments["connect"], arguments["login"]) == logged_in


def test_the_pump_thread_gets_the_link_before_the_first_event_can_come(run: SupervisorRun) -> None:
    seen: list[int] = []

    def ring_at_once(_number: int, manager: FakeManager) -> None:
        switch = manager.pump

        def pump(flags: int, notify: Any) -> None:
            switch(flags, notify)
            notify(PumpCode.START_PUMPING, 0, b"")

        manager.pump = pump  # type: ignore[method-assign]

    run.prepare = ring_at_once
    begin(run)
    run.attached()

    def both() -> bool:
        run.read_commands()
        seen[:] = [code for code, _ in run.commands if code in {Command.ATTACH, PumpCode.START_PUMPING}]
        return len(seen) == 2

    until(both, "START_PUMPING")
    assert seen == [Command.ATTACH, PumpCode.START_PUMPING]


def test_every_change_of_state_is_sent_to_the_pump_thread(run: SupervisorRun) -> None:
    begin(run)
    run.pumping()
    run.stop()
    assert [code for code, _ in run.commands] == [
        *(
            Command.STATE_CHANGED,
            Command.STATE_CHANGED,
            Command.ATTACH,
            Command.STATE_CHANGED,
            Command.STATE_CHANGED,
            Command.DETACH,
        )
    ]


def test_the_session_is_given_up_in_the_pump_thread_before_it_is_closed(run: SupervisorRun) -> None:
    detached: list[bool] = []

    def look_when_closing(_number: int, manager: FakeManager) -> None:
        close = manager.close

        def closing() -> None:
            run.read_commands()
            detached.append(bool(run.detached))
            close()

        manager.close = closing  # type: ignore[method-assign]

    run.prepare = look_when_closing
    begin(run)
    run.pumping()
    run.stop()
    assert detached == [True]


def test_stop_pumping_ends_the_session_and_the_next_one_begins(run: SupervisorRun) -> None:
    begin(run)
    run.pumping().mark_stopped()
    assert "STOP_PUMPING" in run.lost().reason
    run.pumping(1)
    assert len(run.managers) == 2
    assert run.supervisor.status.reconnects == 1
    run.read_commands()
    assert [(link, "STOP_PUMPING" in reason) for link, reason in run.detached] == [(run.links[0], True)]


def test_a_stop_before_the_start_ends_the_session(run: SupervisorRun) -> None:
    begin(run)
    run.attached().mark_stopped()
    assert "STOP_PUMPING" in run.lost().reason
    assert PUMPING not in run.states


def test_a_link_that_is_gone_without_a_stop_is_noticed(run: SupervisorRun) -> None:
    begin(run)
    run.pumping()
    run.managers[0].connected = False
    assert run.lost().reason == "no link: IsConnected is false"
    run.pumping(1)


def test_an_error_while_watching_ends_the_session_with_its_text(run: SupervisorRun) -> None:
    begin(run)
    run.attached()
    run.managers[0].failures["is_connected"].append(lost("IsConnected"))
    run.links[0].mark_started()
    assert run.lost().reason == "IsConnected: RET_NO_CONNECT (6): scripted loss"


def test_a_start_that_never_comes_ends_the_session(run: SupervisorRun) -> None:
    begin(run, start_timeout_s=60.0)
    run.attached()

    def a_minute_later() -> bool:  # again, as the supervisor may not have read the clock before the first
        run.clock.now_s += 60.0
        return LOST in run.states

    until(a_minute_later, "the wait for START over")
    assert "no START_PUMPING within 60 s" in run.lost().reason
    assert PUMPING not in run.states


def test_a_session_that_is_mute_ends_though_is_connected_is_true(run: SupervisorRun) -> None:
    begin(run, liveness_timeout_s=30.0)
    run.pumping()
    watched(run.managers[0], 1)  # only then has it read the clock
    run.clock.now_s += 30.0
    assert run.lost().reason == "mute: no callback of any kind, not even PING, for 30 s"


def watched(manager: FakeManager, times: int) -> None:
    """Return once the supervisor checked the session so often."""
    until(lambda: manager.calls.count("is_connected") >= times, "a check of the session")


@pytest.mark.parametrize(("code", "data"), [(PumpCode.PING, b""), (PumpCode.UPDATE_TRADES, b"x")])
def test_a_quiet_market_with_any_callback_is_not_mute(run: SupervisorRun, code: int, data: bytes) -> None:
    begin(run, liveness_timeout_s=30.0)
    run.pumping()
    (manager,) = run.managers
    for _ in range(4):
        assert manager.notify is not None
        manager.notify(code, 0, data)
        watched(manager, manager.calls.count("is_connected") + 2)
        run.clock.now_s += 20.0
    assert run.state == PUMPING
    assert len(run.managers) == 1


def test_a_refused_login_is_logged_with_the_reason_and_waits_long(
    run: SupervisorRun, caplog: pytest.LogCaptureFixture
) -> None:
    run.prepare = failing("login", refusal())
    begin(run)
    status = run.lost()
    assert (status.state, status.server) == (LOST, "one:443")
    assert status.reason == "refused: Login: RET_BAD_ACCOUNT_INFO (65): Invalid account"
    until(lambda: f"next try in {FOR_EVER_S:.1f} s" in caplog.messages, "the wait is logged")
    assert any("one:443 refused login 7" in text and "manager rights" in text for text in caplog.messages)
    assert len(run.managers) == 1
    run.stop()  # at once, in spite of the long wait


def test_a_refusal_costs_one_attempt_and_not_the_daemon(run: SupervisorRun) -> None:
    run.prepare = failing("login", refusal(), 0)
    begin(run, refused_delay_s=0.001)
    run.pumping(1)


def test_the_password_is_in_no_log_line_and_no_status(run: SupervisorRun, caplog: pytest.LogCaptureFixture) -> None:
    run.prepare = failing("login", refusal(), 0)
    begin(run, refused_delay_s=0.001)
    run.pumping(1)
    run.stop()
    assert "CANARY" not in caplog.text + repr(run.statuses) + repr(chosen()) + repr(run.commands)


def delays_s(caplog: pytest.LogCaptureFixture) -> list[float]:
    """Return the waits that were announced."""
    return [float(text.split()[3]) for text in caplog.messages if text.startswith("next try in")]


@pytest.mark.parametrize("call", ["connect", "login", "pump"])
def test_a_call_that_fails_is_tried_again_on_a_new_manager(run: SupervisorRun, call: str) -> None:
    run.prepare = failing(call, failed(call), 0, 1, 2)
    begin(run)
    run.pumping(3)
    assert [status.reason for status in run.statuses if status.state == LOST] == [
        f"{call}: RET_ERROR (2): scripted failure"
    ] * 3
    assert len(run.managers) == 4
    assert [manager.calls.count("close") for manager in run.managers] == [1, 1, 1, 0]


def test_a_manager_that_cannot_be_made_is_tried_again(run: SupervisorRun) -> None:
    run.refuse_to_make = [LibraryError("no interface"), StartError("no folder")]
    begin(run)
    run.pumping()
    assert [status.reason for status in run.statuses if status.state == LOST] == ["no interface", "no folder"]
    assert len(run.managers) == 1


def test_a_failing_close_is_logged_and_the_next_session_begins(
    run: SupervisorRun, caplog: pytest.LogCaptureFixture
) -> None:
    run.prepare = failing("close", failed("Disconnect"), 0)
    begin(run)
    run.pumping().mark_stopped()
    run.pumping(1)
    assert "closing the session: Disconnect: RET_ERROR (2): scripted failure" in caplog.messages


def test_failures_in_a_row_wait_longer_and_longer_up_to_the_bound(
    run: SupervisorRun, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mt4pump.supervisor.back_off_s", lambda attempt, _settings: float(attempt))
    monkeypatch.setattr(run.supervisor._stopping, "wait", lambda _delay_s=None: run.supervisor._stopping.is_set())  # noqa: SLF001
    run.prepare = failing("connect", lost(), *range(5))
    begin(run)
    run.pumping(5)
    assert delays_s(caplog) == [1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize(("lived_s", "next_attempt"), [(0.0, 3.0), (59.0, 3.0), (60.0, 1.0), (3600.0, 1.0)])
def test_the_waits_begin_anew_only_after_a_session_that_lived_long(
    run: SupervisorRun,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    lived_s: float,
    next_attempt: float,
) -> None:
    """The attempt that follows a lasting session is the first again; a flapping one is not."""
    monkeypatch.setattr("mt4pump.supervisor.back_off_s", lambda attempt, _settings: float(attempt))
    monkeypatch.setattr(run.supervisor._stopping, "wait", lambda _delay_s=None: run.supervisor._stopping.is_set())  # noqa: SLF001
    run.prepare = failing("connect", lost(), 0, 2)
    begin(run, reconnect_delay_max_s=60.0)
    link = run.pumping(1)
    watched(run.managers[1], 1)
    run.clock.now_s += lived_s
    link.mark_stopped()
    run.pumping(3)
    assert delays_s(caplog) == [1.0, 2.0, next_attempt]


def test_servers_are_tried_one_after_the_other(run: SupervisorRun) -> None:
    run.prepare = failing("connect", lost(), *range(4))
    begin(run, servers=("one:443", "two:443", "three:443"))
    run.pumping(4)
    assert [manager.arguments["connect"] for manager in run.managers] == [
        *(("one:443",), ("two:443",), ("three:443",), ("one:443",), ("two:443",))
    ]
    assert run.supervisor.status.server == "two:443"


CALLS = ["connect", "login", "pump"]


def blocking(made: SupervisorRun, call: str, *numbers: int) -> None:
    """Have ``call`` of these managers (all, when none is named) block until it is aborted."""

    def prepare(number: int, manager: FakeManager) -> None:
        if numbers and number not in numbers:
            settings = made.supervisor._settings  # noqa: SLF001
            made.supervisor._settings = settings.model_copy(update={"login_timeout_s": FOR_EVER_S})  # noqa: SLF001 - a slow machine, too
            return
        manager.holds[call] = Event()
        manager.failures[call].append(lost(call))
        abort = manager.abort

        def aborted() -> None:
            abort()
            manager.holds[call].set()

        manager.abort = aborted  # type: ignore[method-assign]

    made.prepare = prepare


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_takes_too_long_is_aborted_and_the_next_server_is_tried(run: SupervisorRun, call: str) -> None:
    blocking(run, call, 0)
    begin(run, servers=("one:443", "two:443"), login_timeout_s=0.01)
    status = run.lost()
    assert status.reason == f"{call}: RET_NO_CONNECT (6): no answer from one:443 within 0.01 s (login_timeout_s)"
    run.pumping(1)
    assert run.supervisor.status.server == "two:443"
    assert run.managers[0].threads["abort"][0] != run.supervisor.ident


def test_a_refusal_that_an_abort_made_is_none(run: SupervisorRun) -> None:
    blocking(run, "login", 0)
    prepare = run.prepare

    def refuse(number: int, manager: FakeManager) -> None:
        prepare(number, manager)
        if number == 0:
            manager.failures["login"][0] = refusal()

    run.prepare = refuse
    begin(run, login_timeout_s=0.01)
    assert "no answer from one:443" in run.lost().reason
    run.pumping(1)


def test_a_login_that_succeeds_after_its_time_is_of_no_use(run: SupervisorRun) -> None:
    blocking(run, "login", 0)
    prepare = run.prepare

    def succeed(number: int, manager: FakeManager) -> None:
        prepare(number, manager)
        manager.failures["login"].clear()

    run.prepare = succeed
    begin(run, login_timeout_s=0.01)
    assert run.lost().reason.startswith("Login: RET_NO_CONNECT (6): no answer from one:443 within ")
    run.pumping(1)


@pytest.mark.parametrize("call", CALLS)
def test_stop_during_a_call_that_blocks_aborts_it(run: SupervisorRun, call: str) -> None:
    blocking(run, call)
    begin(run)
    until(lambda: bool(run.managers), "a manager")
    assert run.managers[0].entered[call].wait(LIMIT_S)
    run.stop()
    assert run.state == STOPPING
    assert run.supervisor.status.reason == "stopped by us"
    assert len(run.managers) == 1


def test_stop_before_the_limit_can_be_seen_aborts_all_the_same(run: SupervisorRun) -> None:
    blocking(run, "connect")
    prepare = run.prepare

    def stop_first(number: int, manager: FakeManager) -> None:
        prepare(number, manager)
        run.supervisor.stop()

    run.prepare = stop_first
    begin(run)
    run.supervisor.join(LIMIT_S)
    assert not run.supervisor.is_alive()


def test_an_abort_that_fails_is_logged_and_the_call_ends_when_it_ends(
    run: SupervisorRun, caplog: pytest.LogCaptureFixture
) -> None:
    let_go = Event()

    def prepare(_number: int, manager: FakeManager) -> None:
        manager.holds["login"] = let_go
        manager.failures["abort"].append(failed("Disconnect"))

    run.prepare = prepare
    begin(run, login_timeout_s=0.01)
    until(lambda: "a call into the Manager API could not be aborted" in caplog.messages, "the failure in the log")
    let_go.set()
    assert "no answer" in run.lost().reason


def test_a_call_that_comes_back_in_time_is_never_aborted(run: SupervisorRun) -> None:
    begin(run)
    run.pumping()
    run.stop()
    assert "abort" not in run.managers[0].calls


def test_the_reason_is_followed_by_what_the_library_logged(
    run: SupervisorRun, caplog: pytest.LogCaptureFixture
) -> None:
    begin(run)
    link = run.pumping()
    run.managers[0].faults = "255 09:00 one:443 pumping mode stopped (Network problem)"
    link.mark_stopped()
    whole = f"STOP_PUMPING: the server or the link ended the session; the library's log: {run.managers[0].faults}"
    assert run.lost().reason == whole
    run.pumping(1)
    run.read_commands()
    assert [reason for _, reason in run.detached] == [whole]
    assert any(getattr(record, "reason", None) == whole for record in caplog.records)


def test_a_stop_of_ours_needs_no_explanation(run: SupervisorRun) -> None:
    run.prepare = lambda _number, manager: setattr(manager, "faults", "255 something")
    begin(run)
    run.pumping()
    run.stop()
    assert [reason for _, reason in run.detached] == ["stopped by us"]


@pytest.mark.parametrize("call", ["connect", "login", "pump"])
def test_stop_during_a_call_ends_once_the_call_comes_back(run: SupervisorRun, call: str) -> None:
    let_go = Event()
    run.prepare = lambda _number, manager: manager.holds.update({call: let_go})
    begin(run)
    until(lambda: bool(run.managers), "a manager")
    assert run.managers[0].entered[call].wait(LIMIT_S)
    run.supervisor.stop()
    assert run.supervisor.is_alive()
    let_go.set()
    run.supervisor.join(LIMIT_S)
    assert not run.supervisor.is_alive()
    assert run.state == STOPPING
    assert len(run.managers) == 1


def test_stop_while_waiting_for_the_start(run: SupervisorRun) -> None:
    begin(run, watch_interval_s=FOR_EVER_S)
    run.attached()
    run.stop()
    assert run.states == [CONNECTING, LOGGED_IN, STOPPING]
    assert [reason for _, reason in run.detached] == ["stopped by us"]


def test_stop_while_pumping(run: SupervisorRun) -> None:
    begin(run, watch_interval_s=FOR_EVER_S)
    run.pumping()
    until(lambda: "is_connected" in run.managers[0].calls, "the watch")
    run.stop()
    assert run.states == [CONNECTING, LOGGED_IN, PUMPING, STOPPING]
    assert [reason for _, reason in run.detached] == ["stopped by us"]


def test_stop_at_the_very_moment_the_watch_begins_to_wait(run: SupervisorRun) -> None:
    """The wake-up that comes with stop must not be cleared away before anybody saw it."""
    begin(run, watch_interval_s=FOR_EVER_S)
    link = run.attached()
    clear = link.changed.clear

    def stop_then_clear() -> None:
        run.supervisor.stop()
        clear()

    link.changed.clear = stop_then_clear  # type: ignore[method-assign]
    link.mark_started()
    run.supervisor.join(LIMIT_S)
    ended = not run.supervisor.is_alive()
    link.changed.clear = clear  # type: ignore[method-assign]
    link.changed.set()
    assert ended, "stop was noticed only at the next watch interval"


def test_stop_while_backing_off(run: SupervisorRun) -> None:
    run.prepare = failing("connect", lost())
    begin(run, reconnect_delay_s=FOR_EVER_S, reconnect_delay_max_s=FOR_EVER_S)
    run.lost()
    run.stop()
    assert run.states == [CONNECTING, LOST]


def test_stop_before_the_start_of_the_thread_makes_no_session(run: SupervisorRun) -> None:
    run.supervisor.stop()
    begin(run)
    run.supervisor.join(LIMIT_S)
    assert not run.supervisor.is_alive()
    assert run.managers == []


def test_stop_twice_is_once(run: SupervisorRun) -> None:
    begin(run)
    run.pumping()
    run.stop()
    run.stop()
    assert run.states[-1] == STOPPING


def test_a_callback_with_stop_does_not_close_the_session_itself(run: SupervisorRun) -> None:
    begin(run)
    link = run.pumping()
    link.mark_stopped()  # on this thread, which plays the callback's part
    run.lost()
    until(lambda: "close" in run.managers[0].calls, "close")
    assert get_ident() not in run.managers[0].threads["close"]


def test_an_error_of_our_own_ends_the_thread_is_logged_and_closes_the_session(
    run: SupervisorRun, caplog: pytest.LogCaptureFixture
) -> None:
    run.prepare = failing("login", ZeroDivisionError("a bug"))
    begin(run)
    run.supervisor.join(LIMIT_S)
    assert not run.supervisor.is_alive()
    assert isinstance(run.supervisor.crash, ZeroDivisionError)
    assert "the supervisor thread crashed" in caplog.messages
    assert run.managers[0].calls.count("close") == 1
    run.supervisor.crash = None


def test_the_reason_of_a_crash_is_not_that_we_stopped(run: SupervisorRun) -> None:
    run.prepare = failing("login", ZeroDivisionError("a bug"))
    begin(run)
    run.supervisor.join(LIMIT_S)
    run.supervisor.crash = None
    assert "stopped by us" not in run.supervisor.status.reason


# The waits themselves


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_waits_double_up_to_the_bound_and_at_most_half_is_chance(jitter: float) -> None:
    settings = chosen(reconnect_delay_s=1.0, reconnect_delay_max_s=60.0)
    full_s = [1, 2, 4, 8, 16, 32, 60, 60]
    waits = [back_off_s(attempt, settings, lambda: jitter) for attempt in range(1, 9)]
    assert waits == pytest.approx([wait * (0.5 + 0.5 * jitter) for wait in full_s])


@pytest.mark.parametrize("attempt", [1, 31, 1000, 10**9])
def test_no_attempt_is_too_many_for_the_bound(attempt: int) -> None:
    settings = chosen(reconnect_delay_s=1.0, reconnect_delay_max_s=60.0)
    assert 0.5 <= back_off_s(attempt, settings) <= 60.0


def test_waits_of_two_daemons_differ() -> None:
    assert len({back_off_s(5, chosen()) for _ in range(20)}) > 1


@pytest.mark.parametrize(("hang_s", "login_s"), [(0.0, 30.0), (240.0, 30.0), (31.0, 30.0), (30.0, 15.0), (2.0, 1.0)])
def test_a_login_ends_before_the_daemon_would_though_nobody_set_its_limit(hang_s: float, login_s: float) -> None:
    assert login_limit_s(chosen(hang_timeout_s=hang_s)) == login_s


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({}, PumpFlag(0)),
        ({"quotes": False}, PumpFlag.HIDETICKS),
        ({"news": False}, PumpFlag.HIDENEWS),
        ({"mail": False}, PumpFlag.HIDEMAIL),
        ({"online": False}, PumpFlag.HIDEONLINE),
        ({"users": False}, PumpFlag.HIDEUSERS),
        ({"full_news": True}, PumpFlag.SENDFULLNEWS),
        (
            {"quotes": False, "news": False, "mail": False, "online": False, "users": False},
            PumpFlag.HIDETICKS | PumpFlag.HIDENEWS | PumpFlag.HIDEMAIL | PumpFlag.HIDEONLINE | PumpFlag.HIDEUSERS,
        ),
    ],
)
def test_flags_leave_out_what_nobody_wants(changes: dict[str, bool], flags: PumpFlag) -> None:
    assert pump_flags(chosen(**changes)) == int(flags)
