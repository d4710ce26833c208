"""The base of every event that a subscriber receives, and the fields of its body; pure.

An event is cheap: it keeps the decoded body and reads a field when it is asked for. A field that the daemon did not
send (personal data that its settings hold back, a newer or older version) reads as None.
"""

from __future__ import annotations

from typing import Generic, Self, TypeVar, overload

from mt4pump.wire import Body

LIVE, HEALED, SNAPSHOT = 0, 1, 2
"""How an event came: on the wire, from the journal, as a last value."""

Value = TypeVar("Value")


class EventField(Generic[Value]):
    """One named entry of an event's body, under its MT4 name, as an attribute."""

    __slots__ = ("_name",)

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, event: None, owner: type) -> Self: ...
    @overload
    def __get__(self, event: Event, owner: type) -> Value: ...
    def __get__(self, event: Event | None, owner: type) -> Self | Value:
        if event is None:
            return self
        value: Value = event.body.get(self._name)  # type: ignore[assignment]
        return value


class TopicName:
    """The parts of one topic: ``name`` without the suffix, ``kind``, and ``key`` (what follows the first dot)."""

    __slots__ = ("key", "kind", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind, _, self.key = name.partition(".")


class Event:
    """One event. ``body`` is the whole decoded map, ``frames`` the message as it was on the wire, for forwarders."""

    __slots__ = ("_came", "_topic", "body", "frames")

    def __init__(self, topic: TopicName, body: Body, frames: tuple[bytes, bytes], came: int = LIVE) -> None:
        self._topic = topic
        self.body = body
        self.frames = frames
        self._came = came

    def __repr__(self) -> str:
        came = ("", " healed", " snapshot")[self._came]
        return f"<{type(self).__name__} {self.topic} seq={self.seq} offset={self.offset}{came}>"

    @property
    def topic(self) -> str:
        """Return the topic, without the daemon's suffix: ``trade.1001``."""
        return self._topic.name

    @property
    def key(self) -> str:
        """Return what follows the kind in the topic: ``1001``; empty for a heartbeat."""
        return self._topic.key

    @property
    def kind(self) -> str:
        """Return the kind, as in `mt4pump.wire.KINDS`."""
        return self._topic.kind

    @property
    def epoch(self) -> int:
        """Return which life of the daemon it is from: ms since 1970 when it started."""
        number: int = self.body["epoch"]
        return number

    @property
    def seq(self) -> int:
        """Return its number within topic and epoch; of a snapshot, the topic's last number at the cut."""
        number: int = self.body["seq"]
        return number

    @property
    def ts(self) -> int:
        """Return when the daemon received it, ns since 1970."""
        number: int = self.body["ts"]
        return number

    @property
    def offset(self) -> int | None:
        """Return its number in the journal; None for what is not stored there."""
        return self.body.get("offset")

    @property
    def synthetic(self) -> bool:
        """Return whether the daemon inferred it by comparing tables instead of being told."""
        return bool(self.body.get("synthetic"))

    @property
    def healed(self) -> bool:
        """Return whether it came out of the journal (a gap filled, a position resumed) instead of live."""
        return self._came == HEALED

    @property
    def snapshot(self) -> bool:
        """Return whether it is a last value from the start, not a change."""
        return self._came == SNAPSHOT

    @property
    def action(self) -> str | None:
        """Return ``add update delete change_group`` for kinds that are tables, else None."""
        return self.body.get("action")


class OrderRecord(Event):
    """The fields of an order, named as in TradeRecord; ``volume`` in 0.01 lot, times in s, server's clock."""

    __slots__ = ()
    order = EventField[int]()
    login = EventField[int]()
    symbol = EventField[str]()
    digits = EventField[int]()
    cmd = EventField[int]()
    volume = EventField[int]()
    open_time = EventField[int]()
    state = EventField[int]()
    open_price = EventField[float]()
    sl = EventField[float]()
    tp = EventField[float]()
    close_time = EventField[int]()
    expiration = EventField[int]()
    reason = EventField[int]()
    conv_rates = EventField[list[float]]()
    commission = EventField[float]()
    commission_agent = EventField[float]()
    storage = EventField[float]()
    close_price = EventField[float]()
    profit = EventField[float]()
    taxes = EventField[float]()
    magic = EventField[int]()
    comment = EventField[str]()
    activation = EventField[int]()
    margin_rate = EventField[float]()
    timestamp = EventField[int]()
    gw_volume = EventField[int]()
    gw_order = EventField[int]()
    gw_open_price = EventField[int]()
    gw_close_price = EventField[int]()
