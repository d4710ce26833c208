"""The callback that the DLL calls: it copies the record and puts it into the inbox, which stamps it.

It never waits for another part of the daemon, logs or raises, takes no lock, and calls nothing of the DLL.
One callback serves all sessions of the process, so it is never collected while the DLL may still call it. ``param``,
which the DLL hands back unchanged, names the session. An event of a closed session is counted and dropped.
"""

from __future__ import annotations

import ctypes
import logging
import struct
import threading
from collections.abc import Callable, Mapping
from ctypes import string_at

from mt4pump.bridge.interface import NOTIFY_EX, POINTER_BYTES
from mt4pump.log import FaultCounters
from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import CALLBACK_RECORD, MAIL_BOX, NEWS_TOPIC, NEWS_TOPIC_NEW
from mt4pump.mt4.manager import Notify

STOP = int(PumpCode.STOP_PUMPING)
RECORD_BYTES = {int(code): record.size for code, record in CALLBACK_RECORD.items()}
PINNED_ALARM = 8
"""The API is known to use one thread per session; more pinned threads than two a session and this are counted."""
BODY_LIMIT_BYTES = 15 * 1024 * 1024
"""MAX_NEWS_BODY_LEN of the header."""

BODIES = {
    int(PumpCode.UPDATE_NEWS): (NEWS_TOPIC.by_name["body"].offset, NEWS_TOPIC.by_name["bodylen"].offset),
    int(PumpCode.UPDATE_MAIL): (MAIL_BOX.by_name["body"].offset, MAIL_BOX.by_name["bodylen"].offset),
    int(PumpCode.UPDATE_NEWS_NEW): (NEWS_TOPIC_NEW.by_name["body"].offset, NEWS_TOPIC_NEW.by_name["body_len"].offset),
}
"""Offsets of the body's 32-bit pointer and of its length. Used only where pointers are 32 bits wide."""

OnEvent = Callable[[int, int, int | None, int | None], None]

log = logging.getLogger(__name__)


class Callback:
    """Hands the DLL's events to the sessions. ``function`` is the argument of PumpingSwitchEx."""

    def __init__(self) -> None:
        self.pinned_threads = 0
        self.errors = 0
        self.last_error = ""
        self.stale = 0
        self.stopped: set[int] = set()
        """The ``param`` of each session whose STOP_PUMPING came, set inside the callback."""
        self._notify: dict[int, Notify] = {}
        self._sessions = 0
        self._fault_counters = FaultCounters(log)
        self._errors_logged = 0
        self._thread = threading.local()  # useless before the pin: its values end with the thread state
        self._ensure = ctypes.pythonapi.PyGILState_Ensure
        self.function = NOTIFY_EX(self._make_on_event(BODIES if POINTER_BYTES == 4 else {}))

    def open(self, notify: Notify) -> int:
        """Return the ``param`` of a new session, whose events go to ``notify`` until `close`."""
        self._sessions += 1
        self._notify[self._sessions] = notify
        return self._sessions

    def close(self, param: int) -> None:
        """Drop all further events of this session."""
        self._notify.pop(param, None)
        self.stopped.discard(param)

    def mark_python_thread(self) -> None:
        """Mark the calling thread as Python's own: Disconnect may call back on it, and it needs no pin."""
        self._thread.pinned = True

    def counters(self) -> dict[str, int]:
        """Return the heartbeat's counters; errors of the callback are logged here, not in the callback."""
        if self.errors != self._errors_logged:
            self._errors_logged = self.errors
            self._fault_counters.record("callback_error", f"{self.errors} so far, the last: {self.last_error}")
        if self.pinned_threads > 2 * self._sessions + PINNED_ALARM:
            text = f"{self.pinned_threads} threads of the API pinned in {self._sessions} sessions: each costs memory"
            self._fault_counters.record("pinned_threads", text)
        return {
            "pinned_threads": self.pinned_threads,
            "callback_errors": self.errors,
            "stale_callbacks": self.stale,
        }

    def _make_on_event(self, bodies: Mapping[int, tuple[int, int]]) -> OnEvent:
        """Return what the DLL calls: a closure, because it finds its names in half the time of a method."""
        callback, thread, notify_of, note_stop = self, self._thread, self._notify.get, self.stopped.add

        def on_event(code: int, action: int, data: int | None, param: int | None) -> None:
            # On the DLL's thread: never wait, log or raise. Errors are counted.
            try:
                try:
                    thread.pinned  # noqa: B018 - read for the AttributeError; identifiers of ended threads are reused
                except AttributeError:
                    callback._pin_thread_state()
                notify = notify_of(param or 0)
                if notify is None:
                    callback.stale += 1
                elif data and code in RECORD_BYTES:
                    record = string_at(data, RECORD_BYTES[code])
                    if code in bodies:
                        record += body_behind(record, *bodies[code])
                    notify(code, action, record)
                else:
                    if code == STOP:
                        note_stop(param or 0)
                    notify(code, action, b"")
            except BaseException as error:  # noqa: BLE001 - the top of a foreign thread: nothing above catches it
                callback.errors += 1
                callback.last_error = f"pump code {code}: {error!r}"

        return on_event

    def _pin_thread_state(self) -> None:
        """Keep the Python thread state of a foreign thread: ctypes would build and destroy one per call otherwise.

        One extra `PyGILState_Ensure` that is never released keeps it: a call then costs tenths of a µs instead of 6.
        """
        self._ensure()
        self._thread.pinned = True
        self.pinned_threads += 1


def body_behind(record: bytes, pointer_offset: int, length_offset: int) -> bytes:
    """Return the text behind the record's 32-bit pointer, which is whole only in a 32-bit process.

    The API does not say whether NewsTopicNew's ``body_len`` counts bytes or characters. It is used as bytes: if it
    counts characters, half of the text is read, but nothing beyond the text.
    """
    (pointer,) = struct.unpack_from("<I", record, pointer_offset)
    (length,) = struct.unpack_from("<i", record, length_offset)
    return string_at(pointer, length) if pointer and 0 < length <= BODY_LIMIT_BYTES else b""
