"""One client: its subscriptions and permissions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from mt4pump_consumers.gateway.client_writer import ClientWriter, Payload, joined
from mt4pump_consumers.gateway.connection import GatewayConnection
from mt4pump_consumers.gateway.limits import LimitedLog
from mt4pump_consumers.gateway.protocol import Json, encode
from mt4pump_consumers.gateway.settings import GatewaySettings
from mt4pump_consumers.gateway.subscriber_groups import GroupKey, SubscriberGroup, SubscriberGroups
from mt4pump_consumers.gateway.tokens import NOBODY, Grant

REPLAY_OVERLAP_S = 60.0
"""So long after a replay an event may still come late: the subscriber recovers a gap within half of it."""

limited = LimitedLog(logging.getLogger(__name__))


class ClientSession:
    """``name`` is for the log. ``symbols`` and ``topics`` keep the order in which they were asked for.

    ``writer`` writes to it.
    """

    def __init__(self, connection: GatewayConnection, groups: SubscriberGroups, settings: GatewaySettings) -> None:
        self.connection = connection
        self.name = connection.name
        self.grant: Grant = NOBODY
        self.symbols: dict[str, None] = {}
        self.topics: dict[str, None] = {}
        self.window_s = settings.batch_window_s
        self.replayed_to, self.replayed, self._overlap_ends_s = 0, frozenset[str](), 0.0
        self._log: str | None = None
        self.wants_status = False
        self._loop = asyncio.get_running_loop()
        self._groups = groups
        self._group: SubscriberGroup | None = None
        self.writer = ClientWriter(connection, self.name, settings, groups.count_conflated, is_full=connection.is_full)

    @property
    def owner(self) -> str:
        """Return who answers for the work that this client causes: its token, or its address without one."""
        return self.grant.owner or self.connection.address_owner

    @property
    def subscribes(self) -> bool:
        """Return whether it receives what all subscribers receive."""
        return self._group is not None

    def admit(self, grant: Grant) -> None:
        """Apply ``grant``; subscriptions that it allows stay."""
        limited.write(logging.INFO, "%s: logged in as %s", self.name, grant.name)
        self.grant = grant
        allowed = grant.allowed
        self.symbols = {name: None for name in self.symbols if allowed.touches(f"quote.{name}")}
        self.topics = {name: None for name in self.topics if allowed.touches(name)}
        self.refresh()

    def refresh(self) -> None:
        """Move to the group of clients with the same subscriptions."""
        self.writer.is_batched = self.window_s > 0
        group_key = GroupKey(
            frozenset(self.symbols),
            frozenset(self.topics),
            self.grant.topics,
            self.writer.bits,
            self.window_s,
            self.replayed_to,
            self.replayed,
            self._log,
        )
        wanted = bool(self.symbols or self.topics) and self.writer.is_open
        if self._group is not None and not (wanted and self._group.group_key == group_key):
            self._groups.leave(self.writer, self._group)
            self._group = None
        if wanted and self._group is None:
            self._group = self._groups.join(self.writer, group_key)

    def reply(self, message: Json) -> None:
        """Send ``message`` to this client alone."""
        self.send([Payload(encode(message))])

    def send(self, payloads: list[Payload]) -> None:
        """Send payloads to this client alone, after what is pending for it."""
        if self._group is not None:
            self._group.flush()
        self.writer.write(joined(payloads, self.writer.bits, batch=False), payloads)

    def note_replay(self, topics: Iterable[str], log_id: str | None, replayed_to: int) -> None:
        """Note that stored events of ``topics`` up to ``replayed_to`` were sent: live ones up to it are repeats."""
        self.replayed_to, self.replayed, self._log = replayed_to, frozenset(topics), log_id
        self._overlap_ends_s = self._loop.time() + REPLAY_OVERLAP_S
        self.refresh()

    def check(self, now_s: float) -> None:
        """Remove the data of an old replay; close the connection if it was full for too long."""
        if self.replayed_to and now_s > self._overlap_ends_s:
            self.replayed_to, self.replayed, self._log = 0, frozenset(), None
            self.refresh()
        self.writer.check(now_s)

    def end(self) -> None:
        """Leave all groups, once the connection is closed."""
        self.symbols, self.topics = {}, {}
        self.refresh()
