"""The handlers between inbox and socket, with a Manager in memory and a real subscriber."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mt4pump.log import FaultCounters
from mt4pump.mt4.codes import PumpCode
from mt4pump.pump.dispatch import Dispatcher
from mt4pump.pump.event_writer import EventWriter
from mt4pump.pump.session import FAULTS, ManagerSession, count_fault
from mt4pump.settings import Settings
from mt4pump.wire import COMMON_KEYS, Body, Encoder
from tests.bus import Bus, Message, bus
from tests.fake_manager import FakeManager

EPOCH = 1_700_000_000_000
START, STOP = PumpCode.START_PUMPING, PumpCode.STOP_PUMPING


class Harness:
    """A `Dispatcher` without a pump thread. Each record has the next ``ts``."""

    def __init__(self, made: Bus, settings: Settings) -> None:
        self.bus = made
        self.fault_counters = FaultCounters(logging.getLogger("test.dispatcher"))
        self.writer = EventWriter(Encoder(EPOCH), made.publisher)
        self.dispatcher = Dispatcher(self.writer, settings, self.fault_counters)
        self.manager = FakeManager()
        self.session = ManagerSession(self.manager, "one:443", 7)
        self.ts = 1000

    def events_after(self, code: int, action: int = 0, data: bytes = b"") -> list[Message]:
        """Handle one raw record; return the events that were published."""
        self.ts += 1
        self.handle(code, action, data, self.ts)
        return self.bus.events()

    def handle(self, code: int, action: int, data: bytes, ts: int) -> None:
        """Handle one raw record as the loop does."""
        try:
            if code == PumpCode.UPDATE_BIDASK:
                updated_quotes = self.dispatcher.current.manager.updated_quotes
                self.dispatcher.quotes.drain(updated_quotes, ts, self.bus.publisher)
            else:
                self.dispatcher.handle(code, action, data, ts)
        except FAULTS as fault:
            count_fault(self.fault_counters, f"pump code {code}", fault)

    def attach(self) -> None:
        """Give the dispatcher a session that has not started yet."""
        self.dispatcher.current.attach(self.session)

    def start(self) -> list[Message]:
        """Have a session begin."""
        self.attach()
        return self.events_after(START)

    def reconnect(self, prepare: Callable[[FakeManager], object] = lambda _manager: None) -> list[Message]:
        """Lose the session and attach a new Manager with the same tables; return what the loss published."""
        self.ts += 1
        self.dispatcher.detach(self.session, "lost by the test", self.ts)
        tables = self.manager.tables
        self.manager = FakeManager()
        self.manager.tables = dict(tables)
        prepare(self.manager)
        self.session = ManagerSession(self.manager, "two:443", 7)
        self.attach()
        return self.bus.events()


@contextmanager
def open_harness(*prefixes: bytes, **options: Any) -> Iterator[Harness]:
    """Give a `Harness` whose subscriber asked for ``prefixes`` (none: everything)."""
    with bus(*prefixes) as made:
        assert options.keys() <= Settings.model_fields.keys()
        yield Harness(made, Settings.model_construct(**options))


def own(message: Message) -> Body:
    """Return a body without the keys that all bodies have."""
    return {name: value for name, value in message.body.items() if name not in COMMON_KEYS}


def seen(messages: list[Message], *names: str) -> list[tuple[Any, ...]]:
    """Return topic and the named values of each message; what a body lacks is None."""
    return [(message.topic, *(message.body.get(name) for name in names)) for message in messages]
