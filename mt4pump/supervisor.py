"""The supervisor thread: connect → login → pump → watch → back off, again and again.

It works on any `Manager`, so the simulator's faults drive the same code as the DLL's. It never runs in a callback: a
reconnect from inside the STOP callback works only sometimes.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Self, TypeVar

from mt4pump.errors import ConnectionLost, LoginError, ManagerError, PumpError
from mt4pump.mt4.codes import PumpFlag, ReturnCode
from mt4pump.mt4.manager import ManagerFactory
from mt4pump.pump.inbox import Inbox
from mt4pump.pump.session import (
    CONNECTING,
    LOGGED_IN,
    LOST,
    PUMPING,
    STOPPING,
    Command,
    ManagerSession,
    SessionStatus,
    with_library_faults,
)
from mt4pump.settings import Settings

STOPPED_BY_US = "stopped by us"
ABORT_EVERY_S = 0.1
"""Time between two aborts of one call: the first may have come just before the call entered the library."""
JOIN_S = 1.0

log = logging.getLogger(__name__)

Result = TypeVar("Result")


def login_of(settings: Settings) -> int:
    """Return the account to log in as; the simulator needs none."""
    return settings.login or 1


def login_limit_s(settings: Settings) -> float:
    """Return how long a login may take: less than ``hang_timeout_s``, after which the daemon would end."""
    limit_s, hang_s = settings.login_timeout_s, settings.hang_timeout_s
    return hang_s / 2 if 0 < hang_s <= limit_s else limit_s


def pump_flags(settings: Settings) -> int:
    """Return the CLIENT_FLAGS_* that switch off what the settings do not want."""
    flags = {
        PumpFlag.HIDETICKS: not settings.quotes,
        PumpFlag.HIDENEWS: not settings.news,
        PumpFlag.HIDEMAIL: not settings.mail,
        PumpFlag.HIDEONLINE: not settings.online,
        PumpFlag.HIDEUSERS: not settings.users,
        PumpFlag.SENDFULLNEWS: settings.full_news,
    }
    return sum(flag for flag, is_set in flags.items() if is_set)


def back_off_s(attempt: int, settings: Settings, jitter: Callable[[], float] = random.random) -> float:
    """Return how long to wait before attempt number ``attempt`` (from 1): doubling, capped, half of it random."""
    delay_s = min(settings.reconnect_delay_max_s, settings.reconnect_delay_s * 2.0 ** min(attempt - 1, 30))
    return delay_s * (0.5 + 0.5 * jitter())


class CallLimit:
    """A time limit on calls into the Manager API: aborts them when the ``with`` block has taken ``limit_s``.

    A login on a server that accepts and sends nothing blocks for 180 s in the vendor's library; `Manager.abort`, called
    on another thread, ends it within a tenth of a second. ``expired`` is true when the time ran out: the results of the
    calls are of no use then.
    """

    def __init__(self, abort: Callable[[], None], limit_s: float) -> None:
        self.expired = False
        self._abort = abort
        self._limit_s = limit_s
        self._wake = Event()
        self._left = Event()
        self._thread = Thread(target=self._abort_late, name="call limit", daemon=True)

    def end(self) -> None:
        """Abort the calls now, from any thread; return at once."""
        self._wake.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._left.set()
        self._wake.set()
        self._thread.join(JOIN_S)  # an abort may itself block: `close` handles that

    def _abort_late(self) -> None:
        in_time = self._wake.wait(self._limit_s)
        self.expired = not in_time and not self._left.is_set()
        while not self._left.is_set():
            try:
                self._abort()
            except Exception:
                log.exception("a call into the Manager API could not be aborted")
                return
            self._left.wait(ABORT_EVERY_S)


class Supervisor(Thread):
    """Keeps one Manager session open until `stop`. ``status`` and ``calling`` may be read from any thread.

    ``calling`` is the number of the call into the Manager API that has not returned yet, None outside of any.
    """

    def __init__(
        self, factory: ManagerFactory, inbox: Inbox, settings: Settings, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(name="supervisor", daemon=True)
        self._factory = factory
        self._inbox = inbox
        self._settings = settings
        self._now_s = now_s
        self._stopping = Event()
        self._session: ManagerSession | None = None
        self._limit: CallLimit | None = None
        self._reconnects = 0
        self._calls = 0
        self.calling: int | None = None
        self.crash: BaseException | None = None
        self.status = SessionStatus(CONNECTING, inbox.now_ns() // 1_000_000)

    def stop(self) -> None:
        """End the session and the thread, even when it blocks in a login; return at once."""
        self._stopping.set()
        if session := self._session:
            session.changed.set()
        if limit := self._limit:
            limit.end()

    def run(self) -> None:
        """Run one session after the other, on each server in turn."""
        attempt, servers = 0, self._settings.servers or ("simulator",)
        try:
            while not self._stopping.is_set():
                server = servers[self._reconnects % len(servers)]
                pumped_s, delay_s = self._run_session(server, attempt + 1)
                if self._stopping.is_set():
                    break
                attempt = 0 if pumped_s >= self._settings.reconnect_delay_max_s else attempt + 1
                self._reconnects += 1
                log.info("next try in %.1f s", delay_s)
                self._stopping.wait(delay_s)
        except BaseException as error:
            self.crash = error
            log.exception("the supervisor thread crashed")

    def _run_session(self, server: str, attempt: int) -> tuple[float, float]:
        """Run one session until it ends; return how long it pumped and how long to wait before the next."""
        settings, began_s = self._settings, None
        reason, delay_s = STOPPED_BY_US, back_off_s(attempt, settings)
        self._set_state(CONNECTING, server)
        try:
            session = self._open(server)
            self._await_start(session)
            began_s = self._now_s()
            reason = self._watch(session)
        except PumpError as error:
            if not self._stopping.is_set():  # else `stop` aborted the call
                reason = str(error)
                if isinstance(error, LoginError):
                    reason, delay_s = f"refused: {error}", settings.refused_delay_s
                    text = "%s refused login %s: %s; check login, password and the account's manager rights"
                    log.error(text, server, login_of(settings), error)  # noqa: TRY400 - the API's answer, no error of ours
        except BaseException as error:
            reason = f"internal error: {error!r}"
            raise
        finally:
            self._close_session(server, reason)
        return (self._now_s() - began_s if began_s is not None else 0.0), delay_s

    def _open(self, server: str) -> ManagerSession:
        """Make a Manager, connect, log in and switch to pumping; raises ConnectionLost when that takes too long."""
        manager, settings = self._call(self._factory), self._settings
        login, limit_s = login_of(settings), login_limit_s(settings)
        password = settings.password.get_secret_value() if settings.password else ""
        session = self._session = ManagerSession(manager, server, login)
        limit = self._limit = CallLimit(manager.abort, limit_s)
        if self._stopping.is_set():  # `stop` may have come before the limit was set
            limit.end()
        text = f"no answer from {server} within {limit_s:g} s (login_timeout_s)"
        try:
            with limit:
                self._call(manager.connect, server)
                self._call(manager.login, login, password)
                self._set_state(LOGGED_IN, server)
                self._inbox.put_command(Command.ATTACH, session)
                self._call(manager.pump, pump_flags(settings), self._inbox.notify)
        except ManagerError as error:
            if limit.expired:
                raise ConnectionLost(error.call, error.code, error.name, text) from error
            raise
        if limit.expired:
            raise ConnectionLost("Login", ReturnCode.RET_NO_CONNECT, "RET_NO_CONNECT", text)
        return session

    def _call(self, act: Callable[..., Result], *args: object) -> Result:
        """Call into the API; `calling` has the call's number meanwhile, for the hang detector."""
        self._calls += 1
        self.calling = self._calls
        try:
            return act(*args)
        finally:
            self.calling = None

    def _await_start(self, session: ManagerSession) -> None:
        """Wait for START_PUMPING: RET_OK of PumpingSwitchEx only means that the request was accepted."""
        deadline_s = self._now_s() + self._settings.start_timeout_s
        while not (session.started.is_set() or session.stopped.is_set() or self._stopping.is_set()):
            left_s = deadline_s - self._now_s()
            if left_s <= 0:
                text = f"no START_PUMPING within {self._settings.start_timeout_s:g} s of the switch"
                raise ConnectionLost("PumpingSwitchEx", 0, "RET_OK", text)
            session.changed.wait(min(left_s, self._settings.watch_interval_s))
        if session.started.is_set():
            self._set_state(PUMPING, session.server)

    def _watch(self, session: ManagerSession) -> str:
        """Return why the session ended: STOP, no connection, or no callback. A quiet market still sends PING."""
        received, alive_s = self._inbox.received, self._now_s()
        while not self._stopping.is_set():
            session.changed.clear()
            if self._stopping.is_set():  # `clear` may have cleared the wake-up of `stop`
                break
            if session.stopped.is_set():
                return "STOP_PUMPING: the server or the link ended the session"
            if not self._call(session.manager.is_connected):
                return "no link: IsConnected is false"
            if self._inbox.received != received:
                received, alive_s = self._inbox.received, self._now_s()
            elif self._now_s() - alive_s >= self._settings.liveness_timeout_s:
                return f"mute: no callback of any kind, not even PING, for {self._settings.liveness_timeout_s:g} s"
            session.changed.wait(self._settings.watch_interval_s)
        return STOPPED_BY_US

    def _close_session(self, server: str, reason: str) -> None:
        """Close the session on this thread, never in a callback, and send the pump thread the reason."""
        session, self._session, self._limit = self._session, None, None
        if session is not None and reason != STOPPED_BY_US:
            reason = self._call(with_library_faults, reason, session.manager)
        self._set_state(STOPPING if self._stopping.is_set() else LOST, server, reason)
        if session is None:
            return
        self._inbox.put_command(Command.DETACH, (session, reason))
        try:
            self._call(session.manager.close)
        except PumpError as error:
            log.warning("closing the session: %s", error)

    def _set_state(self, state: str, server: str, reason: str = "") -> None:
        since = self._inbox.now_ns() // 1_000_000
        self.status = SessionStatus(state, since, server, reason, self._reconnects)
        fields = {"server": server, "reason": reason} if reason else {"server": server}
        log.log(logging.WARNING if state == LOST else logging.INFO, "session %s", state, extra=fields)
        self._inbox.put_command(Command.STATE_CHANGED, None)
