"""The wire protocol, version 1: kinds, topics, bodies; pure, because readers import it too.

A message is two frames: topic (UTF-8) and body (one msgpack map with text keys). Every body has ``epoch`` (ms since
1970 when the daemon started), ``seq`` (1, 2, 3 … per topic within the epoch) and ``ts`` (ns since 1970, taken in the
callback). Durable events add ``offset`` (1, 2, 3 … over all durable events and epochs), which identifies the event in
the journal. Readers ignore unknown keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import msgpack

from mt4pump.mt4.codes import PumpCode

PROTOCOL = 1
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of event. A topic is ``name.<value of the field key>``; ``codes`` are the pump codes that cause events.

    A loss of a ``durable`` event is always reported. `mt4pump.protocol` describes the bodies.
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
NEWS = Kind("news", "key", (PumpCode.UPDATE_NEWS, PumpCode.UPDATE_NEWS_BODY, PumpCode.UPDATE_NEWS_NEW), durable=True)
MAIL = Kind("mail", "to", (PumpCode.UPDATE_MAIL,), durable=True)
PLUGIN = Kind("plugin", "name", (PumpCode.UPDATE_PLUGINS,), durable=True)
SESSION = Kind("session", "state", (PumpCode.START_PUMPING, PumpCode.STOP_PUMPING, PumpCode.PING), durable=True)
UNKNOWN = Kind("unknown", "code", (), durable=False)
HEARTBEAT = Kind("heartbeat", "", (), durable=False)

KINDS = {
    kind.name: kind
    for kind in (
        *(QUOTE, TRADE, USER, ONLINE, MARGIN, SYMBOL, GROUP, REQUEST),
        *(ACTIVATION, NEWS, MAIL, PLUGIN, SESSION, UNKNOWN, HEARTBEAT),
    )
}

COMMON_KEYS = ("epoch", "seq", "ts")
"""Keys of every body."""
NUMBER_BITS = 63
NUMBER_MAX = 2**NUMBER_BITS - 1
"""Largest epoch, seq, ts or offset: the limit of SQLite and of most languages."""
OFFSET = "offset"
"""Key of a durable event's number in the journal; an event without it is not stored."""
SUFFIX_STAND_IN = "_"
"""Replaces the suffix character where it is part of a topic's key."""


def topic_of(kind: Kind, key: object, suffix: str = "") -> bytes:
    """Return the topic of an event: ``quote.EURUSD``, ``trade.1001`` or ``heartbeat``.

    ``suffix`` ends every topic when it is set, so that the prefix ``trade.100|`` matches one account only.
    """
    name = f"{kind.name}.{key}" if kind.key else kind.name
    if suffix:
        name = name.replace(suffix, SUFFIX_STAND_IN) + suffix
    return name.encode()


def kind_of(topic: bytes, suffix: bytes = b"") -> str:
    """Return the name of the kind: the part of ``topic`` before its first dot."""
    return topic.partition(b".")[0].removesuffix(suffix).decode("utf-8", "replace")


def outermost(prefixes: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return ``prefixes`` sorted, without those that another one covers."""
    kept: list[bytes] = []
    for prefix in sorted(prefixes):  # a prefix is sorted before all that it covers, and these stand together
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return tuple(kept)


FIRST = 3
"""ZMQ_SNDMORE | ZMQ_DONTWAIT: another frame follows, and do not wait. A plain int: this module needs no pyzmq."""


class Send(Protocol):
    """Sends one frame of a message."""

    def __call__(self, data: bytes, flags: int = 0, /) -> object:
        """Queue one frame; with `FIRST` another frame follows."""


class Outlet(Protocol):
    """Sends messages frame by frame."""

    @property
    def send_frame(self) -> Send:
        """Return the function that sends one frame."""

    @property
    def full(self) -> type[Exception]:
        """Return the exception that ``send_frame`` raises for a first frame while a subscriber's queue is full."""

    def resend(self, topic: bytes, body: bytes) -> None:
        """Send a message again after ``full``, to all subscribers whose queues are not full."""


class Encoder:
    """Packs bodies with one reused packer; for one thread.

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
        """Return the body of one event to be stored under ``offset``."""
        return self._packed({**fields, "epoch": self.epoch, "seq": seq, "offset": offset, "ts": ts})

    def without_offset(self, body: bytes) -> bytes:
        """Return a packed ``body`` without its offset: the event could not be stored, so it must not have one."""
        fields = msgpack.unpackb(body)
        del fields[OFFSET]
        return self._packed(fields)

    def _packed(self, body: Body) -> bytes:
        try:
            packed: bytes = self._pack(body)
        except UnicodeEncodeError:  # a lone surrogate becomes ?; a packer with this option is 50 % slower
            packed = msgpack.packb(body, unicode_errors="replace")
        return packed
