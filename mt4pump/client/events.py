"""What a subscriber receives: one class per kind over the decoded body, with all fields of the wire; pure."""

from __future__ import annotations

from typing import Any

from mt4pump.client.event import Event, EventField, OrderRecord


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


class Trade(OrderRecord):
    """An order changed. ``change`` says how; ``before`` holds the old values of the fields that changed.

    Names are TradeRecord's. ``volume`` in hundredths of a lot, times in seconds on the server's clock. ``ended`` is
    True where a ``modified`` came after the order's end: the order is not open.
    """

    __slots__ = ()
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
    enable_change_password = EventField[int]()
    enable_otp = EventField[int]()
    country = EventField[str | None]()
    city = EventField[str | None]()
    state = EventField[str | None]()
    zipcode = EventField[str | None]()
    address = EventField[str | None]()
    lead_source = EventField[str | None]()
    phone = EventField[str | None]()
    email = EventField[str | None]()
    comment = EventField[str | None]()
    id = EventField[str | None]()
    last_ip = EventField[int | None]()
    interestrate = EventField[float]()
    taxes = EventField[float]()
    prevmonthequity = EventField[float]()
    prevequity = EventField[float]()
    send_reports = EventField[int]()
    mqid = EventField[int | None]()
    user_color = EventField[int]()


class Online(Event):
    """A client came (``action`` add) or went (delete)."""

    __slots__ = ()
    login = EventField[int]()
    group = EventField[str | None]()
    counter = EventField[int]()


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
    source = EventField[str]()
    type = EventField[int]()
    background_color = EventField[int]()
    count = EventField[int]()
    count_original = EventField[int]()
    realtime = EventField[int]()
    starting = EventField[int]()
    expiration = EventField[int]()
    sessions = EventField[list[Any]]()
    profit_mode = EventField[int]()
    filter = EventField[int]()
    logging = EventField[int]()
    spread = EventField[int]()
    spread_balance = EventField[int]()
    exemode = EventField[int]()
    swap_enable = EventField[int]()
    swap_type = EventField[int]()
    swap_long = EventField[float]()
    swap_short = EventField[float]()
    swap_rollover3days = EventField[int]()
    tick_value = EventField[float]()
    tick_size = EventField[float]()
    stops_level = EventField[int]()
    gtc_pendings = EventField[int]()
    margin_mode = EventField[int]()
    margin_initial = EventField[float]()
    margin_maintenance = EventField[float]()
    margin_hedged = EventField[float]()
    margin_divider = EventField[float]()
    multiply = EventField[float]()
    bid_tickvalue = EventField[float]()
    ask_tickvalue = EventField[float]()
    long_only = EventField[int]()
    instant_max_volume = EventField[int]()
    margin_currency = EventField[str]()
    freeze_level = EventField[int]()
    margin_hedged_strong = EventField[int]()
    value_date = EventField[int]()
    quotes_delay = EventField[int]()
    swap_openprice = EventField[int]()
    swap_variation_margin = EventField[int]()


class Group(Event):
    """The settings of a group changed; names are ConGroup's."""

    __slots__ = ()
    group = EventField[str]()
    enable = EventField[int]()
    company = EventField[str]()
    currency = EventField[str]()
    margin_call = EventField[int]()
    margin_stopout = EventField[int]()
    timeout = EventField[int]()
    otp_mode = EventField[int]()
    signature = EventField[str]()
    support_page = EventField[str]()
    support_email = EventField[str]()
    templates = EventField[str]()
    copies = EventField[int]()
    reports = EventField[int]()
    default_leverage = EventField[int]()
    default_deposit = EventField[float]()
    maxsecurities = EventField[int]()
    secgroups = EventField[list[Any]]()
    secmargins = EventField[list[Any]]()
    secmargins_total = EventField[int]()
    credit = EventField[float]()
    margin_mode = EventField[int]()
    interestrate = EventField[float]()
    use_swap = EventField[int]()
    news = EventField[int]()
    rights = EventField[int]()
    check_ie_prices = EventField[int]()
    maxpositions = EventField[int]()
    close_reopen = EventField[int]()
    hedge_prohibited = EventField[int]()
    close_fifo = EventField[int]()
    hedge_largeleg = EventField[int]()
    margin_type = EventField[int]()
    archive_period = EventField[int]()
    archive_max_balance = EventField[int]()
    stopout_skip_hedged = EventField[int]()
    archive_pending_period = EventField[int]()
    news_languages = EventField[list[Any]]()
    news_languages_total = EventField[int]()


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
    gw_volume = EventField[int]()
    gw_order = EventField[int]()
    gw_price = EventField[int]()


class Activation(OrderRecord):
    """An order's stop, limit or trigger price was reached, or left again (``activation`` negative)."""

    __slots__ = ()


class News(Event):
    """A news header, and its `text` once there is one (``body`` is the whole map here)."""

    __slots__ = ()
    category = EventField[str | None]()
    time = EventField[int | None]()
    ctm = EventField[str | None]()
    keywords = EventField[str | None]()
    bodylen = EventField[int | None]()
    readed = EventField[int | None]()
    priority = EventField[int | None]()
    langid = EventField[int | None]()
    language = EventField[int | None]()
    flags = EventField[int | None]()
    body_len = EventField[int | None]()
    languages_list = EventField[list[Any] | None]()
    datetime = EventField[int | None]()

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
    time = EventField[int]()
    readed = EventField[int]()
    bodylen = EventField[int]()
    build_min = EventField[int]()
    build_max = EventField[int]()

    @property
    def from_(self) -> str | None:
        """Return the sender's name, the body's ``from``; None unless the daemon's ``mail_fields`` names it."""
        return self.body.get("from")

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
    info = EventField[dict[str, Any]]()
    configurable = EventField[int]()
    manager_access = EventField[int]()
    parameters = EventField[list[Any] | None]()


class Session(Event):
    """The Manager session started, stopped, or was proven to work (``session.ping``, not stored)."""

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
    server_code = EventField[str | None]()
    version = EventField[str]()
    uptime_s = EventField[float]()
    log = EventField[str | None]()
    durable = EventField[bool | None]()
    counts = EventField[dict[str, int]]()
    last_quote_ts = EventField[int]()
    last_callback_ts = EventField[int]()
    since = EventField[int]()
    reason = EventField[str]()
    protocol = EventField[int]()
    interval_s = EventField[float]()
    offsets = EventField[dict[str, Any]]()
    journal = EventField[dict[str, Any] | None]()
    sent = EventField[int]()
    dropped = EventField[int]()
    inbox = EventField[dict[str, Any]]()
    errors = EventField[dict[str, Any]]()
    skipped = EventField[dict[str, Any]]()
    slow_readers = EventField[dict[str, Any]]()
    connections = EventField[dict[str, Any]]()
    subscriptions = EventField[int]()
    subscription_bytes = EventField[int | None]()
    query = EventField[dict[str, Any]]()
    reconnects = EventField[int]()
    server_utc_offset_s = EventField[int | None]()
    rss_bytes = EventField[int]()
    threads = EventField[int]()
    source = EventField[dict[str, Any]]()

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
