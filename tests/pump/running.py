"""A pump with everything real but the Manager, and a subscriber of all that it publishes."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import zmq

from mt4pump.journal import Journal
from mt4pump.log import FaultCounters
from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import SYMBOL_INFO, TRADE_RECORD
from mt4pump.publisher.publisher import Publisher
from mt4pump.pump.dispatch import Dispatcher
from mt4pump.pump.event_writer import EventWriter
from mt4pump.pump.heartbeat import HeartbeatPublisher, ServerClock
from mt4pump.pump.inbox import Inbox
from mt4pump.pump.loop import Pump
from mt4pump.pump.session import Command, ManagerSession, SessionStatus
from mt4pump.settings import Settings
from mt4pump.wire import KINDS, Encoder
from tests.bus import LIMIT_S, Message, receive, subscriber, until, wire_settings
from tests.fake_manager import FakeManager

EPOCH = 1_700_000_000_000
START, STOP, TRADES, BIDASK = (
    *(PumpCode.START_PUMPING, PumpCode.STOP_PUMPING),
    *(PumpCode.UPDATE_TRADES, PumpCode.UPDATE_BIDASK),
)


def quote(symbol: str = "EURUSD", **values: Any) -> bytes:
    return SYMBOL_INFO.pack({"symbol": symbol, "digits": 5, "bid": 1.1, "ask": 1.2, "lasttime": 1, **values})


def trade(order: int, **values: Any) -> bytes:
    return TRADE_RECORD.pack({"order": order, "login": 100, **values})


@dataclass
class RunningPump:
    """A pump, its inbox, and a subscriber that asked for everything; the pump thread runs after `begin`."""

    own: zmq.Context[zmq.Socket[bytes]]
    limit: int = 1000
    heartbeat_interval_s: float = 0.01
    log_summary_interval_s: float = 1000.0
    status: SessionStatus = field(default_factory=lambda: SessionStatus("pumping", 5, "one:443", "", 2))
    reconcile_interval_s: float = 0.0
    journal: Journal | None = None
    anchored: int = 0
    slice_s: float = math.inf

    def __post_init__(self) -> None:
        self.manager = FakeManager()
        self.session = ManagerSession(self.manager, "one:443", 7)
        self.inbox = Inbox(self.limit)
        self.publisher = Publisher(self.own, wire_settings(linger_s=LIMIT_S))
        self.fault_counters = FaultCounters(logging.getLogger("test.pump"))
        durable = [kind.name for kind in KINDS.values() if kind.durable]
        self.writer = EventWriter(Encoder(EPOCH), self.publisher, self.journal, durable)
        intervals_s = {
            "heartbeat_interval_s": self.heartbeat_interval_s,
            "log_summary_interval_s": self.log_summary_interval_s,
        }
        settings = Settings(source="simulator").model_copy(update=intervals_s)
        self.dispatcher = Dispatcher(self.writer, settings, self.fault_counters, slice_s=self.slice_s)
        self.heartbeat = HeartbeatPublisher(
            inbox=self.inbox,
            dispatcher=self.dispatcher,
            server_clock=ServerClock(),
            status=lambda: self.status,
            source_counters=lambda: {"pinned_threads": 1},
            query_counters=dict,
            deleted_files={},
            settings=settings,
        )
        self.pump = Pump(
            self.inbox,
            self.dispatcher,
            self.heartbeat,
            reconcile_interval_s=self.reconcile_interval_s,
            anchor_clock=self._anchor,
        )
        self.socket = subscriber(self.own, self.publisher.endpoint, b"")
        self.received: list[Message] = []

    def _anchor(self) -> None:
        self.anchored += 1

    def begin(self) -> RunningPump:
        """Start the thread and return once the subscriber receives it."""
        self.pump.start()
        self.next("heartbeat")
        return self

    def attach(self) -> RunningPump:
        """Begin with a session that has started and read its tables."""
        self.begin()
        self.inbox.put_command(Command.ATTACH, self.session)
        self.inbox.notify(START, 0, b"")
        self.next("session.start")
        self.next_heartbeat()  # START is handled: all reads have begun
        until(lambda: not self.dispatcher.is_reading_baseline, "the tables are read")
        return self

    def next(self, topic: str, where: Callable[[Message], object] = lambda _message: True) -> Message:
        """Return the next message of ``topic`` that is wanted; ``received`` keeps all that was read."""
        deadline_s = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline_s:
            message = receive(self.socket)
            self.received.append(message)
            if message.topic == topic and where(message):
                return message
        raise AssertionError(f"no such message on {topic}")

    def next_heartbeat(self, where: Callable[[dict[str, Any]], object] = lambda _body: True) -> dict[str, Any]:
        """Return the body of the next heartbeat that is wanted."""
        return self.next("heartbeat", lambda message: where(message.body)).body

    def finish(self) -> None:
        """Send FINISH to the pump and wait for its thread."""
        self.inbox.put_command(Command.FINISH, None)
        if self.pump.ident is not None:
            self.pump.join(LIMIT_S)
            assert not self.pump.is_alive(), "the pump did not finish"


def held_in_a_read(running: RunningPump) -> Event:
    """Keep the pump thread inside a read of the users' table; return what lets it go."""
    let_go = Event()
    running.manager.entered["table users"].clear()
    running.manager.holds["table users"] = let_go
    running.inbox.notify(PumpCode.UPDATE_USERS, 0, b"")
    assert running.manager.entered["table users"].wait(LIMIT_S)
    return let_go
