"""What a subscriber receives: one class per kind over the decoded body; pure.

An event is cheap: it keeps the decoded body and reads a field when it is asked for. A field that the daemon did not
send (personal data that its settings hold back, a newer or older version) reads as None.
"""

from __future__ import annotations

from typing import Any, Generic, Self, TypeVar, overload

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


class Quote(Event):
    """Best bid and ask of a symbol. Prices in quote currency, ``spread`` in points, ``time`` seconds, server's clock.

    ``direction``: 0 up, 1 down, 2 none. ``spread`` is None where the prices give no number.
    """

    __slots__ = ()
    symbol = EventField[str]()
    bid = EventField[float]()
    ask = EventField[float]()
    spread = EventField[int | None]()
    time = EventField[int]()
    digits = EventField[int]()
    high = EventField[float]()
    low = EventField[float]()
    direction = EventField[int]()


class Trade(Event):
    """An order changed. ``change`` says how; ``before`` holds the old values of the fields that changed.

    Names are TradeRecord's. ``volume`` in hundredths of a lot, times in seconds on the server's clock. ``ended`` is
    True where a ``modified`` came after the order's end: the order is not open.
    """

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
    change = EventField[str | None]()
    before = EventField[dict[str, Any] | None]()
    ended = EventField[bool | None]()


class User(Event):
    """An account changed. Personal fields are None unless the daemon's ``user_fields`` names them."""

    __slots__ = ()
    login = EventField[int]()
    group = EventField[str]()
    enable = EventField[int]()
    enable_read_only = EventField[int]()
    status = EventField[str]()
    name = EventField[str | None]()
    regdate = EventField[int]()
    lastdate = EventField[int]()
    leverage = EventField[int]()
    agent_account = EventField[int]()
    timestamp = EventField[int]()
    balance = EventField[float]()
    credit = EventField[float]()
    prevmonthbalance = EventField[float]()
    prevbalance = EventField[float]()


class Online(Event):
    """A client came (``action`` add) or went (delete)."""

    __slots__ = ()
    login = EventField[int]()
    group = EventField[str | None]()


class Margin(Event):
    """An account entered, changed or left margin call. Names are MarginLevel's; money in the deposit's currency.

    ``margin_level`` in percent; ``level_type``: 0 fine, 1 margin call, 2 stop-out.
    """

    __slots__ = ()
    login = EventField[int]()
    group = EventField[str]()
    leverage = EventField[int]()
    balance = EventField[float]()
    equity = EventField[float]()
    volume = EventField[int]()
    margin = EventField[float]()
    margin_free = EventField[float]()
    margin_level = EventField[float]()
    margin_type = EventField[int]()
    level_type = EventField[int]()


class SymbolConfig(Event):
    """The settings of a symbol changed; names are ConSymbol's."""

    __slots__ = ()
    symbol = EventField[str]()
    description = EventField[str]()
    currency = EventField[str]()
    digits = EventField[int]()
    trade = EventField[int]()
    point = EventField[float]()
    contract_size = EventField[float]()


class Group(Event):
    """The settings of a group changed; names are ConGroup's."""

    __slots__ = ()
    group = EventField[str]()
    enable = EventField[int]()
    company = EventField[str]()
    currency = EventField[str]()
    margin_call = EventField[int]()
    margin_stopout = EventField[int]()


class Request(Event):
    """The dealers' request queue changed; names are RequestInfo's. ``trade`` is the order asked for."""

    __slots__ = ()
    id = EventField[int]()
    status = EventField[int]()
    time = EventField[int]()
    manager = EventField[int]()
    login = EventField[int]()
    group = EventField[str]()
    balance = EventField[float]()
    credit = EventField[float]()
    prices = EventField[list[float]]()
    trade = EventField[dict[str, Any]]()


class Activation(Event):
    """An order's stop, limit or trigger price was reached, or left again (``activation`` negative)."""

    __slots__ = ()
    order = EventField[int]()
    login = EventField[int]()
    symbol = EventField[str]()
    cmd = EventField[int]()
    volume = EventField[int]()
    activation = EventField[int]()


class News(Event):
    """A news header, and its `text` once there is one (``body`` is the whole map here)."""

    __slots__ = ()
    category = EventField[str | None]()

    @property
    def text(self) -> str | None:
        """Return the news' own text, None while only the header is known."""
        return self.body.get("body")

    @property
    def subject(self) -> str | None:
        """Return the headline; the API's two forms of news name it differently."""
        return self.body.get("subject", self.body.get("topic"))


class Mail(Event):
    """An internal mail. ``subject`` and ``text`` are None unless the daemon's ``mail_fields`` names them."""

    __slots__ = ()
    to = EventField[int]()
    sender = EventField[int]()
    subject = EventField[str | None]()

    @property
    def text(self) -> str | None:
        """Return the mail's own text; None where the API gives none, or the daemon does not publish it."""
        return self.body.get("body")


class Plugin(Event):
    """The settings of a server plugin changed."""

    __slots__ = ()
    name = EventField[str]()
    file = EventField[str | None]()
    enabled = EventField[int | None]()


class Session(Event):
    """The Manager session started, stopped, or showed a sign of life (``session.ping``, not stored)."""

    __slots__ = ()
    server = EventField[str]()
    login = EventField[int]()
    state = EventField[str]()
    reason = EventField[str]()


class Heartbeat(Event):
    """The daemon's state and counters, once a second; `Subscriber.status` is the last one in short."""

    __slots__ = ()
    state = EventField[str]()
    server = EventField[str]()
    version = EventField[str]()
    uptime_s = EventField[float]()
    log = EventField[str | None]()
    durable = EventField[bool | None]()
    counts = EventField[dict[str, int]]()
    last_quote_ts = EventField[int]()
    last_callback_ts = EventField[int]()

    @property
    def offset(self) -> int | None:
        """Return None: a heartbeat is not stored. Its body's ``offset`` is `last_offset`."""
        return None

    @property
    def last_offset(self) -> int:
        """Return the offset of the last durable event before this heartbeat."""
        return self.body.get("offset") or 0


CLASSES: dict[str, type[Event]] = {
    "quote": Quote,
    "trade": Trade,
    "user": User,
    "online": Online,
    "margin": Margin,
    "symbol": SymbolConfig,
    "group": Group,
    "request": Request,
    "activation": Activation,
    "news": News,
    "mail": Mail,
    "plugin": Plugin,
    "session": Session,
    "heartbeat": Heartbeat,
}
"""The class of each kind; a kind that is not here is a plain `Event`."""
