"""What goes onto NATS: an event's body as it is, and headers that say which one it is; pure.

Every message has ``Mt4pump-Epoch``, ``Mt4pump-Seq`` and ``Mt4pump-Ts``. In JetStream, ``Nats-Msg-Id`` is the event's
identity: ``LOG:OFFSET`` (also in ``Mt4pump-Log`` and ``Mt4pump-Offset``). An event that the daemon could not store has
no offset: its id is ``EPOCH:TOPIC:SEQ``, and ``Mt4pump-After`` says behind which offset it was published.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mt4pump.client import Event
from mt4pump_consumers.nats_bridge.subjects import subject_of

MSG_ID = "Nats-Msg-Id"
EPOCH, SEQ, TS = "Mt4pump-Epoch", "Mt4pump-Seq", "Mt4pump-Ts"
LOG, OFFSET, AFTER = "Mt4pump-Log", "Mt4pump-Offset", "Mt4pump-After"


class Message(NamedTuple):
    """``loose`` is the event itself where the daemon's journal does not have it: nobody else could bring it again."""

    subject: str
    payload: bytes
    headers: dict[str, str]
    loose: Event | None = None


class Place(NamedTuple):
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


def loose_message(event: Event, log: str, after: int, prefix: str) -> Message:
    """Return the message for an event without an offset, published when the stream was at ``after`` of ``log``."""
    subject = subject_of(event.topic, prefix)
    headers = headers_of(event)
    headers[MSG_ID] = f"{event.epoch}:{subject}:{event.seq}"
    if log:
        headers[LOG], headers[AFTER] = log, str(after)
    return Message(subject, event.frames[1], headers, event)


def place_of(headers: Mapping[str, str] | None) -> Place | None:
    """Return how far the stream was with the message of these headers; None when the message is not ours."""
    if not headers:
        return None
    try:
        epoch, ts = int(headers[EPOCH]), int(headers[TS])
        offset = int(headers.get(OFFSET) or headers.get(AFTER) or 0)
    except (KeyError, ValueError):
        return None
    return Place(headers.get(LOG, ""), offset, epoch, ts)
