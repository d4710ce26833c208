"""A limit on calls into the Manager API that may block for minutes: another thread ends them.

A login on a server that accepts and says nothing blocks for 180 s inside the vendor's library; `Manager.abort`, from
another thread, ends it within a tenth of a second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType
from typing import Self

ABORT_EVERY_S = 0.1
"""How often a call is aborted again: the first time may have come just before it went into the library."""
JOIN_S = 1.0

log = logging.getLogger(__name__)


class CallLimit:
    """Calls ``abort`` once the ``with`` block took ``limit_s``, or `end` was called, until the block is left.

    ``expired`` tells that the time ran out: what the calls in the block returned is of no use then.
    """

    def __init__(self, abort: Callable[[], None], limit_s: float) -> None:
        self.expired = False
        self._abort = abort
        self._limit_s = limit_s
        self._wake = Event()
        self._left = Event()
        self._thread = Thread(target=self._watch, name="call limit", daemon=True)

    def end(self) -> None:
        """Abort the calls now; from any thread, returns at once."""
        self._wake.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self._left.set()
        self._wake.set()
        self._thread.join(JOIN_S)  # unless the abort itself blocks: then `close` has to see to it

    def _watch(self) -> None:
        in_time = self._wake.wait(self._limit_s)
        self.expired = not in_time and not self._left.is_set()
        while not self._left.is_set():
            try:
                self._abort()
            except Exception:
                log.exception("a call into the Manager API could not be aborted")
                return
            self._left.wait(ABORT_EVERY_S)
