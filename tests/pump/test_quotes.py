"""The hot path: what it packs by hand is what `Encoder` would pack.

Private access: the state of a symbol and the two ways to pack a quote, because both give the same bytes: which one
was taken shows only in time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mt4pump.mt4.layout import SYMBOL_INFO
from mt4pump.mt4.record import ansi_text
from mt4pump.pump import quotes as quotes_module
from mt4pump.pump.heartbeat import AGREEMENTS, ServerClock
from mt4pump.pump.quotes import SYMBOL_STATE_LIMIT, QuoteStream, SymbolState, WriteQuote, quote_fields
from mt4pump.wire import FIRST, Encoder

EPOCH = 1_700_000_000_000
TS = 1_700_000_000_123_456_789
KEYS = ("symbol", "digits", "epoch", "bid", "ask", "spread", "time", "high", "low", "direction", "seq", "ts")


def quote(symbol: str | bytes = "EURUSD", /, **values: Any) -> bytes:
    """Return one SymbolInfo record."""
    usual = {"digits": 5, "bid": 1.12344, "ask": 1.12359, "high": 1.13, "low": 1.12, "lasttime": 1000, "direction": 1}
    return SYMBOL_INFO.pack({"symbol": symbol, **usual, **values})


class Wishes:
    """The topics that somebody wants; None: all."""

    def __init__(self, *topics: bytes) -> None:
        self.topics: set[bytes] | None = set(topics) if topics else None

    def __call__(self, topic: bytes) -> bool:
        return self.topics is None or topic in self.topics


def stream(wishes: Wishes | None = None, encoding: str = "cp1252") -> QuoteStream:
    return QuoteStream(Encoder(EPOCH), encoding, wishes or Wishes())


class Frames:
    """Takes frames as the socket does, and puts them together to messages; ``full_for`` first frames find no room."""

    full = BlockingIOError

    def __init__(self, full_for: int = 0) -> None:
        self.sent = 0
        self.messages: list[tuple[bytes, bytes]] = []
        self.resent: list[tuple[bytes, bytes]] = []
        self._full_for = full_for
        self._topic: bytes | None = None

    def resend(self, topic: bytes, body: bytes) -> None:
        self.resent.append((topic, body))

    def send_frame(self, data: bytes, flags: int = 0, /) -> None:
        if flags:
            assert flags == FIRST
            if self._full_for:
                self._full_for -= 1
                raise self.full
            assert self._topic is None
            self._topic = data
        else:
            assert self._topic is not None
            self.messages.append((self._topic, data))
            self._topic = None


def raw_messages(made: QuoteStream, *records: bytes, ts: int = TS) -> list[tuple[bytes, bytes]]:
    """Return topic and packed body of what an array of records leads to."""
    frames = Frames()
    assert made.publish(b"".join(records), ts, frames) == len(frames.messages)
    return frames.messages


def messages(made: QuoteStream, *records: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Return topic and body of what an array of records leads to."""
    return [(topic.decode(), msgpack.unpackb(body)) for topic, body in raw_messages(made, *records)]


def test_a_quote_has_the_fields_of_the_contract() -> None:
    assert messages(stream(), quote()) == [
        (
            "quote.EURUSD",
            {
                "symbol": "EURUSD",
                "digits": 5,
                "epoch": EPOCH,
                "bid": 1.12344,
                "ask": 1.12359,
                "spread": 15,
                "time": 1000,
                "high": 1.13,
                "low": 1.12,
                "direction": 1,
                "seq": 1,
                "ts": TS,
            },
        )
    ]


numbers = st.floats(width=64) | st.sampled_from([0.0, -0.0, 1.12345, math.nan, math.inf, -math.inf, 1e308, 5e-324])
int32 = st.integers(-(2**31), 2**31 - 1) | st.sampled_from([-(2**31), -1, 0, 127, 128, 65536, 2**31 - 1])


records = st.fixed_dictionaries(
    {
        "symbol": st.binary(max_size=12),
        "digits": int32,
        "bid": numbers,
        "ask": numbers,
        "high": numbers,
        "low": numbers,
        "lasttime": int32,
        "direction": int32,
    }
)
WORST = {"symbol": b"\xff\x81\0garbage", "digits": -(2**31), "bid": -1e308, "ask": 1e308, "high": math.inf}
WORST |= {"low": -math.inf, "lasttime": 2**31 - 1, "direction": -(2**31)}


@settings(max_examples=300, deadline=None)
@example({**WORST, "symbol": b"EURUSD", "digits": 5, "bid": 1.1, "ask": 1.2}, TS)
@example({**WORST, "symbol": b"", "digits": 2**31 - 1, "bid": math.nan, "ask": 1.0}, 1)
@example(WORST, 2**63)
@given(records, st.integers(0, 2**63))
def test_the_bytes_say_what_the_encoder_would_say(values: dict[str, Any], ts: int) -> None:
    made = stream()
    for seq in (1, 2):
        record = SYMBOL_INFO.pack(values)
        ((topic, body),) = raw_messages(made, record, ts=ts)
        (slot,) = made._states.values()  # noqa: SLF001
        (read,) = made._records(record)  # noqa: SLF001
        expected = msgpack.unpackb(Encoder(EPOCH).body(quote_fields(slot, read), seq, ts))
        assert repr(sorted(msgpack.unpackb(body).items())) == repr(sorted(expected.items()))
        assert set(expected) == set(KEYS)
        assert topic == slot.topic


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("limit", [2**7, 2**8, 2**16, 2**32])
def test_seq_is_as_compact_as_in_every_other_kind(limit: int, *, wanted: bool) -> None:
    made = stream()
    raw_messages(made, quote())
    (slot,) = made._states.values()  # noqa: SLF001
    for seq in (limit - 2, limit - 1, limit, limit + 1, limit + 2):
        slot.seq, slot.wanted = seq - 1, wanted
        frames = Frames()
        made.publish(quote(), TS, frames)
        if not wanted:  # numbers go on while nobody listens
            slot.seq, slot.wanted = seq - 1, True
            made.publish(quote(), TS, frames)
        ((_, body),) = frames.messages
        assert msgpack.unpackb(body)["seq"] == seq
        assert msgpack.packb("seq") + msgpack.packb(seq) + msgpack.packb("ts") in body


def test_only_the_first_quote_with_a_longer_seq_takes_the_slow_way(monkeypatch: pytest.MonkeyPatch) -> None:
    slow: list[int] = []
    monkeypatch.setattr(QuoteStream, "_other_body", _watching(QuoteStream._other_body, slow))  # noqa: SLF001
    made = stream()
    raw_messages(made, *[quote()] * 70_000)
    assert slow == [2**7, 2**8, 2**16]


def _watching(real: Callable[..., bytes], seen: list[int]) -> Callable[..., bytes]:
    def other_body(self: QuoteStream, slot: SymbolState, values: tuple[Any, ...], seq: int, ts: int) -> bytes:
        seen.append(seq)
        return real(self, slot, values, seq, ts)

    return other_body


def test_digits_that_change_keep_the_seq_and_its_format() -> None:
    made = stream()
    raw_messages(made, *[quote()] * 300)
    ((_, body),) = raw_messages(made, quote(digits=3))
    assert msgpack.packb("seq") + msgpack.packb(301) + msgpack.packb("ts") in body


def test_prices_are_the_same_doubles_bit_by_bit() -> None:
    odd = 1.1234499999999999
    ((_, body),) = messages(stream(), quote(bid=odd, ask=math.nextafter(odd, 2)))
    assert (body["bid"], body["ask"]) == (odd, math.nextafter(odd, 2))


@pytest.mark.parametrize(
    ("digits", "bid", "ask", "spread"),
    [
        (5, 1.12344, 1.12359, 15),
        (3, 110.123, 110.125, 2),
        (2, 1900.10, 1900.45, 35),
        (0, 40000.0, 40012.0, 12),
        (5, 1.2, 1.1, -10000),
        (5, 1.1, 1.1, 0),
        (-1, 1.0, 3.0, 2),
        (5, math.nan, 1.0, None),
        (5, 1.0, math.inf, None),
        (5, -1e308, 1e308, None),
    ],
)
def test_the_spread_is_in_points_and_none_when_the_prices_are_no_numbers(
    digits: int, bid: float, ask: float, spread: int | None
) -> None:
    ((_, body),) = messages(stream(), quote(digits=digits, bid=bid, ask=ask))
    assert body["spread"] == spread


def test_a_spread_beyond_32_bits_still_travels() -> None:
    ((_, body),) = messages(stream(), quote(digits=5, bid=0.0, ask=1e9))
    assert body["spread"] == 10**14


def test_numbers_count_per_topic() -> None:
    made = stream()
    events = messages(made, quote("A"), quote("B"), quote("A"), quote("A"))
    assert [(topic, body["seq"]) for topic, body in events] == [
        ("quote.A", 1),
        ("quote.B", 1),
        ("quote.A", 2),
        ("quote.A", 3),
    ]
    assert messages(made, quote("B"))[0][1]["seq"] == 2
    assert made.published == 5


def test_a_topic_that_nobody_wants_is_numbered_and_counted_but_not_packed() -> None:
    wishes = Wishes(b"quote.B")
    made = stream(wishes)
    assert [topic for topic, _ in messages(made, quote("A"), quote("B"), quote("A"))] == ["quote.B"]
    assert made.published == 3
    wishes.topics = {b"quote.A"}
    made.refresh_wanted((b"",))
    assert [(topic, body["seq"]) for topic, body in messages(made, quote("A"), quote("B"))] == [("quote.A", 3)]


def test_a_wish_counts_from_the_next_refresh_on() -> None:
    wishes = Wishes(b"quote.A")
    made = stream(wishes)
    messages(made, quote("A"), quote("B"))
    wishes.topics = {b"quote.B"}
    assert [topic for topic, _ in messages(made, quote("A"), quote("B"))] == ["quote.A"]
    made.refresh_wanted((b"",))
    assert [topic for topic, _ in messages(made, quote("A"), quote("B"))] == ["quote.B"]


def test_digits_that_change_on_the_way_are_published_and_the_numbers_go_on() -> None:
    made = stream()
    values: dict[str, Any] = {"bid": 1.1, "ask": 1.2}
    events = messages(made, quote(digits=5, **values), quote(digits=3, **values), quote(digits=5, **values))
    assert [(body["digits"], body["spread"], body["seq"]) for _, body in events] == [
        (5, 10000, 1),
        (3, 100, 2),
        (5, 10000, 3),
    ]


def test_two_raw_names_of_one_symbol_share_topic_and_numbers() -> None:
    made = stream()
    events = messages(made, quote(b"EURUSD\0aaaaa"), quote(b"EURUSD\0bbbbb"), quote(b"EURUSD"))
    assert [(topic, body["seq"]) for topic, body in events] == [("quote.EURUSD", seq) for seq in (1, 2, 3)]


def test_a_name_that_fills_its_field_is_read_whole() -> None:
    assert messages(stream(), quote("TWELVE_BYTES"))[0][1]["symbol"] == "TWELVE_BYTES"


def test_a_name_is_read_in_the_configured_code_page() -> None:
    ((topic, body),) = messages(stream(encoding="cp1251"), quote("НЕФТЬ".encode("cp1251")))
    assert (topic, body["symbol"]) == ("quote.НЕФТЬ", "НЕФТЬ")


def test_a_name_outside_the_code_page_is_readable_text_all_the_same() -> None:
    ((topic, _),) = messages(stream(), quote(b"\x81\x8d"))
    assert topic == "quote.\ufffd\ufffd"


def test_a_long_name_of_replaced_bytes_is_packed_right() -> None:
    ((_, body),) = messages(stream(encoding="utf-8"), quote(b"\xff" * 12))
    assert body["symbol"] == "\ufffd" * 12


def test_names_with_garbage_do_not_grow_the_cache_and_lose_no_number() -> None:
    made = stream()
    records = [quote(b"EURUSD\0" + number.to_bytes(5, "big")) for number in range(SYMBOL_STATE_LIMIT + 100)]
    last = messages(made, *records)[-1][1]
    assert last["seq"] == SYMBOL_STATE_LIMIT + 100
    assert len(made._states) <= SYMBOL_STATE_LIMIT  # noqa: SLF001


def test_the_name_of_a_symbol_is_read_once_also_while_others_have_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[bytes] = []

    def read(raw: bytes, encoding: str) -> str:
        names.append(raw)
        return ansi_text(raw, encoding)

    monkeypatch.setattr(quotes_module, "ansi_text", read)
    messages(stream(), *[quote("EURUSD"), quote("GBPUSD")] * 3)
    assert len(names) == 2


def test_no_records_publish_nothing() -> None:
    made = stream()
    assert messages(made) == []
    assert (made.published, made.last_time_s) == (0, 0)


def test_a_memoryview_is_as_good_as_bytes() -> None:
    data = memoryview(bytearray(quote() * 3))
    assert stream().publish(data, TS, Frames()) == 3


def test_a_server_clock_that_is_set_back_is_followed() -> None:
    """The end of daylight saving time: for an hour every quote is older than those before it."""
    made, clock = stream(), ServerClock()
    utc_s = 1_700_000_000
    for offset_s in (3 * 3600, 2 * 3600):
        for _ in range(AGREEMENTS + 2):
            utc_s += 1
            messages(made, quote(lasttime=utc_s + offset_s))
            clock.observe(made.last_time_s, utc_s * 10**9)
        assert clock.offset_s == offset_s


def test_one_symbol_with_a_time_far_in_the_future_does_not_hide_the_others() -> None:
    made, clock = stream(), ServerClock()
    messages(made, quote("BROKEN", lasttime=2**31 - 1))
    for second in range(1_700_000_000, 1_700_000_000 + AGREEMENTS + 2):
        messages(made, quote(lasttime=second + 7200))
        clock.observe(made.last_time_s, second * 10**9)
    assert clock.offset_s == 7200


def test_a_slot_knows_its_topic_before_its_first_quote() -> None:
    slot = SymbolState("EURUSD", 5, EPOCH, "")
    assert (slot.topic, slot.seq, slot.wanted) == (b"quote.EURUSD", 0, False)


def test_a_message_that_finds_a_full_queue_is_sent_again_past_it_and_the_next_goes_out_as_usual() -> None:
    frames = Frames(full_for=1)
    assert stream().publish(quote("EURUSD", bid=1.1) + quote("EURUSD", bid=1.2), TS, frames) == 2
    ((resent_topic, resent_body),) = frames.resent
    ((topic, body),) = frames.messages
    assert (resent_topic, topic) == (b"quote.EURUSD", b"quote.EURUSD")
    assert [msgpack.unpackb(each)["seq"] for each in (resent_body, body)] == [1, 2]


def test_the_latest_quote_of_every_symbol_is_kept_with_its_time_also_when_nobody_listens() -> None:
    made = stream(wishes=Wishes(b"none"))
    made.publish(quote("EURUSD", bid=1.1) + quote("GBPUSD", bid=2.1) + quote("EURUSD", bid=1.2), TS, Frames())
    assert [(each["symbol"], each["bid"], each["ts"]) for each in made.latest()] == [
        *(("EURUSD", 1.2, TS), ("GBPUSD", 2.1, TS))
    ]
    assert made.seqs() == {b"quote.EURUSD": 2, b"quote.GBPUSD": 1}


def test_a_suffix_ends_every_topic_and_nothing_else_in_it() -> None:
    made = QuoteStream(Encoder(EPOCH, "|"), "cp1252", Wishes())
    frames = Frames()
    made.publish(quote("EUR|USD", bid=1.1), TS, frames)
    assert frames.messages[0][0] == b"quote.EUR_USD|"


def durable(emit: WriteQuote) -> QuoteStream:
    return QuoteStream(Encoder(EPOCH), "cp1252", Wishes(), emit)


def test_durable_quotes_go_out_as_events_like_any_other() -> None:
    events: list[tuple[str, float, int]] = []
    made = durable(lambda name, body, ts: events.append((name, body["bid"], ts)))
    frames = Frames()
    assert made.publish(quote("EURUSD", bid=1.1) + quote("EURUSD", bid=1.2), TS, frames) == 0
    assert (events, frames.messages, made.published) == ([("EURUSD", 1.1, TS), ("EURUSD", 1.2, TS)], [], 2)


def test_the_latest_durable_quote_of_every_symbol_is_kept_with_its_time() -> None:
    made = durable(lambda *_: None)
    made.publish(quote("EURUSD", bid=1.1) + quote("EURUSD", bid=1.2), TS, Frames())
    assert [(each["symbol"], each["bid"], each["ts"]) for each in made.latest()] == [("EURUSD", 1.2, TS)]


def test_durable_quotes_publish_the_servers_time_as_others_do() -> None:
    made = durable(lambda *_: None)
    made.publish(quote(lasttime=1000) + quote(lasttime=1002), TS, Frames())
    assert made.last_time_s == 1002


def test_digits_that_change_on_the_way_count_for_durable_quotes_too() -> None:
    events: list[tuple[int, int]] = []
    made = durable(lambda _name, body, _ts: events.append((body["digits"], body["spread"])))
    made.publish(quote(digits=2, bid=1.0, ask=1.5) + quote(digits=3, bid=1.0, ask=1.5), TS, Frames())
    assert events == [(2, 50), (3, 500)]
