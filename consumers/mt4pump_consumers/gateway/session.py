"""One client: its subscriptions and permissions, and what is sent to it.

Frames go straight to the connection's transport; handshake, ping and close stay the library's. While the transport is
full nothing is written: quotes wait as the newest per symbol, everything else in order, up to a limit. A client that
goes beyond it, or does not read for too long, is closed with a code that says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.protocol import State

from mt4pump_consumers.gateway.connection import GatewayConnection
from mt4pump_consumers.gateway.limits import LimitedLog
from mt4pump_consumers.gateway.protocol import CLOSE_SLOW, Json, encode
from mt4pump_consumers.gateway.settings import GatewaySettings
from mt4pump_consumers.gateway.subscriber_groups import (
    PLAIN,
    GroupKey,
    Payload,
    SubscriberGroup,
    SubscriberGroups,
    joined,
)
from mt4pump_consumers.gateway.tokens import NOBODY, Grant

REPLAY_OVERLAP_S = 60.0
"""So long after a replay an event may still come late: the subscriber recovers a gap within half of it."""
ABORT_S = 3.0
"""Time for a close; more than the library's own limit, which does not count while the client takes nothing."""
PART = 50
"""Messages written at once to a client that takes again: it may be full after a few."""

limited = LimitedLog(logging.getLogger(__name__))


class ClientSession:
    """``name`` is for the log. ``symbols`` and ``topics`` keep the order in which they were asked for.

    ``write_now`` is the transport's `write` while the client takes data, else None.
    """

    def __init__(self, connection: GatewayConnection, groups: SubscriberGroups, settings: GatewaySettings) -> None:
        self.connection = connection
        self.name = connection.name
        self.grant: Grant = NOBODY
        self.symbols: dict[str, None] = {}
        self.topics: dict[str, None] = {}
        self.window_s = 0.0
        self.replayed_to, self.replayed, self._overlap_ends_s = 0, frozenset[str](), 0.0
        self._log: str | None = None
        self.wants_status = False
        self._loop = asyncio.get_running_loop()
        self._groups, self._settings = groups, settings
        self._bits = window_bits(connection)
        self._group: SubscriberGroup | None = None
        self._held: list[Payload] = []
        self._held_quotes: dict[str, Payload] = {}
        self._closing: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._full_since_s = 0.0
        self.write_now: Callable[[bytes], object] | None = None
        self._set_write_now()

    def _set_write_now(self) -> None:
        """Let groups write to the transport itself while it takes data."""
        free = self.is_open and not self.connection.is_full
        self.write_now = self.connection.transport.write if free else None

    @property
    def owner(self) -> str:
        """Return who answers for the work that this client causes: its token, or its address without one."""
        return self.grant.owner or self.connection.address_owner

    @property
    def is_writable(self) -> bool:
        """Return whether the client reads, or is gone."""
        return self._writable.is_set()

    @property
    def is_open(self) -> bool:
        """Return whether anything can still be sent."""
        return self._closing is None and self.connection.protocol.state is State.OPEN

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
        group_key = GroupKey(
            frozenset(self.symbols),
            frozenset(self.topics),
            self.grant.topics,
            self._bits,
            self.window_s,
            self.replayed_to,
            self.replayed,
            self._log,
        )
        wanted = bool(self.symbols or self.topics) and self.is_open
        if self._group is not None and not (wanted and self._group.group_key == group_key):
            self._groups.leave(self, self._group)
            self._group = None
        if wanted and self._group is None:
            self._group = self._groups.join(self, group_key)

    def reply(self, message: Json) -> None:
        """Send ``message`` to this client alone."""
        self.send([Payload(encode(message))])

    def send(self, payloads: list[Payload]) -> None:
        """Send payloads to this client alone, after what is pending for it."""
        if self._group is not None:
            self._group.flush()
        self.write(joined(payloads, self._bits, batch=False), payloads)

    def write(self, data: bytes, payloads: list[Payload]) -> None:
        """Send ``data``, or keep ``payloads`` while the client does not read."""
        if self.write_now is not None:
            self.write_now(data)
        elif self.is_open:
            self._hold(payloads)

    def _hold(self, payloads: list[Payload]) -> None:
        quotes = self._held_quotes
        for payload in payloads:
            if payload.key:
                self._groups.conflated += quotes.pop(payload.key, None) is not None
                quotes[payload.key] = payload
            else:
                self._held.append(payload)
        waiting = len(self._held) + len(quotes)
        if waiting > self._settings.queue:
            self.shut(CLOSE_SLOW, f"too slow: {waiting} messages wait")

    def on_full(self) -> None:
        """Note that the transport is full."""
        self.write_now = None
        if self.is_open:
            self._writable.clear()
            self._full_since_s = self._loop.time()

    def on_writable(self) -> None:
        """Send what waited."""
        payloads = [*self._held, *self._held_quotes.values()]
        self._held, self._held_quotes = [], {}
        while payloads and self.is_open and not self.connection.is_full:
            part, payloads = payloads[:PART], payloads[PART:]
            self.connection.transport.write(joined(part, self._bits, batch=self.window_s > 0))
        self._set_write_now()
        if self.connection.is_full:
            self._hold(payloads)
        else:
            self._writable.set()

    def on_closing(self) -> None:
        """Note that a close frame was sent, or the connection closed: nothing may follow."""
        self.write_now = None
        self._writable.set()

    async def wait_until_writable(self) -> None:
        """Wait until the client reads, or is gone (see `is_open`)."""
        await self._writable.wait()

    def note_replay(self, topics: Iterable[str], log_id: str | None, replayed_to: int) -> None:
        """Note that stored events of ``topics`` up to ``replayed_to`` were sent: live ones up to it are repeats."""
        self.replayed_to, self.replayed, self._log = replayed_to, frozenset(topics), log_id
        self._overlap_ends_s = self._loop.time() + REPLAY_OVERLAP_S
        self.refresh()

    def check(self, now_s: float) -> None:
        """Close the connection if it was full for too long; remove the data of an old replay."""
        if self.replayed_to and now_s > self._overlap_ends_s:
            self.replayed_to, self.replayed, self._log = 0, frozenset(), None
            self.refresh()
        if not self._writable.is_set() and now_s - self._full_since_s > self._settings.slow_s:
            self.shut(CLOSE_SLOW, f"too slow: nothing read for {self._settings.slow_s:g} s")

    def shut(self, code: int, reason: str) -> None:
        """Close the connection with a reason; nothing is sent after it."""
        if self._closing is None:
            limited.write(logging.INFO, "%s: closed with %d: %s", self.name, code, reason)
            self.write_now = None
            self._closing = self._loop.create_task(self._close(code, reason))
            self._held, self._held_quotes = [], {}
            self._writable.set()

    async def _close(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(ABORT_S):
                await self.connection.close(code, reason)
        except TimeoutError:
            self.connection.transport.abort()

    def end(self) -> None:
        """Leave all groups, once the connection is closed."""
        self.symbols, self.topics = {}, {}
        self.refresh()


def window_bits(connection: GatewayConnection) -> int:
    """Return the size of the window that the client negotiated for what we compress; `PLAIN` for none."""
    for extension in connection.protocol.extensions:
        if isinstance(extension, PerMessageDeflate):
            return extension.local_max_window_bits
    return PLAIN
