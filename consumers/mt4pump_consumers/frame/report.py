"""What the service manager is told of a consumer: ready at the first look of its main loop, alive at each further one.

Every consumer looks whether it shall end only after it has bound what it serves on, and from then on all the time.
"""

from __future__ import annotations

import threading

from mt4pump.client import Notifier


class Report:
    """Give `looked` to the `Shutdown`. Only the main thread's looks count: that it stands still must show."""

    def __init__(self, notifier: Notifier, text: str) -> None:
        self._notifier = notifier
        self._text = text
        self._looks = 0
        self._is_stopping = False

    def looked(self, is_asked: bool) -> None:  # noqa: FBT001 - the only thing there is to know
        """Take note that the program looked whether it is asked to end."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._looks += 1
        if is_asked:
            self.stopping()
            return
        if self._looks == 1:
            self._notifier.ready(self._text)
        self._notifier.turned(self._looks)

    def stopping(self) -> None:
        """Say, once, that the program ends."""
        if not self._is_stopping:
            self._is_stopping = True
            self._notifier.stopping()
