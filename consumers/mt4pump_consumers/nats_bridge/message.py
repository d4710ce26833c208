"""What goes onto NATS: an event's body as it is, its subject, and headers that identify it; pure.

Every message has ``Mt4pump-Epoch``, ``Mt4pump-Seq`` and ``Mt4pump-Ts``. In JetStream, ``Nats-Msg-Id`` is the event's
identity: ``LOG:OFFSET`` (also in ``Mt4pump-Log`` and ``Mt4pump-Offset``). An event that the daemon could not store has
no offset: its id is ``EPOCH:TOPIC:SEQ``, and ``Mt4pump-After`` has the offset after which it was published.

A subject equals its topic (``quote.EURUSD``, ``trade.1001``), behind the prefix if one is set. What a subject cannot
hold is written as in a URL, ``%`` and two hexadecimal digits: spaces and control characters, ``*``, ``>``, ``%``
itself, and a dot that would leave a token empty: ``quote.EURUSD.`` is ``quote.EURUSD%2E``. A dot within a key stays:
``quote.EURUSD.m`` is three tokens, so subscribe to ``quote.>`` rather than ``quote.*``. An empty key is a single
``%``.

In place of an event that NATS refuses for ever goes a stub, so that all others go on. It has the event's subject, id
and headers, and one header more, ``Mt4pump-Quarantined``, which says why. Its body is a small map: ``topic``,
``epoch``, ``seq``, ``ts``, ``log`` and ``offset`` (nil: none), ``size_bytes`` of the body that was refused, and
``quarantined``, the reason again. ``mt4pump replay`` still has the event itself.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

import msgpack

from mt4pump.client import Event

EMPTY = "%"
"""Stands for a key that is empty; an escape would have two digits behind it."""
ESCAPED = re.compile(r"[\x00-\x20\x7f*>%]|^\.|\.(?=\.|$)")
REMEMBERED = 65_536
SESSION, PING = "session", "session.ping"
DURABLE_SESSION = ("session.start", "session.stop")


@lru_cache(maxsize=REMEMBERED)
def subject_of(topic: str, prefix: str = "") -> str:
    """Return the subject of a topic."""
    kind, dot, key = topic.partition(".")
    subject = _escape(kind) + dot + ((_escape(key) or EMPTY) if dot else "")
    return f"{prefix}.{subject}" if prefix else subject


def topic_of(subject: str, prefix: str = "") -> str:
    """Return the topic of a subject that `subject_of` made with the same prefix."""
    if prefix:
        subject = subject.removeprefix(f"{prefix}.")
    kind, dot, key = subject.partition(".")
    return unquote(kind) + dot + ("" if key == EMPTY else unquote(key))


def stream_subjects(kinds: Iterable[str], prefix: str = "") -> list[str]:
    """Return the subjects that a stream of these durable kinds listens to; ``session.ping`` is not stored."""
    subjects: list[str] = []
    for kind in sorted(kinds):
        subjects += DURABLE_SESSION if kind == SESSION else (f"{kind}.>",)
    return [f"{prefix}.{subject}" if prefix else subject for subject in subjects]


def _escape(text: str) -> str:
    return ESCAPED.sub(lambda found: f"%{ord(found[0]):02X}", text)


MSG_ID = "Nats-Msg-Id"
EPOCH, SEQ, TS = "Mt4pump-Epoch", "Mt4pump-Seq", "Mt4pump-Ts"
LOG, OFFSET, AFTER = "Mt4pump-Log", "Mt4pump-Offset", "Mt4pump-After"


class Message(NamedTuple):
    """``unstored`` is the event itself if the daemon's journal does not have it: nothing could read it again."""

    subject: str
    payload: bytes
    headers: dict[str, str]
    unstored: Event | None = None


class LogPosition(NamedTuple):
    """How far a stream is: every event of ``log`` up to ``offset``. ``epoch`` and ``ts`` (ns) are its last event's."""

    log: str
    offset: int
    epoch: int
    ts: int


def headers_of(event: Event) -> dict[str, str]:
    """Return the headers that every message has."""
    return {EPOCH: str(event.epoch), SEQ: str(event.seq), TS: str(event.ts)}


def stored_message(event: Event, log: str, prefix: str) -> Message:
    """Return the message for an event that has an offset in ``log``."""
    offset = str(event.offset)
    headers = {**headers_of(event), MSG_ID: f"{log}:{offset}", LOG: log, OFFSET: offset}
    return Message(subject_of(event.topic, prefix), event.frames[1], headers)


def unstored_message(event: Event, log: str, after: int, prefix: str) -> Message:
    """Return the message for an event without an offset, published when the stream was at ``after`` of ``log``."""
    subject = subject_of(event.topic, prefix)
    headers = headers_of(event)
    headers[MSG_ID] = f"{event.epoch}:{subject}:{event.seq}"
    if log:
        headers[LOG], headers[AFTER] = log, str(after)
    return Message(subject, event.frames[1], headers, event)


def log_position_of(headers: Mapping[str, str] | None) -> LogPosition | None:
    """Return how far the stream was with the message of these headers; None when the message is not ours."""
    if not headers:
        return None
    try:
        epoch, ts = int(headers[EPOCH]), int(headers[TS])
        offset = int(headers.get(OFFSET) or headers.get(AFTER) or 0)
    except (KeyError, ValueError):
        return None
    return LogPosition(headers.get(LOG, ""), offset, epoch, ts)


class JetStreamRetry(Exception):
    """The text says what happened and, where there is something to do, what.

    ``is_quiet``: it belongs to the normal course (a daemon's restart, an answer in doubt), and is no cause for alarm.
    ``refused_id`` is the id of the one message that JetStream refused for its own sake; empty: it was something else.
    """

    def __init__(self, text: str, *, is_quiet: bool = False, refused_id: str = "") -> None:
        super().__init__(text)
        self.is_quiet = is_quiet
        self.refused_id = refused_id


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
