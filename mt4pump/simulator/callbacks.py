"""Sends the simulated broker's events to the session that pumps, less what its flags and the injected faults remove."""

from __future__ import annotations

import logging
from threading import Lock

from mt4pump.mt4.codes import PumpCode, PumpFlag
from mt4pump.mt4.layout import CALLBACK_RECORD
from mt4pump.mt4.manager import Notify

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
