"""Functions that a user registers for topics, kinds and notices."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from mt4pump.client.events import Event
from mt4pump.client.notices import Notice
from mt4pump.client.topic_state import is_pattern
from mt4pump.errors import ClientError

Handler = Callable[[Any], Any]
LOG_INTERVAL_S = 60.0
ROUTES_LIMIT = 100_000
"""Topics whose handlers are remembered."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class RegisteredHandler:
    """One handler, what it is for, and when its last fault was logged."""

    handler: Handler
    topic: str | None
    kind: str | None
    faults: int = 0
    log_at_s: float = 0.0

    def is_for(self, event: Event) -> bool:
        """Return whether it takes ``event``."""
        if self.kind is not None and event.kind != self.kind:
            return False
        if self.topic is None:
            return True
        # Exactly first, as a subscription is: quote.[SP500] is a name, too.
        return event.topic == self.topic or (is_pattern(self.topic) and fnmatchcase(event.topic, self.topic))


class Handlers:
    """All that were registered. An exception in one is counted, logged once a minute, and kept from the others."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._events: list[RegisteredHandler] = []
        self._notices: list[RegisteredHandler] = []
        self._routes: dict[str, tuple[RegisteredHandler, ...]] = {}

    def add(self, handler: Handler, topic: str | None, kind: str | None) -> None:
        """Register ``handler`` for a topic (name or pattern), a kind, or both; for neither: everything."""
        if not callable(handler):
            raise ClientError("arguments", f"{handler!r} is no handler: give a function that takes an event")
        self._events.append(RegisteredHandler(handler, topic, kind))
        self._routes.clear()

    def add_notice(self, handler: Handler) -> None:
        """Register ``handler`` for notices."""
        self._notices.append(RegisteredHandler(handler, None, None))

    def of(self, item: Event | Notice) -> tuple[RegisteredHandler, ...] | list[RegisteredHandler]:
        """Return who takes ``item``, in the order of registration."""
        if isinstance(item, Notice):
            return self._notices
        routes = self._routes.get(item.topic)
        if routes is None:
            if len(self._routes) >= ROUTES_LIMIT:
                self._routes.clear()
            routes = self._routes[item.topic] = tuple(each for each in self._events if each.is_for(item))
        return routes

    def fault(self, registered: RegisteredHandler, item: object, error: Exception, now_s: float) -> None:
        """Count what a handler raised; log it unless it was logged lately."""
        self._counts["handler_errors"] += 1
        registered.faults += 1
        if now_s >= registered.log_at_s:
            registered.log_at_s = now_s + LOG_INTERVAL_S
            text = "handler %r failed at %r (fault %d of it; logged at most once a minute)"
            log.error(text, registered.handler, item, registered.faults, exc_info=error)
