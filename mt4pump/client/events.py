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


class Field(Generic[Value]):
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
    symbol = Field[str]()
    bid = Field[float]()
    ask = Field[float]()
    spread = Field[int | None]()
    time = Field[int]()
    digits = Field[int]()
    high = Field[float]()
    low = Field[float]()
    direction = Field[int]()


class Trade(Event):
    """An order changed. ``change`` says how; ``before`` holds the old values of the fields that changed.

    Names are TradeRecord's. ``volume`` in hundredths of a lot, times in seconds on the server's clock. ``ended`` is
    True where a ``modified`` came after the order's end: the order is not open.
    """

    __slots__ = ()
    order = Field[int]()
    login = Field[int]()
    symbol = Field[str]()
    digits = Field[int]()
    cmd = Field[int]()
    volume = Field[int]()
    open_time = Field[int]()
    state = Field[int]()
    open_price = Field[float]()
    sl = Field[float]()
    tp = Field[float]()
    close_time = Field[int]()
    expiration = Field[int]()
    reason = Field[int]()
    conv_rates = Field[list[float]]()
    commission = Field[float]()
    commission_agent = Field[float]()
    storage = Field[float]()
    close_price = Field[float]()
    profit = Field[float]()
    taxes = Field[float]()
    magic = Field[int]()
    comment = Field[str]()
    activation = Field[int]()
    margin_rate = Field[float]()
    timestamp = Field[int]()
    change = Field[str | None]()
    before = Field[dict[str, Any] | None]()
    ended = Field[bool | None]()


class User(Event):
    """An account changed. Personal fields are None unless the daemon's ``user_fields`` names them."""

    __slots__ = ()
    login = Field[int]()
    group = Field[str]()
    enable = Field[int]()
    enable_read_only = Field[int]()
    status = Field[str]()
    name = Field[str | None]()
    regdate = Field[int]()
    lastdate = Field[int]()
    leverage = Field[int]()
    agent_account = Field[int]()
    timestamp = Field[int]()
    balance = Field[float]()
    credit = Field[float]()
    prevmonthbalance = Field[float]()
    prevbalance = Field[float]()


class Online(Event):
    """A client came (``action`` add) or went (delete)."""

    __slots__ = ()
    login = Field[int]()
    group = Field[str | None]()


class Margin(Event):
    """An account entered, changed or left margin call. Names are MarginLevel's; money in the deposit's currency.

    ``margin_level`` in percent; ``level_type``: 0 fine, 1 margin call, 2 stop-out.
    """

    __slots__ = ()
    login = Field[int]()
    group = Field[str]()
    leverage = Field[int]()
    balance = Field[float]()
    equity = Field[float]()
    volume = Field[int]()
    margin = Field[float]()
    margin_free = Field[float]()
    margin_level = Field[float]()
    margin_type = Field[int]()
    level_type = Field[int]()


class SymbolConfig(Event):
    """The settings of a symbol changed; names are ConSymbol's."""

    __slots__ = ()
    symbol = Field[str]()
    description = Field[str]()
    currency = Field[str]()
    digits = Field[int]()
    trade = Field[int]()
    point = Field[float]()
    contract_size = Field[float]()


class Group(Event):
    """The settings of a group changed; names are ConGroup's."""

    __slots__ = ()
    group = Field[str]()
    enable = Field[int]()
    company = Field[str]()
    currency = Field[str]()
    margin_call = Field[int]()
    margin_stopout = Field[int]()


class Request(Event):
    """The dealers' request queue changed; names are RequestInfo's. ``trade`` is the order asked for."""

    __slots__ = ()
    id = Field[int]()
    status = Field[int]()
    time = Field[int]()
    manager = Field[int]()
    login = Field[int]()
    group = Field[str]()
    balance = Field[float]()
    credit = Field[float]()
    prices = Field[list[float]]()
    trade = Field[dict[str, Any]]()


class Activation(Event):
    """An order's stop, limit or trigger price was reached, or left again (``activation`` negative)."""

    __slots__ = ()
    order = Field[int]()
    login = Field[int]()
    symbol = Field[str]()
    cmd = Field[int]()
    volume = Field[int]()
    activation = Field[int]()


class News(Event):
    """A news header, and its `text` once there is one (``body`` is the whole map here)."""

    __slots__ = ()
    category = Field[str | None]()

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
    to = Field[int]()
    sender = Field[int]()
    subject = Field[str | None]()

    @property
    def text(self) -> str | None:
        """Return the mail's own text; None where the API gives none, or the daemon does not publish it."""
        return self.body.get("body")


class Plugin(Event):
    """The settings of a server plugin changed."""

    __slots__ = ()
    name = Field[str]()
    file = Field[str | None]()
    enabled = Field[int | None]()


class Session(Event):
    """The Manager session started, stopped, or showed a sign of life (``session.ping``, not stored)."""

    __slots__ = ()
    server = Field[str]()
    login = Field[int]()
    state = Field[str]()
    reason = Field[str]()


class Heartbeat(Event):
    """The daemon's state and counters, once a second; `Subscriber.status` is the last one in short."""

    __slots__ = ()
    state = Field[str]()
    server = Field[str]()
    version = Field[str]()
    uptime_s = Field[float]()
    log = Field[str | None]()
    durable = Field[bool | None]()
    counts = Field[dict[str, int]]()
    last_quote_ts = Field[int]()
    last_callback_ts = Field[int]()

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
