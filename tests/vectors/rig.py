"""Runs a case on the real rooms between callback and socket, and gives the raw frames that a subscriber received."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgpack

from mt4pump.mt4.layout import SYMBOL_INFO
from mt4pump.pump.session import ManagerSession
from mt4pump.wire import KINDS, topic_of
from tests.bus import FENCE, SYNC, Bus
from tests.fake_manager import FakeManager
from tests.pump.harness import Harness, open_harness
from tests.vectors.case import Case, Step
from tests.vectors.plain import unplain

Frames = list[bytes]
SERVERS = ("one:443", "two:443")
LOGIN = 7


def run(one: Case) -> list[Frames]:
    """Return the messages of a case's steps, each topic and body."""
    options = {name: value for name, value in one.settings.items() if name != "topic_suffix"}
    with open_harness(**options) as made:
        made.writer.encoder.suffix = one.settings.get("topic_suffix", "")
        rig = Rig(made)
        for step in one.setup:
            rig.take(step)
        received(made.bus)
        for step in one.steps:
            rig.take(step)
        return received(made.bus)


def received(bus: Bus) -> list[Frames]:
    """Return every raw message since the last call: all that comes before a fence sent now."""
    bus.publisher.send(FENCE, msgpack.packb({"epoch": 0, "seq": 0, "ts": 0}))
    messages: list[Frames] = []
    while (frames := bus.socket.recv_multipart())[0] != FENCE:
        if frames[0] != SYNC:
            messages.append(frames)
    return messages


def data_of(step: Step) -> bytes:
    """Return a step's record, and what lies behind it."""
    record = bytes.fromhex(step["data"]["hex"]) if "data" in step else b""
    return record + bytes.fromhex(step.get("behind", ""))


def array_of(step: Step) -> bytes:
    """Return a step's records in one piece."""
    return b"".join(bytes.fromhex(record["hex"]) for record in step["records"])


class Rig:
    """Takes the steps of a case one by one; a session is attached from the start."""

    def __init__(self, made: Harness) -> None:
        self._stand = made
        made.session = ManagerSession(made.manager, SERVERS[0], LOGIN)
        made.attach()

    def take(self, step: Step) -> None:
        """Do what the step says."""
        getattr(self, f"_{step['do']}")(step)

    def _call(self, step: Step) -> None:
        self._stand.handle(step["code"], step["action"], data_of(step), step["ts"])

    def _table(self, step: Step) -> None:
        self._stand.manager.tables[step["table"]] = array_of(step)

    def _quotes(self, step: Step) -> None:
        records, size = array_of(step), SYMBOL_INFO.size
        self._stand.manager.quotes = deque(records[at : at + size] for at in range(0, len(records), size))

    def _mail(self, step: Step) -> None:
        self._stand.manager.mail = data_of(step)

    def _news_body(self, step: Step) -> None:
        self._stand.manager.bodies[step["key"]] = bytes.fromhex(step["text"])

    def _parameters(self, step: Step) -> None:
        self._stand.manager.parameters[step["position"]] = array_of(step)

    def _lost(self, step: Step) -> None:
        made, before = self._stand, self._stand.manager
        made.dispatcher.detach(made.session, step["reason"], step["ts"])
        made.manager = FakeManager()
        made.manager.tables = dict(before.tables)
        made.session = ManagerSession(made.manager, SERVERS[1], LOGIN)
        made.attach()

    def _publish(self, step: Step) -> None:
        fields: dict[str, Any] = unplain(step["fields"])
        encoder, kind = self._stand.writer.encoder, KINDS[step["kind"]]
        if "offset" in step:
            body = encoder.durable_body(fields, step["seq"], step["ts"], step["offset"])
        else:
            body = encoder.body(fields, step["seq"], step["ts"])
        self._stand.bus.publisher.send(topic_of(kind, step["key"], encoder.suffix), body)
