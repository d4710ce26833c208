"""Asks the daemon which kinds its journal stores: the heartbeat alone does not show that of a kind without events."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from mt4pump.client import ClientError, ClientKeys, Query, Status
from mt4pump.process.program import ConsumerSettings
from mt4pump_consumers.metrics.heartbeat import KINDS

TIMEOUT_S = 2.0
RETRY_S, REFRESH_S = 30.0, 600.0
"""Time to the next query after one that failed, and after one that was answered: a setting may change."""

log = logging.getLogger(__name__)


class DurableKinds:
    """`update` is for one thread, `of` for any."""

    def __init__(self, settings: ConsumerSettings) -> None:
        self._settings = settings
        self._asked_epoch = 0
        self._due_s = 0.0
        self._found: tuple[int, Mapping[str, bool]] = (0, {})

    def of(self, epoch: int) -> Mapping[str, bool]:
        """Return for each kind whether the journal stores it in this run of the daemon; empty: not known."""
        found_epoch, kinds = self._found
        return kinds if found_epoch == epoch else {}

    def update(self, status: Status | None) -> None:
        """Query the daemon if it is time; takes at most `TIMEOUT_S`."""
        now_s = time.monotonic()
        if status is None or not status.alive or (status.epoch == self._asked_epoch and now_s < self._due_s):
            return
        self._asked_epoch, self._due_s = status.epoch, now_s + RETRY_S
        try:
            keys = ClientKeys.load(self._settings.keys) if self._settings.keys else None
            with Query(self._settings.query_address, keys, TIMEOUT_S) as query:
                described = query.describe()
        except (ClientError, ValueError) as error:  # an endpoint without a port has no query address
            log.debug("the kinds that the journal stores are not known: %s", error)
            return
        kinds = described.get("kinds")
        if isinstance(kinds, Mapping):
            self._found = described["epoch"], {kind: _is_durable(kinds[kind]) for kind in KINDS if kind in kinds}
            self._due_s = now_s + REFRESH_S


def _is_durable(kind: object) -> bool:
    return isinstance(kind, Mapping) and bool(kind.get("durable"))
