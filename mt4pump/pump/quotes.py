"""SymbolInfo records to ``quote.<symbol>`` messages: the hot path; pure.

A quote's body always has the same keys, so its constant bytes (map header, keys, symbol, digits, epoch) are made once
per symbol and each quote is one `struct` pack of the numbers between them: half the cost of packing a dict. What comes
out is plain msgpack, the same map that `Encoder` would give (a test holds the two together). A quote whose numbers do
not fit (a price that is no number) goes through `Encoder`, as does the first one whose ``seq`` needs a longer format.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgpack

from mt4pump.mt4.decode import ansi_text
from mt4pump.mt4.layout import SYMBOL_INFO
from mt4pump.mt4.record import format_of
from mt4pump.wire import FIRST, QUOTE, Body, Encoder, Outlet, topic_of

QUOTE_FIELDS = frozenset({"symbol", "digits", "direction", "lasttime", "bid", "ask", "high", "low"})
SLOT_LIMIT = 8192
"""Slots kept before all are made anew: eight times the API's limit of symbols, so only garbage names get there."""

MAP_OF_12 = b"\x8c"
K_ASK, K_SPREAD, K_TIME = b"\xa3ask\xcb", b"\xa6spread\xd2", b"\xa4time\xd2"
K_HIGH, K_LOW, K_DIRECTION = b"\xa4high\xcb", b"\xa3low\xcb", b"\xa9direction\xd2"
K_TS = b"\xa2ts\xcf"
SEQ_FORMATS = (
    (0x7F, b"\xa3seq", "b"),
    (0xFF, b"\xa3seq\xcc", "B"),
    (0xFFFF, b"\xa3seq\xcd", "H"),
    (0xFFFF_FFFF, b"\xa3seq\xce", "I"),
    (0xFFFF_FFFF_FFFF_FFFF, b"\xa3seq\xcf", "Q"),
)
"""Largest ``seq``, key and header byte, and `struct` letter of each msgpack format of an unsigned integer.

Each letter refuses a number above its limit, so that the hot loop need not compare.
"""


class EmitQuote(Protocol):
    """What publishes a quote as any other event, for when quotes are durable."""

    def __call__(self, symbol: str, fields: Body, ts: int) -> None:
        """Publish one quote."""


class SymbolState:
    """What is known of one symbol: its topic, its last quote and ``seq``, whether anybody ``wants`` it, its head.

    ``last`` are the unpacked values of the last quote, None before the first; ``ts`` is when it came, ns since 1970.
    ``pack`` and ``key_seq`` are made for a ``seq`` up to ``seq_limit``: as short as any other packer makes it.
    """

    __slots__ = (
        *("digits", "head", "key_seq", "last", "multiply", "pack", "seq", "seq_limit", "symbol", "topic", "ts"),
        "wanted",
    )

    def __init__(self, symbol: str, digits: int, epoch: int, suffix: str) -> None:
        self.symbol = symbol
        self.topic = topic_of(QUOTE, symbol, suffix)
        self.seq = self.ts = 0
        self.last: tuple[Any, ...] | None = None
        self.wanted = False
        self.set_digits(digits, epoch)

    def set_digits(self, digits: int, epoch: int) -> None:
        """Make the constant bytes for a symbol of so many ``digits`` after the point."""
        self.digits = digits
        self.multiply = 10.0 ** min(max(digits, 0), 15)
        constant = (("symbol", self.symbol), ("digits", digits), ("epoch", epoch))
        packed = b"".join(msgpack.packb(part) for pair in constant for part in pair)
        self.head = MAP_OF_12 + packed + msgpack.packb("bid") + b"\xcb"
        self.fit_seq()

    def fit_seq(self) -> None:
        """Make ``pack`` for the shortest format that holds ``seq``."""
        self.seq_limit, self.key_seq, letter = next(each for each in SEQ_FORMATS if self.seq <= each[0])
        self.pack = struct.Struct(f">{len(self.head)}sd5sd8si6si6sd5sd11si{len(self.key_seq)}s{letter}4sQ").pack


class QuoteStream:
    """Numbers and packs quotes. ``is_wanted`` tells whether a topic has a subscriber.

    ``published`` counts quotes that were numbered, with or without a subscriber; ``last_time_s`` is the
    ``lasttime`` of the last one, in seconds on the server's clock. With ``emit`` quotes go out that way, as durable
    ones must, at several times the cost.
    """

    def __init__(
        self, encoder: Encoder, encoding: str, is_wanted: Callable[[bytes], bool], emit: EmitQuote | None = None
    ) -> None:
        self._encoder = encoder
        self._emit = emit
        self._encoding = encoding
        self._is_wanted = is_wanted
        self._slots: dict[bytes, SymbolState] = {}
        self._by_topic: dict[bytes, SymbolState] = {}
        self._records = struct.Struct(format_of(SYMBOL_INFO, QUOTE_FIELDS)).iter_unpack
        self.published = 0
        self.last_time_s = 0

    def publish(self, records: bytes | memoryview, ts: int, outlet: Outlet) -> int:
        """Number every quote of an array of SymbolInfo, send the wanted ones to ``outlet``; return how many were sent.

        One pass, no object per quote: each name and each call here costs two percent of the throughput.
        """
        if self._emit is not None:
            self._publish_each(records, ts, self._emit)
            return 0
        slots, first = self._slots, FIRST
        send, full = outlet.send_frame, outlet.full
        unwanted = lasttime = 0
        for values in self._records(records):
            raw, digits, direction, lasttime, bid, ask, high, low = values
            slot = slots.get(raw)
            if slot is None or slot.digits != digits:
                slot = self._slot(raw, digits)
            slot.seq = seq = slot.seq + 1
            slot.last = values
            slot.ts = ts
            if slot.wanted:
                try:
                    body = slot.pack(
                        slot.head,
                        bid,
                        K_ASK,
                        ask,
                        K_SPREAD,
                        round((ask - bid) * slot.multiply),
                        K_TIME,
                        lasttime,
                        K_HIGH,
                        high,
                        K_LOW,
                        low,
                        K_DIRECTION,
                        direction,
                        slot.key_seq,
                        seq,
                        K_TS,
                        ts,
                    )
                except (ValueError, OverflowError, struct.error):
                    body = self._other_body(slot, values, seq, ts)
                try:
                    send(slot.topic, first)
                except full:
                    outlet.resend(slot.topic, body)
                else:
                    send(body)
            else:
                unwanted += 1
        count = len(records) // SYMBOL_INFO.size
        if count:
            self.published += count
            self.last_time_s = lasttime
        return count - unwanted

    def _other_body(self, slot: SymbolState, values: tuple[Any, ...], seq: int, ts: int) -> bytes:
        """Return the body of a quote that ``slot.pack`` refused; a ``seq`` that outgrew its format gets the next."""
        if seq > slot.seq_limit:
            slot.fit_seq()
        return self._encoder.body(quote_fields(slot, values), seq, ts)

    def _publish_each(self, records: bytes | memoryview, ts: int, emit: EmitQuote) -> None:
        """Publish every quote as an event like any other."""
        for values in self._records(records):
            slot = self._slots.get(values[0])
            if slot is None or slot.digits != values[1]:
                slot = self._slot(values[0], values[1])
            slot.seq += 1
            slot.last, slot.ts = values, ts
            emit(slot.symbol, quote_fields(slot, values), ts)
            self.published += 1
            self.last_time_s = values[3]

    def seqs(self) -> dict[bytes, int]:
        """Return the last number of every topic."""
        return {topic: slot.seq for topic, slot in self._by_topic.items()}

    def latest(self) -> Iterator[Body]:
        """Yield the fields of the last quote of every symbol, ``ts`` among them."""
        for slot in self._by_topic.values():
            if slot.last is not None:
                yield {**quote_fields(slot, slot.last), "ts": slot.ts}

    def refresh_interest(self) -> None:
        """Ask anew which topics are wanted; called when a subscription came or went."""
        for slot in self._by_topic.values():
            slot.wanted = self._is_wanted(slot.topic)

    def _slot(self, raw: bytes, digits: int) -> SymbolState:
        """Return the slot of a symbol seen for the first time, or with other digits than before."""
        symbol = ansi_text(raw, self._encoding)
        slot = self._by_topic.get(topic_of(QUOTE, symbol, self._encoder.suffix))
        if slot is None:
            slot = SymbolState(symbol, digits, self._encoder.epoch, self._encoder.suffix)
            slot.wanted = self._is_wanted(slot.topic)
            self._by_topic[slot.topic] = slot
        elif slot.digits != digits:
            slot.set_digits(digits, self._encoder.epoch)
        if len(self._slots) >= SLOT_LIMIT:
            self._slots.clear()  # names with garbage behind their NUL: the topics, and their numbers, stay
        self._slots[raw] = slot
        return slot


def quote_fields(slot: SymbolState, values: tuple[Any, ...]) -> Body:
    """Return a quote of ``slot`` as fields; ``spread`` (points) is None when the prices give no integer."""
    _, digits, direction, lasttime, bid, ask, high, low = values
    try:
        spread = round((ask - bid) * slot.multiply)
    except (ValueError, OverflowError):
        spread = None
    else:
        spread = spread if abs(spread) < 2**63 else None
    fields = {"symbol": slot.symbol, "digits": digits, "bid": bid, "ask": ask, "spread": spread, "time": lasttime}
    return {**fields, "high": high, "low": low, "direction": direction}
