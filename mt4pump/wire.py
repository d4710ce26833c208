"""The wire protocol, version 1: kinds, topics, bodies, and unpacking what other programs sent; pure, for readers too.

A message is two frames: topic (UTF-8) and body (one msgpack map with text keys). Every body has ``epoch`` (ms since
1970 when the daemon started), ``seq`` (1, 2, 3 … per topic within the epoch) and ``ts`` (ns since 1970, taken in the
callback). Durable events add ``offset`` (1, 2, 3 … over all durable events and epochs), which identifies the event in
the journal. Readers ignore unknown keys.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import msgpack

from mt4pump.errors import FrameError
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
WILDCARDS = "*?["
"""Characters that make a name of topics a shell pattern."""
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


def kind_of(topic: bytes) -> str:
    """Return the name of the kind: the part of ``topic`` before its first dot."""
    return topic.partition(b".")[0].decode("utf-8", "replace")


NEAR = 0.7
"""Least likeness of a mistyped kind. With less, a symbol (US*, LINK*) would become a kind with personal data."""


def right_form(name: str) -> str | None:
    """Return the nearest name or pattern that can match a topic, for one that cannot; None for one that can."""
    kind, dot, key = name.partition(".")
    start = kind
    for wildcard in WILDCARDS:
        start = start.partition(wildcard)[0]
    is_pattern = start != kind
    if is_pattern and any(each.startswith(start) for each in KINDS):
        return None
    if kind in KINDS:
        has_key = bool(KINDS[kind].key)
        return None if bool(dot) == has_key else f"{kind}.*" if has_key else kind
    if near := difflib.get_close_matches(start.lower(), KINDS, n=1, cutoff=NEAR):
        return f"{near[0]}.{key or '*'}" if KINDS[near[0]].key else near[0]
    if not dot:
        return f"{QUOTE.name}.{name}"
    return "*" if is_pattern else None  # perhaps a kind of a later version


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
    """Sends messages frame by frame. Who sends frames counts the messages in ``sent``."""

    sent: int

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
        except UnicodeEncodeError:  # a lone surrogate; a packer that replaces it is 50 % slower
            packed = pack_map(body)
        return packed


def pack_map(fields: Body) -> bytes:
    """Return ``fields`` as one msgpack map; a lone surrogate becomes ?."""
    packed: bytes = msgpack.packb(fields, unicode_errors="replace")
    return packed


# msgpack reserves the memory of a list as soon as it reads its length, so nested headers of 5 bytes each can claim
# gigabytes, and one byte of input can become an empty map of 64 bytes. So `unpack` limits the length of a list and of a
# map, the number of values, and the entries that all open lists reserve together.
SHORT_BYTES = 512
"""Up to this length no limit is needed: the input reserves less than the square of its length."""
PLAIN_BYTES = 65_536
"""Up to this length the values of a message need not be counted: each takes at least one byte."""
DEPTH = 1_024
"""Deepest nesting of msgpack; it raises StackError, a ValueError, beyond it."""
LIST16, LIST32 = 0xDC, 0xDD
"""First bytes of lists that are longer than 15."""
SHORT_LIST = 15
UNPACK_FAULTS = (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException)


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """Limits of one message: entries per list and per map, values in all, entries that open lists reserve.

    ``unique`` refuses a map with a duplicate key.
    """

    list_entries: int
    map_entries: int
    values: int
    reserved: int = DEPTH * DEPTH
    unique: bool = False


MESSAGE = UnpackLimits(list_entries=1_024, map_entries=65_536, values=262_144)
"""A body or a head of this protocol; the largest known list has 128 entries, the largest map 10,000."""


def unpack(packed: bytes, limits: UnpackLimits = MESSAGE) -> Any:
    """Return the one value in ``packed``; raises FrameError, and nothing else, when it is not one within ``limits``."""
    try:
        if limits is not MESSAGE or len(packed) > PLAIN_BYTES:
            return _counted(packed, limits)
        if len(packed) <= SHORT_BYTES:
            return msgpack.unpackb(packed)
        return msgpack.unpackb(packed, max_array_len=limits.list_entries, max_map_len=limits.map_entries)
    except UNPACK_FAULTS as error:
        raise _refusal(error) from error


def unpack_map(packed: bytes) -> dict[str, Any]:
    """Return the map with text keys in ``packed``; raises FrameError when it is not one within `MESSAGE`."""
    value = unpack(packed)
    if type(value) is not dict:
        raise FrameError(f"a msgpack {type(value).__name__}, no map")
    for key in value:
        if type(key) is not str:
            raise FrameError("a msgpack map with a key that is no text")
    return value


def unpack_stream(chunks: Iterable[bytes], limits: UnpackLimits, buffer_bytes: int) -> Iterator[Any]:
    """Yield the values in ``chunks``; raises FrameError at the first that is not within ``limits``.

    A value or chunk above ``buffer_bytes`` is refused. Errors of ``chunks`` itself are not caught.
    An incomplete value at the end is not yielded.
    """
    counter = _ValueCounter(limits)
    unpacker = msgpack.Unpacker(max_buffer_size=buffer_bytes, **counter.options(limits.list_entries))
    for chunk in chunks:
        try:
            unpacker.feed(chunk)
        except UNPACK_FAULTS as error:
            raise FrameError(f"a value of more than {buffer_bytes} bytes") from error
        while True:
            try:
                value = unpacker.unpack()
            except msgpack.OutOfData:
                break
            except UNPACK_FAULTS as error:
                raise _refusal(error) from error
            yield value
            counter.left = limits.values


def _refusal(error: Exception) -> FrameError:
    reason = str(error)[:80] or type(error).__name__  # some errors of msgpack have no text
    return FrameError(f"not msgpack, or beyond its limits: {reason}")


def _counted(packed: bytes, limits: UnpackLimits) -> Any:
    # The longest list with which all that ``packed`` can open reserve at most ``limits.reserved``.
    headers = min(packed.count(LIST16) + packed.count(LIST32), DEPTH)  # counts other bytes of these values too
    list_entries = min(limits.list_entries, max(limits.reserved // (headers or 1), SHORT_LIST))
    return msgpack.unpackb(packed, **_ValueCounter(limits).options(list_entries))


class _ValueCounter:
    """Counts the values of one message while msgpack unpacks it; raises ValueError beyond ``limits.values``."""

    def __init__(self, limits: UnpackLimits) -> None:
        self._limits = limits
        self.left = limits.values

    def options(self, list_entries: int) -> dict[str, Any]:
        """Return msgpack's options for these limits."""
        maps: dict[str, Callable[[Any], Any]] = (
            {"object_pairs_hook": self._unique_map} if self._limits.unique else {"object_hook": self._counted}
        )
        return {
            "list_hook": self._counted,
            "ext_hook": self._extension,
            "max_array_len": list_entries,
            "max_map_len": self._limits.map_entries,
            **maps,
        }

    def _count(self, values: int) -> None:
        self.left -= values
        if self.left < 0:
            raise ValueError(f"more than {self._limits.values} values")

    def _counted(self, value: Any) -> Any:
        self._count(1 + len(value))
        return value

    def _unique_map(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        """Return the map of ``pairs``; a duplicate key is an error."""
        self._count(1 + len(pairs))
        unique = dict(pairs)
        if len(unique) < len(pairs):
            key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
            raise ValueError(f"key {key!r:.60} comes twice")
        return unique

    def _extension(self, code: int, data: bytes) -> Any:
        self._count(1)
        return msgpack.ExtType(code, data)
