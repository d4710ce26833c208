"""What goes onto NATS: an event's body as it is, its subject, and headers that identify it; pure.

Every message has ``Mt4pump-Epoch``, ``Mt4pump-Seq`` and ``Mt4pump-Ts``. In JetStream, ``Nats-Msg-Id`` is the event's
identity: ``LOG:OFFSET`` (also in ``Mt4pump-Log`` and ``Mt4pump-Offset``). An event that the daemon could not store has
no offset: its id is ``EPOCH:TOPIC:SEQ``, and ``Mt4pump-After`` has the offset after which it was published.

A subject equals its topic (``quote.EURUSD``, ``trade.1001``), behind the prefix if one is set. What a subject cannot
hold is written as in a URL, ``%`` and two hexadecimal digits: spaces and control characters, ``*``, ``>``, ``%``
itself, and a dot that would leave a token empty: ``quote.EURUSD.`` is ``quote.EURUSD%2E``. A dot within a key stays:
``quote.EURUSD.m`` is three tokens, so subscribe to ``quote.>`` rather than ``quote.*``. An empty key is a single
``%``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

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
    headers = headers_of(event)
    headers[MSG_ID] = f"{log}:{event.offset}"
    headers[LOG], headers[OFFSET] = log, str(event.offset)
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
