"""A stream and a model of its daemon without sockets, for the tests of the client's pure core."""

from __future__ import annotations

from typing import Any

import msgpack

from mt4pump.client.event import Checkpoint, Event, Frames, Notice
from mt4pump.client.events import Quote
from mt4pump.client.liveness import HeartbeatMonitor
from mt4pump.client.ordering import StreamOptions
from mt4pump.client.position import Position, PositionTracker
from mt4pump.client.query import QueryError, unpacked
from mt4pump.client.stream import Stream
from mt4pump.client.topic_state import SubscriptionSet
from tests.client.daemon_model import DaemonModel


class Harness:
    """A stream and a model of its daemon; the test passes each message on."""

    def __init__(
        self,
        *topics: str,
        model: DaemonModel | None = None,
        resume: Position | None = None,
        options: StreamOptions | None = None,
    ) -> None:
        self.model = model or DaemonModel()
        monitor = HeartbeatMonitor(silence_s=5, lag_limit=100_000, lag_limit_s=10)
        subscriptions = SubscriptionSet(topics or ("*",))
        self.stream = Stream(subscriptions, monitor, options or StreamOptions(), resume)
        self.now_s = 100.0
        self.items: list[Any] = []
        self.answering = True
        self.tracker = PositionTracker()
        self._answered = 0
        self.stream.set_connected(self.now_s)

    def receive(self, *messages: Frames) -> None:
        self.now_s += 0.01
        self.stream.handle(messages, self.now_s, self.model.ts)
        self.stream.set_drained(self.now_s)
        self.stream.recovery.tick(self.now_s)
        self.answer_all()

    def answer_all(self) -> None:
        """Answer what is asked until nothing is."""
        while self.answering and self.ask() is not None:
            self.answer()
        self.collect()

    def ask(self) -> Any:
        return self.stream.recovery.ask if self._answered != self.stream.recovery.number else None

    def answer(self) -> None:
        """Answer the one request that is open."""
        self.deliver_reply(self.make_reply())

    def answer_until(self, op: str) -> None:
        """Answer one request after the other until one with this ``op`` is open."""
        while self.ask().op != op:
            self.answer()

    def make_reply(self) -> list[bytes]:
        """Return what the daemon says now to the one request that is open; it is still on its way."""
        ask, self._answered = self.ask(), self.stream.recovery.number
        return self.model.answer(msgpack.unpackb(ask.packed(self._answered)))

    def deliver_reply(self, frames: list[bytes]) -> None:
        """Let a reply come."""
        try:
            reply = unpacked(frames)
        except QueryError as refusal:
            self.stream.recovery.handle_failure(self._answered, refusal.code, str(refusal), self.now_s)
        else:
            self.stream.recovery.handle_reply(self._answered, reply, self.now_s)

    def refuse(self, code: str = "timeout") -> None:
        self._answered = self.stream.recovery.number
        self.stream.recovery.handle_failure(self._answered, code, "refused by the test", self.now_s)
        self.collect()

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.stream.recovery.tick(self.now_s)
        self.answer_all()

    def collect(self) -> None:
        for item in self.stream.out:
            if isinstance(item, Event):
                self.tracker.hand_over(item)
            elif isinstance(item, Checkpoint):
                self.tracker.confirm(item)
            self.items.append(item)
        self.stream.out.clear()

    def reconnect(self) -> None:
        self.stream.set_disconnected()
        self.stream.set_connected(self.now_s)

    def go_live(self) -> None:
        """Get to the point where heartbeats can be clean, and keep all that was handed over."""
        for _ in range(4):
            self.receive(self.model.heartbeat())

    def live(self) -> Harness:
        """Get to the point where heartbeats can be clean."""
        self.go_live()
        self.items.clear()
        return self

    def events(self, kind: str = "") -> list[tuple[str, int]]:
        found = [item for item in self.items if isinstance(item, Event) and not item.snapshot]
        return [
            (event.topic, event.seq) for event in found if event.topic.startswith(kind) and event.kind != "heartbeat"
        ]

    def quotes(self, symbol: str = "") -> list[tuple[float, bool]]:
        """Return bid and ``snapshot`` of each quote that was handed over."""
        found = [item for item in self.items if isinstance(item, Quote) and symbol in {"", item.symbol}]
        return [(quote.bid, quote.snapshot) for quote in found]

    def events_of(self, topic: str) -> list[tuple[str, int]]:
        return [event for event in self.events() if event[0] == topic]

    def offsets(self, topic: str = "") -> list[int]:
        events = [item for item in self.items if isinstance(item, Event) and not item.snapshot]
        return [each.offset for each in events if each.offset is not None and topic in {"", each.topic}]

    def notices(self, *kinds: str) -> list[tuple[str, str, int]]:
        found = [item for item in self.items if isinstance(item, Notice)]
        return [(each.kind, each.topic, each.count) for each in found if not kinds or each.kind in kinds]
