"""The sessions of the simulated server: the Manager of one, and the events that are sent to the one that pumps."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock
from time import monotonic
from weakref import WeakSet

from mt4pump.errors import ConnectionLost, LoginError, ManagerError
from mt4pump.mt4.codes import NETWORK_PROBLEM, PumpCode, PumpFlag, ReturnCode
from mt4pump.mt4.layout import CALLBACK_RECORD
from mt4pump.mt4.manager import TABLES, Notify
from mt4pump.simulator.broker import QuoteQueue, SimulatedBroker
from mt4pump.simulator.context import FairLock
from mt4pump.simulator.market import NAME_BYTES

REFUSED_LOGIN = 65
"""The login that is refused with RET_BAD_ACCOUNT_INFO, whatever the password."""
BODIES_LIMIT = 256
CLOSE_WAIT_S = 2.0
LOGIN_LIMIT_S = 180.0
"""How long a login waits for a silent server, as in the vendor's library."""
HIDDEN_TABLES = {"users": PumpFlag.HIDEUSERS, "online": PumpFlag.HIDEONLINE, "news": PumpFlag.HIDENEWS}
HIDDEN_BY = {
    int(PumpCode.UPDATE_USERS): PumpFlag.HIDEUSERS,
    int(PumpCode.UPDATE_ONLINE): PumpFlag.HIDEONLINE,
    int(PumpCode.UPDATE_NEWS): PumpFlag.HIDENEWS,
    int(PumpCode.UPDATE_NEWS_BODY): PumpFlag.HIDENEWS,
    int(PumpCode.UPDATE_NEWS_NEW): PumpFlag.HIDENEWS,
    int(PumpCode.UPDATE_MAIL): PumpFlag.HIDEMAIL,
}
TRADES, NEWS = int(PumpCode.UPDATE_TRADES), int(PumpCode.UPDATE_NEWS)
UNCOUNTED = frozenset({PumpCode.UPDATE_BIDASK, PumpCode.PING})

log = logging.getLogger(__name__)


class CallbackSender:
    """Calls the session's ``notify``; used by the feed thread only, except `open` and `close`.

    Counters: ``events_sent`` (all calls but BIDASK and PING), ``events_skipped`` (fault skip), ``events_nulled`` (fault
    null), ``events_hidden`` (flags), ``events_unseen`` (no session pumped, or mute), ``notify_errors`` (exceptions of
    ``notify``, which have no effect, as in the DLL).
    """

    def __init__(self) -> None:
        self.events_sent = self.events_skipped = self.events_nulled = 0
        self.events_hidden = self.events_unseen = 0
        self.notify_errors = self.flags = 0
        self._lock = Lock()  # for assignments only: a session may close while the feed thread is about to start it
        self._waiting: Notify | None = None
        self._notify: Notify | None = None
        self._skips = 0
        self._nulls: dict[int, int] = {}

    @property
    def has_session(self) -> bool:
        """Return whether events reach a session now."""
        return self._notify is not None

    @property
    def wants_quotes(self) -> bool:
        """Return whether quotes reach a session now."""
        return self.has_session and not self.flags & PumpFlag.HIDETICKS

    def open(self, flags: int, notify: Notify) -> None:
        """Accept a session that switched to pumping; it receives nothing before `start`. Faults of an older one end."""
        with self._lock:
            self.flags = flags
            self._skips = 0
            self._nulls = {}
            self._notify = None
            self._waiting = notify

    def start(self) -> bool:
        """Send START_PUMPING to a session that waits for it; return whether there was one."""
        if self._waiting is None:
            return False
        with self._lock:
            self._notify, self._waiting = self._waiting, None
        self._call(PumpCode.START_PUMPING)
        return True

    def close(self) -> Notify | None:
        """Release the session and return its ``notify``, for STOP; None when it would not receive it.

        May be called without the `FairLock`. A call in progress is not waited for.
        """
        with self._lock:
            notify, self._notify, self._waiting = self._notify, None, None
        return notify

    def mute(self) -> None:
        """Send nothing more until another session opens."""
        self._notify = None

    def skip(self, changes: int) -> None:
        """Do not send the next trade events."""
        self._skips += changes

    def null(self, events: int) -> None:
        """Send the next events of every code that carries a record as NULL."""
        self._nulls = {int(code): self._nulls.get(code, 0) + events for code in CALLBACK_RECORD}

    def emit(self, code: int, action: int, data: bytes) -> None:
        """Send one event."""
        code = int(code)  # callers pass enum members; the DLL passes numbers
        if not self.has_session:
            self.events_unseen += 1
        elif code in HIDDEN_BY and self.flags & HIDDEN_BY[code]:
            self.events_hidden += 1
        elif code == TRADES and self._skips:
            self._skips -= 1
            self.events_skipped += 1
        elif data and self._nulls.get(code):
            self._nulls[code] -= 1
            self.events_nulled += 1
            self._call(code)
        else:
            self._call(code, int(action), data)
            if code == NEWS and self.flags & PumpFlag.SENDFULLNEWS:
                self._call(PumpCode.UPDATE_NEWS_BODY)

    def send_bidask(self) -> None:
        """Send BIDASK: quotes can be read."""
        if self.wants_quotes:
            self._call(PumpCode.UPDATE_BIDASK)

    def send_ping(self) -> None:
        """Send PING."""
        if self.has_session:
            self._call(PumpCode.PING)

    def send_stop(self, notify: Notify) -> None:
        """Send STOP_PUMPING to a session that was just closed."""
        self._call(PumpCode.STOP_PUMPING, to=notify)

    def _call(self, code: int, action: int = 0, data: bytes = b"", to: Notify | None = None) -> None:
        notify = to or self._notify
        if notify is None:  # another thread has just closed the session
            return
        if code not in UNCOUNTED:
            self.events_sent += 1
        try:
            notify(int(code), action, data)
        except Exception:
            self.notify_errors += 1
            if self.notify_errors == 1:
                log.exception("notify raised on pump code %d; further errors are only counted", code)


class SessionRegistry:
    """The sessions that are connected, at most one of which pumps, and what they share with the server.

    ``lock`` protects ``broker``; ``wake`` wakes the feed thread; ``is_body_wanted``: UPDATE_NEWS_BODY is to be sent.
    """

    def __init__(self, broker: SimulatedBroker, quote_buffer: int, *, keeps_quotes: bool) -> None:
        self.broker = broker
        self.lock = FairLock()
        self.wake = Event()
        self.quote_queue = QuoteQueue(quote_buffer, self.wake.set)
        self.callbacks = CallbackSender()
        self.is_open = self.is_body_wanted = False
        self.pumping: SimulatorManager | None = None
        self._keeps_quotes = keeps_quotes
        self._registry_lock = Lock()
        self._connected: WeakSet[SimulatorManager] = WeakSet()
        self._away_until_s = self._silent_until_s = 0.0

    def connect(self, session: SimulatorManager) -> None:
        """Let a session connect; raises ConnectionLost while the server is away or not running."""
        away_s = self._away_until_s - monotonic()
        reason = f"the simulated server is away for another {away_s:.1f} s (fault drop)" if away_s > 0 else ""
        if not self.is_open:
            reason = "the simulator is not running: it was not started, or stopped"
        if reason:
            raise ConnectionLost("Connect", ReturnCode.RET_NO_CONNECT, "RET_NO_CONNECT", reason)
        with self._registry_lock:
            self._connected.add(session)

    def attach(self, session: SimulatorManager, flags: int, notify: Notify) -> None:
        """Make ``session`` the one that pumps; another one that does is lost. START follows from the feed thread."""
        with self.lock:
            other = self.pumping
            if other and other is not session:
                self.lose(other, "another session began to pump")
            with self._registry_lock:
                self.pumping = session
                self.callbacks.open(flags, notify)
            if not self._keeps_quotes:
                self.quote_queue.clear()  # quotes of a walk are stale by now
        self.wake.set()

    def detach(self, session: SimulatorManager) -> Notify | None:
        """Release ``session``, without ``lock``, which a callback may hold; return its ``notify`` if STOP is due."""
        with self._registry_lock:
            self._connected.discard(session)
            if self.pumping is not session:
                return None
            self.pumping = None
            notify = self.callbacks.close()
        self.wake.set()
        return notify

    def lose(self, session: SimulatorManager, reason: str) -> None:
        """End a session from the server's side; STOP is sent on this thread if it pumps."""
        session.lost = reason
        if notify := self.detach(session):
            self.callbacks.send_stop(notify)

    def lose_all(self, reason: str) -> None:
        """End every session."""
        with self._registry_lock:
            sessions = list(self._connected)
        for session in sessions:
            self.lose(session, reason)

    def drop(self, away_s: float) -> None:
        """Lose every session, and let none connect for ``away_s`` seconds."""
        self._away_until_s = monotonic() + away_s
        self.lose_all("the simulated link was cut (fault drop)")

    def fall_silent(self, silent_s: float) -> None:
        """Lose every session, let new ones connect and answer no login for ``silent_s`` seconds."""
        self._silent_until_s = monotonic() + silent_s
        self.lose_all("the simulated server fell silent (fault silent)")

    def silent_s(self) -> float:
        """Return for how many seconds more no login is answered."""
        return max(0.0, self._silent_until_s - monotonic())


class SimulatorManager:
    """The `mt4pump.mt4.manager.Manager` of one session. Any server, login and password will do, but login 65.

    As with the DLL: `close` of a pumping session may call STOP_PUMPING on the calling thread; nothing comes after it.
    ``lost`` says why the server ended the session; empty while it did not.
    """

    may_empty_tables = reads_beside_quotes = False

    def __init__(self, registry: SessionRegistry) -> None:
        self._registry = registry
        self._is_connected = self._is_logged_in = self._is_closed = False
        self._aborted = Event()
        self._flags = 0
        self._bodies: deque[int] = deque(maxlen=BODIES_LIMIT)
        self.selected: set[bytes] = set()
        self.lost = ""

    def connect(self, server: str) -> None:
        """Connect; fails while the simulated server is away (fault drop) or not running."""
        if self._is_closed or self._aborted.is_set():
            raise self._no_link("Connect")
        self._registry.connect(self)
        self._is_connected = True
        log.debug("connected to the simulator in place of %s", server)

    def login(self, login: int, password: str) -> None:  # noqa: ARG002 - any password will do
        """Log in; login 65 is refused. Waits for a silent server (fault silent), as the vendor's library does."""
        self._require_link("Login")
        if (silent_s := self._registry.silent_s()) > 0:
            log.debug("the simulated server does not answer the login for another %.1f s", silent_s)
            self._aborted.wait(min(silent_s, LOGIN_LIMIT_S))
            if silent_s > LOGIN_LIMIT_S:
                raise ConnectionLost("Login", NETWORK_PROBLEM, "unknown", "Network problem")
            self._require_link("Login")
        if login == REFUSED_LOGIN:
            text = "the simulator refuses login 65, so that a refusal can be tried"
            raise LoginError("Login", ReturnCode.RET_BAD_ACCOUNT_INFO, "RET_BAD_ACCOUNT_INFO", text)
        self._is_logged_in = True

    def pump(self, flags: int, notify: Notify) -> None:
        """Switch to pumping; START_PUMPING follows from the simulator's thread."""
        self._require_link("PumpingSwitchEx")
        if not self._is_logged_in:
            text = "log in before pumping"
            raise ManagerError("PumpingSwitchEx", ReturnCode.RET_NOT_ENOUGH_RIGHTS, "RET_NOT_ENOUGH_RIGHTS", text)
        self._flags = flags
        self._registry.attach(self, flags, notify)

    def abort(self) -> None:
        """End a login that waits for a silent server."""
        self._aborted.set()

    def last_faults(self) -> str:
        """Return nothing: the simulator keeps no log of its own."""
        return ""

    def is_connected(self) -> bool:
        """Return whether there is a link; a mute session has one."""
        return self._is_connected and not self._is_closed and not self.lost and not self._aborted.is_set()

    def select_symbol(self, symbol: bytes) -> None:
        """Ask for the quotes of ``symbol``, including those that are queued."""
        self._require_link("SymbolAdd")
        raw_name = symbol.partition(b"\0")[0].ljust(NAME_BYTES, b"\0")
        if raw_name not in self._registry.broker.market.by_raw_name:
            text = f"the simulator has no symbol {symbol!r}"
            raise ManagerError("SymbolAdd", ReturnCode.RET_ERROR, "RET_ERROR", text)
        self.selected.add(raw_name)

    def hide_symbol(self, symbol: bytes) -> None:
        """Ask for the quotes of ``symbol`` no more."""
        self._require_link("SymbolHide")
        self.selected.discard(symbol.partition(b"\0")[0].ljust(NAME_BYTES, b"\0"))

    def updated_quotes(self) -> bytes:
        """Return queued quotes of selected symbols: every one, in order, some hundred a call at most."""
        self._require_link("SymbolInfoUpdated")
        return self._registry.quote_queue.read(self.selected)

    def table(self, name: str) -> bytes:
        """Return the whole table as it is now; empty when flags hide it. Raises KeyError for an unknown name."""
        with self._reading(f"table {name}") as broker:
            if name not in TABLES:
                raise KeyError(f"there is no table {name!r}; tables: {', '.join(TABLES)}")
            return b"" if self._flags & HIDDEN_TABLES.get(name, 0) else broker.tables[name]()

    def request_news_body(self, key: int) -> None:
        """Ask for the body of news ``key``; UPDATE_NEWS_BODY follows from the simulator's thread."""
        self._require_link("NewsBodyRequest")
        self._bodies.append(key)
        self._registry.is_body_wanted = True
        self._registry.wake.set()

    def news_body(self, key: int) -> bytes | None:
        """Return the body, or None: not asked for, or no such news."""
        with self._reading("NewsBodyGet") as broker:
            if key in self._bodies or self._flags & PumpFlag.SENDFULLNEWS:
                return broker.news.bodies.get(key)
            return None

    def last_mail(self) -> bytes | None:
        """Return the MailBox record of the last mail and its body, or None."""
        with self._reading("MailLast") as broker:
            return broker.news.last_mail

    def plugin_parameters(self, position: int) -> bytes | None:
        """Return the PluginCfg array of the plugin at ``position``, or None."""
        with self._reading("PluginParamGet") as broker:
            return broker.back_office.plugin_parameters(position)

    def close(self) -> None:
        """End the session. Waits for a callback in progress, at most `CLOSE_WAIT_S`, so that none comes after it."""
        if self._is_closed:
            return
        self._is_closed = True
        notify = self._registry.detach(self)
        if not self._registry.lock.wait_until_free(CLOSE_WAIT_S):
            log.warning("closed a simulated session while its callback did not return for %s s", CLOSE_WAIT_S)
        if notify:
            notify(int(PumpCode.STOP_PUMPING), 0, b"")

    @contextmanager
    def _reading(self, call: str) -> Iterator[SimulatedBroker]:
        """Lock the broker for a read; raises ConnectionLost when there is no link."""
        self._require_link(call)
        with self._registry.lock:
            self._require_link(call)  # it may have ended while we waited
            yield self._registry.broker

    def _require_link(self, call: str) -> None:
        if not self.is_connected():
            raise self._no_link(call)

    def _no_link(self, call: str) -> ConnectionLost:
        reason = self.lost or ("the login was aborted" if self._aborted.is_set() else "not connected")
        reason = "the session was closed" if self._is_closed else reason
        return ConnectionLost(call, ReturnCode.RET_NO_CONNECT, "RET_NO_CONNECT", reason)
