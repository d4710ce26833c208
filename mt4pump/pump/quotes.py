"""Packs SymbolInfo records into ``quote.<symbol>`` messages: the hot path. Its only output is `send_frame`.

A quote's body always has the same keys, so its constant bytes (map header, keys, symbol, digits, epoch) are made once
per symbol, and one `struct` pack fills in the numbers: half the cost of packing a dict. The result is the msgpack map
that `Encoder` would make (a test compares the two). `Encoder` packs a quote whose numbers do not fit (a price of NaN)
and the first one whose ``seq`` needs a longer format.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgpack

from mt4pump.mt4.layout import SYMBOL_INFO
from mt4pump.mt4.record import ansi_text, format_of
from mt4pump.wire import FIRST, QUOTE, Body, Encoder, Outlet, topic_of

READS_PER_DRAIN = 8
"""Reads of changed quotes per BIDASK: some 2,000 quotes, so that a trade behind them waits a few ms at most."""
QUOTE_FIELDS = frozenset({"symbol", "digits", "direction", "lasttime", "bid", "ask", "high", "low"})
SYMBOL_STATE_LIMIT = 8192
"""Raw names that are kept before all are looked up anew: eight times the API's limit of symbols."""

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

WriteQuote = Callable[[str, Body, int], None]
"""``write(symbol, fields, ts)`` numbers, commits and publishes one quote as an event, where quotes are durable."""


class SymbolState:
    """The topic of one symbol, its last quote and ``seq``, whether it has a subscriber (``wanted``), its ``head``.

    ``last`` are the unpacked values of the last quote, None before the first; ``ts`` is when it came, ns since 1970.
    ``pack`` and ``key_seq`` serve every ``seq`` up to ``seq_limit`` in the shortest msgpack format.
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
    """Numbers and packs quotes. ``is_wanted`` returns whether a topic has a subscriber.

    ``published`` counts quotes that were numbered, with or without a subscriber; ``last_time_s`` is the
    ``lasttime`` of the last one, in seconds on the server's clock, ``last_ts`` its ``ts``. With ``write`` each quote
    is passed to it as an event, which durable quotes need, at several times the cost.
    """

    def __init__(
        self, encoder: Encoder, encoding: str, is_wanted: Callable[[bytes], bool], write: WriteQuote | None = None
    ) -> None:
        self._encoder = encoder
        self._write = write
        self._encoding = encoding
        self._is_wanted = is_wanted
        self._states: dict[bytes, SymbolState] = {}
        self._by_topic: dict[bytes, SymbolState] = {}
        self._records = struct.Struct(format_of(SYMBOL_INFO, QUOTE_FIELDS)).iter_unpack
        self.published = self.last_time_s = self.last_ts = 0
        self.has_more = False

    def drain(self, updated_quotes: Callable[[], bytes | memoryview], ts: int, outlet: Outlet) -> None:
        """Publish what changed since the last drain, in a bounded number of reads; ``has_more``: more may wait."""
        self.has_more = False
        for _ in range(READS_PER_DRAIN):
            records = updated_quotes()
            if not records:
                return
            outlet.sent += self.publish(records, ts, outlet)
        self.has_more = True

    def publish(self, records: bytes | memoryview, ts: int, outlet: Outlet) -> int:
        """Number every quote of an array of SymbolInfo, send the wanted ones to ``outlet``; return how many were sent.

        One pass, no object per quote: each name and each call here costs two percent of the throughput.
        """
        if self._write is not None:
            self._publish_each(records, ts, self._write)
            return 0
        states, first = self._states, FIRST
        send, full = outlet.send_frame, outlet.full
        unwanted = lasttime = 0
        for values in self._records(records):
            raw, digits, direction, lasttime, bid, ask, high, low = values
            state = states.get(raw)
            if state is None or state.digits != digits:
                state = self._state_of(raw, digits)
            state.seq = seq = state.seq + 1
            state.last = values
            state.ts = ts
            if state.wanted:
                try:
                    body = state.pack(
                        state.head,
                        bid,
                        K_ASK,
                        ask,
                        K_SPREAD,
                        round((ask - bid) * state.multiply),
                        K_TIME,
                        lasttime,
                        K_HIGH,
                        high,
                        K_LOW,
                        low,
                        K_DIRECTION,
                        direction,
                        state.key_seq,
                        seq,
                        K_TS,
                        ts,
                    )
                except (ValueError, OverflowError, struct.error):
                    body = self._other_body(state, values, seq, ts)
                try:
                    send(state.topic, first)
                except full:
                    outlet.resend(state.topic, body)
                else:
                    send(body)
            else:
                unwanted += 1
        count = len(records) // SYMBOL_INFO.size
        if count:
            self.published += count
            self.last_time_s, self.last_ts = lasttime, ts
        return count - unwanted

    def _other_body(self, state: SymbolState, values: tuple[Any, ...], seq: int, ts: int) -> bytes:
        """Return the body of a quote that ``state.pack`` refused; a ``seq`` above its limit gets the next format."""
        if seq > state.seq_limit:
            state.fit_seq()
        return self._encoder.body(quote_fields(state, values), seq, ts)

    def _publish_each(self, records: bytes | memoryview, ts: int, write: WriteQuote) -> None:
        """Pass every quote to ``write`` as an event."""
        for values in self._records(records):
            state = self._states.get(values[0])
            if state is None or state.digits != values[1]:
                state = self._state_of(values[0], values[1])
            state.seq += 1
            state.last, state.ts = values, ts
            write(state.symbol, quote_fields(state, values), ts)
            self.published += 1
            self.last_time_s, self.last_ts = values[3], ts

    def seqs(self) -> dict[bytes, int]:
        """Return the last number of every topic."""
        return {topic: state.seq for topic, state in self._by_topic.items()}

    def latest(self) -> Iterator[Body]:
        """Yield the fields of the last quote of every symbol, ``ts`` among them."""
        for state in self._by_topic.values():
            if state.last is not None:
                yield {**quote_fields(state, state.last), "ts": state.ts}

    def refresh_wanted(self, prefixes: tuple[bytes, ...]) -> None:
        """Update which topics that begin with one of ``prefixes`` have a subscriber, after subscriptions changed."""
        for topic, state in self._by_topic.items():
            if topic.startswith(prefixes):
                state.wanted = self._is_wanted(topic)

    def _state_of(self, raw: bytes, digits: int) -> SymbolState:
        """Return the state of a symbol whose raw name is new, or whose digits changed."""
        symbol = ansi_text(raw, self._encoding)
        state = self._by_topic.get(topic_of(QUOTE, symbol, self._encoder.suffix))
        if state is None:
            state = SymbolState(symbol, digits, self._encoder.epoch, self._encoder.suffix)
            state.wanted = self._is_wanted(state.topic)
            self._by_topic[state.topic] = state
        elif state.digits != digits:
            state.set_digits(digits, self._encoder.epoch)
        if len(self._states) >= SYMBOL_STATE_LIMIT:
            self._states.clear()  # names with garbage behind their NUL: the topics, and their numbers, stay
        self._states[raw] = state
        return state


def quote_fields(state: SymbolState, values: tuple[Any, ...]) -> Body:
    """Return a quote of ``state`` as fields; ``spread`` (points) is None when the prices give no integer."""
    _, digits, direction, lasttime, bid, ask, high, low = values
    try:
        spread = round((ask - bid) * state.multiply)
    except (ValueError, OverflowError):
        spread = None
    else:
        spread = spread if abs(spread) < 2**63 else None
    fields = {"symbol": state.symbol, "digits": digits, "bid": bid, "ask": ask, "spread": spread, "time": lasttime}
    return {**fields, "high": high, "low": low, "direction": direction}
