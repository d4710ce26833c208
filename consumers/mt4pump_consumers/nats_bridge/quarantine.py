"""Events that NATS refuses for ever: a stub takes the place of each, so that all others go on.

The stub has the event's subject, id and headers, and one header more, ``Mt4pump-Quarantined``, which says why. Its body
is a small map: ``topic``, ``epoch``, ``seq``, ``ts``, ``log`` and ``offset`` (nil: none), ``size_bytes`` of the body
that was refused, and ``quarantined``, the reason again. ``mt4pump replay`` still has the event itself.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from typing import NamedTuple

import msgpack

from mt4pump_consumers.nats_bridge.journal import JetStreamRetry
from mt4pump_consumers.nats_bridge.message import EPOCH, LOG, MSG_ID, OFFSET, SEQ, TS, Message, topic_of

QUARANTINED = "Mt4pump-Quarantined"
CONTROL_LINE_BYTES = 4_096
"""Subject, reply and sizes of a message: nats-server's ``max_control_line``, which it does not report."""
FRAMING_BYTES = 32
REPLY_BYTES = 96
ADDED_BYTES = 256
"""What `PublishQueue` adds: two headers with the stream's name and a number."""
TOPIC_SHOWN, KNOWN_LIMIT = 200, 1_000
REFUSALS = 5
"""Refusals of one event in a row after which its stub is tried; after so many of the stub, the event again."""

log = logging.getLogger(__name__)


class QuarantineLimits(NamedTuple):
    """What the server takes: bytes of headers and body together (``max_payload``, ``max_msg_size``; 0: no limit)."""

    max_payload: int = 0
    max_msg_size: int = 0

    def objection(self, message: Message) -> str:
        """Return why the server would never take ``message``; empty: it may."""
        if len(message.subject.encode()) + REPLY_BYTES + FRAMING_BYTES > CONTROL_LINE_BYTES:
            return f"its subject is longer than a control line of {CONTROL_LINE_BYTES} bytes allows"
        size = size_of(message) + ADDED_BYTES
        if self.max_payload and size > self.max_payload:
            return f"it needs {size} bytes, and max_payload of the NATS server is {self.max_payload}"
        if self.max_msg_size > 0 and size > self.max_msg_size:
            return f"it needs {size} bytes, and max_msg_size of the stream is {self.max_msg_size}"
        return ""


class Quarantine:
    """Decides which messages go out as stubs. ``counts``: ``quarantined``, each event once."""

    def __init__(self, counts: Counter[str], prefix: str) -> None:
        self._counts = counts
        self._prefix = prefix
        self._known: deque[str] = deque(maxlen=KNOWN_LIMIT)
        self._refused = ("", 0)
        self._replaced = ""
        self._reason = ""

    def note(self, retry: JetStreamRetry) -> None:
        """Take note of what ended an attempt: an event that is refused again and again is replaced by its stub."""
        if not retry.refused_id:
            return
        before, count = self._refused
        count = count + 1 if retry.refused_id == before else 1
        self._refused = (retry.refused_id, count)
        if count < REFUSALS:
            return
        self._refused = ("", 0)
        self._replaced = "" if self._replaced == retry.refused_id else retry.refused_id
        self._reason = f"it was refused {count} times: {retry}"

    def replace_refused(self, message: Message, limits: QuarantineLimits) -> Message:
        """Return ``message``, or the stub that goes out for it; raises JetStreamRetry if the stub is too large, too."""
        reason = limits.objection(message)
        if not reason and message.headers[MSG_ID] == self._replaced:
            reason = self._reason
        if not reason:
            return message
        stub = stub_of(message, reason, self._prefix)
        if objection := limits.objection(stub):
            raise JetStreamRetry(
                f"not even a stub of {message.headers[MSG_ID]} can be stored: {objection}: raise that limit"
            )
        self._count(message, reason)
        return stub

    def _count(self, message: Message, reason: str) -> None:
        """Count and log each event once, however often it goes out."""
        name = message.headers[MSG_ID]
        if name in self._known:
            return
        self._known.append(name)
        self._counts["quarantined"] += 1
        log.error(
            "%s (%.200s) cannot be stored in JetStream: %s; a stub is stored instead, mt4pump replay has the event",
            name,
            message.subject,
            reason,
        )


def size_of(message: Message) -> int:
    """Return the bytes of headers and body, as NATS counts them."""
    text = "".join([*message.headers, *message.headers.values()])  # one encoding: this runs for every event
    lines = len(text.encode()) + len(": \r\n") * len(message.headers)
    return len("NATS/1.0\r\n\r\n") + lines + len(message.payload)


def stub_of(message: Message, reason: str, prefix: str) -> Message:
    """Return what is stored instead of ``message``; under ``KIND.%`` where the subject itself is too long."""
    subject, headers = message.subject, message.headers
    topic = topic_of(subject, prefix)
    if len(subject.encode()) > CONTROL_LINE_BYTES // 2:
        subject = f"{f'{prefix}.' if prefix else ''}{topic.partition('.')[0]}.%"
    offset = headers.get(OFFSET)
    body = {
        "topic": topic[:TOPIC_SHOWN],
        "epoch": int(headers[EPOCH]),
        "seq": int(headers[SEQ]),
        "ts": int(headers[TS]),
        "log": headers.get(LOG),
        "offset": None if offset is None else int(offset),
        "size_bytes": len(message.payload),
        "quarantined": reason,
    }
    return Message(subject, msgpack.packb(body), {**headers, QUARANTINED: reason}, message.unstored)
