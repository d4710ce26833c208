"""The bus contract, version 1: kinds, topics, bodies; pure, so readers import it too.

A message is two frames: topic (UTF-8) and body (one msgpack map with text keys). Every body has ``epoch`` (ms since
1970 when the daemon started), ``seq`` (1, 2, 3 … per topic within the epoch) and ``ts`` (ns since 1970, taken in the
callback). Durable events add ``offset`` (1, 2, 3 … over all of them, for ever): it names the event in the journal.
Readers ignore keys that they do not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgpack

from mt4pump.errors import FrameError
from mt4pump.mt4.codes import PumpCode
from mt4pump.unpacking import unpack

PROTOCOL = 1
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of event: the first part of its topic, and the field that the rest of the topic is.

    ``durable`` kinds must never be lost silently; ``codes`` are the pump codes that give rise to it.
    """

    name: str
    key: str
    codes: tuple[PumpCode, ...]
    durable: bool


QUOTE = Kind("quote", "symbol", (PumpCode.UPDATE_BIDASK,), durable=False)
TRADE = Kind("trade", "login", (PumpCode.UPDATE_TRADES,), durable=True)
USER = Kind("user", "login", (PumpCode.UPDATE_USERS,), durable=True)
ONLINE = Kind("online", "login", (PumpCode.UPDATE_ONLINE,), durable=True)
MARGIN = Kind("margin", "login", (PumpCode.UPDATE_MARGINCALL,), durable=True)
SYMBOL = Kind("symbol", "symbol", (PumpCode.UPDATE_SYMBOLS,), durable=True)
GROUP = Kind("group", "group", (PumpCode.UPDATE_GROUPS,), durable=True)
REQUEST = Kind("request", "login", (PumpCode.UPDATE_REQUESTS,), durable=True)
ACTIVATION = Kind("activation", "login", (PumpCode.UPDATE_ACTIVATION,), durable=True)
NEWS = Kind(
    "news",
    "key",
    (PumpCode.UPDATE_NEWS, PumpCode.UPDATE_NEWS_BODY, PumpCode.UPDATE_NEWS_NEW),
    durable=True,
)
MAIL = Kind("mail", "to", (PumpCode.UPDATE_MAIL,), durable=True)
PLUGIN = Kind("plugin", "name", (PumpCode.UPDATE_PLUGINS,), durable=True)
SESSION = Kind(
    "session",
    "state",
    (PumpCode.START_PUMPING, PumpCode.STOP_PUMPING, PumpCode.PING),
    durable=True,
)
UNKNOWN = Kind("unknown", "code", (), durable=False)
HEARTBEAT = Kind("heartbeat", "", (), durable=False)

KINDS = {
    kind.name: kind
    for kind in (
        QUOTE,
        TRADE,
        USER,
        ONLINE,
        MARGIN,
        SYMBOL,
        GROUP,
        REQUEST,
        ACTIVATION,
        NEWS,
        MAIL,
        PLUGIN,
        SESSION,
        UNKNOWN,
        HEARTBEAT,
    )
}

COMMON_KEYS = ("epoch", "seq", "ts")
"""Keys of every body."""
NUMBER_BITS = 63
NUMBER_MAX = 2**NUMBER_BITS - 1
"""The greatest epoch, seq, ts or offset: SQLite's, and that of most languages."""


OFFSET = "offset"
"""Key of a durable event's number in the journal; an event without it is not stored."""

SUFFIX_STAND_IN = "_"
"""What stands in a topic for a suffix character that is part of the key."""


def topic_of(kind: Kind, key: object, suffix: str = "") -> bytes:
    """Return the topic of an event: ``quote.EURUSD``, ``trade.1001``; ``heartbeat`` alone has no second part.

    ``suffix`` ends every topic when it is set, so that the prefix ``trade.100|`` means one account alone.
    """
    name = f"{kind.name}.{key}" if kind.key else kind.name
    if suffix:
        name = name.replace(suffix, SUFFIX_STAND_IN) + suffix
    return name.encode()


def kind_of(topic: bytes, suffix: bytes = b"") -> str:
    """Return the kind's name of ``topic``: what stands before its first dot."""
    return topic.partition(b".")[0].removesuffix(suffix).decode("utf-8", "replace")


def outermost(prefixes: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return ``prefixes`` sorted, without those that another one covers."""
    kept: list[bytes] = []
    for prefix in sorted(prefixes):  # a prefix is sorted before all that it covers, and these stand together
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return tuple(kept)


FIRST = 3
"""ZMQ_SNDMORE | ZMQ_DONTWAIT: more frames follow, and do not wait. A plain int, as this module knows no sockets."""


class Send(Protocol):
    """What sends one frame of a message."""

    def __call__(self, data: bytes, flags: int = 0, /) -> object:
        """Queue one frame; with `FIRST` the message goes on."""


class Outlet(Protocol):
    """Where messages go out frame by frame."""

    @property
    def send_frame(self) -> Send:
        """Return what sends one frame."""

    @property
    def full(self) -> type[Exception]:
        """Return what ``send_frame`` raises on a first frame while some subscriber's queue is full."""

    def resend(self, topic: bytes, body: bytes) -> None:
        """Send a message that ``full`` kept from going, past the full queues."""


class Encoder:
    """Packs bodies with one reused packer; for one thread only.

    ``epoch`` is ms since 1970; ``suffix`` ends every topic.
    """

    def __init__(self, epoch: int, suffix: str = "") -> None:
        self.epoch = epoch
        self.suffix = suffix
        self._pack = msgpack.Packer().pack

    def body(self, fields: Body, seq: int, ts: int) -> bytes:
        """Return the body of one event: ``fields`` and the common keys."""
        return self._packed({**fields, "epoch": self.epoch, "seq": seq, "ts": ts})

    def durable_body(self, fields: Body, seq: int, ts: int, offset: int) -> bytes:
        """Return the body of one event that is to be stored under ``offset``."""
        return self._packed({**fields, "epoch": self.epoch, "seq": seq, "offset": offset, "ts": ts})

    def without_offset(self, body: bytes) -> bytes:
        """Return a packed ``body`` without its offset, which must not be seen as it could not be stored."""
        fields = msgpack.unpackb(body)
        del fields[OFFSET]
        return self._packed(fields)

    def _packed(self, body: Body) -> bytes:
        try:
            packed: bytes = self._pack(body)
        except UnicodeEncodeError:  # half a pair of surrogates: told as ?. The packer that can costs half as much again
            packed = msgpack.packb(body, unicode_errors="replace")
        return packed


def decode_frames(frames: Sequence[bytes]) -> tuple[bytes, Body]:
    """Return topic and body of a received message; raises FrameError when it is not one of ours."""
    if len(frames) != 2:
        raise FrameError(f"a message has 2 frames, this one has {len(frames)}")
    topic, packed = frames
    try:
        body = unpack(packed)
    except FrameError as error:
        raise FrameError(f"body of {topic!r} is {error}") from error
    if not isinstance(body, dict) or not all(_is_count(body.get(key)) for key in COMMON_KEYS):
        raise FrameError(f"body of {topic!r} is not a map with {', '.join(COMMON_KEYS)}")
    return topic, body


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value is not True and value is not False and 0 <= value <= NUMBER_MAX
