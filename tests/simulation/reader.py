"""A client without sockets: the real `Stream`, and what `mt4pump.client.reader` does around it, in virtual time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from mt4pump.client.event import Checkpoint, Event, Notice
from mt4pump.client.liveness import HeartbeatMonitor
from mt4pump.client.ordering import StreamOptions
from mt4pump.client.position import Position, PositionTracker
from mt4pump.client.query import QueryError, unpacked
from mt4pump.client.stream import HEARTBEAT_TOPIC, Stream
from mt4pump.client.topic_state import SubscriptionSet
from tests.simulation.wire import Clock, Connection, Frames

QUERY_TIMEOUT_S = 5.0
Item = Event | Notice | Checkpoint
MakeStream = Callable[[SubscriptionSet, HeartbeatMonitor, StreamOptions, Position | None], Stream]


class Reader:
    """One run of one reader. ``on_item`` is called with each item that the user gets, in order.

    ``request`` is on its way to the daemon, ``reply`` on its way back.
    """

    def __init__(
        self,
        name: str,
        topics: tuple[str, ...],
        clock: Clock,
        options: StreamOptions,
        *,
        resume: Position | None,
        on_item: Callable[[Item], None],
        make_stream: MakeStream = Stream,
    ) -> None:
        self.name = name
        self.topics = topics
        self.clock = clock
        monitor = HeartbeatMonitor(silence_s=5, lag_limit=100_000, lag_limit_s=10)
        self.stream = make_stream(SubscriptionSet(topics), monitor, options, resume)
        self.tracker = PositionTracker()
        if resume is not None:
            self.tracker.start(resume)
        self.connection: Connection | None = None
        self.arrived: deque[Frames] = deque()
        self.request: tuple[int, bytes] | None = None
        self.reply: tuple[int, list[bytes]] | None = None
        self.gave_up = False
        self._on_item = on_item
        self._asked = 0
        self._asked_at_s = 0.0
        self._broke = self._made = False

    def connect(self, random: Random, limit: int) -> Connection:
        """Make a connection; its subscriptions reach the daemon in any order, the heartbeat's last."""
        prefixes = sorted(self.stream.ordering.subscriptions.subscriptions() - {HEARTBEAT_TOPIC})
        random.shuffle(prefixes)
        self.stream.changed_subscriptions()
        self.connection = Connection([*prefixes, HEARTBEAT_TOPIC], limit)
        self._made = True
        return self.connection

    def lose_connection(self, random: Random) -> None:
        """Lose the connection, and what was still on its way."""
        if self.connection is not None:
            self.arrived += self.connection.end(random.randrange(len(self.connection.queue) + 1))
            self.connection = None
            self._broke, self._made = True, False

    def run_once(self, count: int) -> int:
        """Read up to ``count`` messages and do all else that is due; return how many there were."""
        stream = self.stream
        if self._broke:
            stream.set_disconnected()
        if self._made:
            stream.set_connected(self.clock.now_s())
        self._broke = self._made = False
        messages, drained = ([], False) if stream.is_full else self._read(count)
        if messages:
            stream.handle(messages, self.clock.now_s(), self.clock.now_ns())
        if drained and not stream.is_full:
            stream.set_drained(self.clock.now_s())
        self._receive_reply()
        stream.recovery.tick(self.clock.now_s())
        self._ask()
        self._hand_over()
        return len(messages)

    @property
    def position(self) -> Position | None:
        """Return where another run of this reader would go on."""
        return self.tracker.position(with_current=True) if self.tracker.is_known else None

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is under way."""
        waiting = self.arrived or (self.connection and self.connection.queue)
        return not (waiting or self.stream.ordering.held or self.stream.recovery.ask or self.request or self.reply)

    def _read(self, count: int) -> tuple[list[Frames], bool]:
        messages: list[Frames] = []
        for queue in (self.arrived, self.connection.queue if self.connection else deque[Frames]()):
            while queue and len(messages) < count:
                messages.append(queue.popleft())
        drained = not self.arrived and not (self.connection and self.connection.queue)
        return messages, drained

    def _receive_reply(self) -> None:
        stream, now_s = self.stream, self.clock.now_s()
        if self.reply is not None:
            number, frames = self.reply
            self.reply = None
            if number != self._asked:
                return
            self._asked_at_s = 0.0
            try:
                reply = unpacked(frames)
            except QueryError as refusal:
                stream.recovery.handle_failure(number, refusal.code, str(refusal), now_s)
            else:
                stream.recovery.handle_reply(number, reply, now_s)
        elif self._asked_at_s and now_s - self._asked_at_s > QUERY_TIMEOUT_S:
            self.request, self._asked_at_s = None, 0.0
            stream.recovery.handle_failure(self._asked, "timeout", "no answer", now_s)

    def _ask(self) -> None:
        ask, number = self.stream.recovery.ask, self.stream.recovery.number
        if ask is not None and self._asked != number:
            self._asked, self._asked_at_s = number, self.clock.now_s()
            self.request, self.reply = (number, ask.packed(number)), None

    def _hand_over(self) -> None:
        self.gave_up |= self.stream.recovery.has_given_up
        out = self.stream.out
        while out:
            item = out.popleft()
            if isinstance(item, Event):
                self.tracker.hand_over(item)
            elif isinstance(item, Checkpoint):
                self.tracker.confirm(item)
            self._on_item(item)
