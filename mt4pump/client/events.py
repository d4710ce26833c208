"""What a subscriber receives: one class per kind over the decoded body, with all fields of the wire; pure.

``python -m tests.protocol`` writes this file from `mt4pump/protocol/protocol.toml`, whose notes are the comments here,
long ones shortened; units stand in brackets. A field that the body lacks reads as None.
"""

from __future__ import annotations

from typing import Any

from mt4pump.client.event import Event, EventField


class OrderRecord(Event):
    """Fields that every event about an order has."""

    __slots__ = ()
    order = EventField[int]()  # ticket
    login = EventField[int]()  # account that owns the order
    symbol = EventField[str]()  # symbol; empty for balance and credit operations
    digits = EventField[int]()  # decimal places of the symbol's prices [digits]
    cmd = EventField[int]()  # kind of order [enum TradeCommand]
    volume = EventField[int]()  # size of the order [0.01 lot]
    open_time = EventField[int]()  # when the order was opened or placed [s, server clock]
    state = EventField[int]()  # state of the order [enum TradeState]
    open_price = EventField[float]()  # open price; of a pending order the price that activates it [price]
    sl = EventField[float]()  # stop loss; 0: none [price]
    tp = EventField[float]()  # take profit; 0: none [price]
    close_time = EventField[int]()  # when the order was closed; 0 while it is open [s, server clock]
    gw_volume = EventField[int]()  # volume at the gateway [0.01 lot]
    expiration = EventField[int]()  # end of a pending order; 0: none [s, server clock]
    reason = EventField[int]()  # who opened the order [enum TradeReason]
    conv_rates = EventField[list[float]]()  # profit currency to account currency at open [0] and at close [1] [rate]
    commission = EventField[float]()  # commission of the broker [account currency]
    commission_agent = EventField[float]()  # commission of the agent [account currency]
    storage = EventField[float]()  # accumulated swap [account currency]
    close_price = EventField[float]()  # close price; while the order is open the current price [price]
    profit = EventField[float]()  # profit; for OP_BALANCE and OP_CREDIT the amount [account currency]
    taxes = EventField[float]()  # taxes [account currency]
    magic = EventField[int]()  # magic number, set by the client's expert advisor
    comment = EventField[str]()  # comment
    gw_order = EventField[int]()  # ticket at the gateway
    activation = EventField[int]()  # which price of the order was reached [enum Activation]
    gw_open_price = EventField[int]()  # difference of the gateway's price at open [points]
    gw_close_price = EventField[int]()  # difference of the gateway's price at close [points]
    margin_rate = EventField[float]()  # margin currency to account currency [rate]
    timestamp = EventField[int]()  # when the record last changed [s, server clock]


class Quote(Event):
    """Best bid and ask of a symbol."""

    __slots__ = ()
    symbol = EventField[str]()  # symbol
    digits = EventField[int]()  # decimal places of the prices [digits]
    bid = EventField[float]()  # best bid [price]
    ask = EventField[float]()  # best ask [price]
    spread = EventField[int | None]()  # ask - bid; nil when the prices give no whole number [points]
    time = EventField[int]()  # when the quote came to the server [s, server clock]
    high = EventField[float]()  # highest bid, presumably of the day [price]
    low = EventField[float]()  # lowest bid, presumably of the day [price]
    direction = EventField[int]()  # direction of the last change [enum SymbolDirection]


class Trade(OrderRecord):
    """An order changed; see `change`."""

    __slots__ = ()
    change = EventField[str | None]()  # what happened to the order
    before = EventField[dict[str, Any] | None]()  # old values of the fields that changed
    ended = EventField[bool | None]()  # true: the order is not open


class User(Event):
    """An account changed."""

    __slots__ = ()
    login = EventField[int]()  # account
    group = EventField[str]()  # group of the account
    enable = EventField[int]()  # 0: the account is disabled
    enable_change_password = EventField[int]()  # 1: the client may change the password
    enable_read_only = EventField[int]()  # 1: the account may not trade
    enable_otp = EventField[int]()  # 1: one-time passwords are enabled
    name = EventField[str | None]()  # client's name
    country = EventField[str | None]()  # client's country
    city = EventField[str | None]()  # client's city
    state = EventField[str | None]()  # client's state or region
    zipcode = EventField[str | None]()  # client's postal code
    address = EventField[str | None]()  # client's street address
    lead_source = EventField[str | None]()  # where the client came from
    phone = EventField[str | None]()  # client's phone number
    email = EventField[str | None]()  # client's e-mail address
    comment = EventField[str | None]()  # the broker's comment
    id = EventField[str | None]()  # identity document
    status = EventField[str]()  # status of the account, as the broker names it
    regdate = EventField[int]()  # when the account was opened [s, server clock]
    lastdate = EventField[int]()  # last connection [s, server clock]
    leverage = EventField[int]()  # leverage n [1:n]
    agent_account = EventField[int]()  # account of the agent; 0: none
    timestamp = EventField[int]()  # when the record last changed [s, server clock]
    last_ip = EventField[int | None]()  # IPv4 address of the last connection, packed; network byte order is assumed
    balance = EventField[float]()  # balance, without credit [account currency]
    prevmonthbalance = EventField[float]()  # balance at the end of last month [account currency]
    prevbalance = EventField[float]()  # balance at the end of yesterday [account currency]
    credit = EventField[float]()  # credit [account currency]
    interestrate = EventField[float]()  # annual interest [%]
    taxes = EventField[float]()  # taxes [account currency]
    prevmonthequity = EventField[float]()  # equity at the end of last month [account currency]
    prevequity = EventField[float]()  # equity at the end of yesterday [account currency]
    send_reports = EventField[int]()  # 0: no reports by e-mail
    mqid = EventField[int | None]()  # identity of the client's mobile terminal
    user_color = EventField[int]()  # colour in the vendor's terminals; 0xFF000000: none [0x00BBGGRR]


class Online(Event):
    """A client connected or disconnected."""

    __slots__ = ()
    counter = EventField[int]()  # connections of the account [connections]
    login = EventField[int]()  # account
    group = EventField[str]()  # group of the account


class Margin(Event):
    """Margin call or stop-out changed."""

    __slots__ = ()
    login = EventField[int]()  # account
    group = EventField[str]()  # group of the account
    leverage = EventField[int]()  # leverage n [1:n]
    balance = EventField[float]()  # balance and credit together, unlike a user's [account currency]
    equity = EventField[float]()  # equity [account currency]
    volume = EventField[int]()  # size of all positions (unit presumed) [0.01 lot]
    margin = EventField[float]()  # margin in use [account currency]
    margin_free = EventField[float]()  # free margin [account currency]
    margin_level = EventField[float]()  # equity / margin [%]
    margin_type = EventField[int]()  # unit of the margin call and stop-out levels [enum MarginType]
    level_type = EventField[int]()  # whether the account is in margin call or stop-out [enum MarginLevelType]


class SymbolConfig(Event):
    """Symbol settings changed."""

    __slots__ = ()
    symbol = EventField[str]()  # name
    description = EventField[str]()  # description
    source = EventField[str]()  # symbol whose quotes it copies; empty: its own
    currency = EventField[str]()  # base currency
    type = EventField[int]()  # index of its symbol group
    digits = EventField[int]()  # decimal places of prices [digits]
    trade = EventField[int]()  # what trading is allowed [enum SymbolTrade]
    background_color = EventField[int]()  # colour in the vendor's terminals [0x00BBGGRR]
    count = EventField[int]()  # index in the list of symbols
    count_original = EventField[int]()  # index in the list of symbols before sorting
    realtime = EventField[int]()  # 0: no quotes
    starting = EventField[int]()  # start of trading; 0: none [s, server clock]
    expiration = EventField[int]()  # end of trading; 0: none [s, server clock]
    sessions = EventField[list[dict[str, Any]]]()  # sessions of seven week days, presumably from Sunday
    profit_mode = EventField[int]()  # how profit is calculated [enum SymbolProfit]
    filter = EventField[int]()  # filter of wrong quotes
    logging = EventField[int]()  # 0: quotes are not logged
    spread = EventField[int]()  # fixed spread; 0: floating [points]
    spread_balance = EventField[int]()  # shift of the spread towards one side [points]
    exemode = EventField[int]()  # how orders are executed [enum SymbolExecution]
    swap_enable = EventField[int]()  # 0: no swaps
    swap_type = EventField[int]()  # unit of swap_long and swap_short [enum SymbolSwap]
    swap_long = EventField[float]()  # swap per night of a long position [see swap_type]
    swap_short = EventField[float]()  # swap per night of a short position [see swap_type]
    swap_rollover3days = EventField[int]()  # day of the triple swap, 0 = Monday
    contract_size = EventField[float]()  # size of one lot [units]
    tick_value = EventField[float]()  # value of the smallest change of price (futures)
    tick_size = EventField[float]()  # smallest change of price (futures)
    stops_level = EventField[int]()  # smallest distance of a stop from the price [points]
    gtc_pendings = EventField[int]()  # when pending orders expire [enum SymbolPendings]
    margin_mode = EventField[int]()  # how margin is calculated [enum SymbolMargin]
    margin_initial = EventField[float]()  # initial margin per lot; 0: by margin_mode [margin currency]
    margin_maintenance = EventField[float]()  # maintenance margin per lot; 0: by margin_mode [margin currency]
    margin_hedged = EventField[float]()  # margin per lot of hedged positions; 0: by margin_mode [margin currency]
    margin_divider = EventField[float]()  # divides the margin
    point = EventField[float]()  # smallest change of price, 10^-digits [price]
    multiply = EventField[float]()  # 10^digits
    bid_tickvalue = EventField[float]()  # value of a point for the bid
    ask_tickvalue = EventField[float]()  # value of a point for the ask
    long_only = EventField[int]()  # not 0: only long positions are allowed
    instant_max_volume = EventField[int]()  # largest volume of instant execution [0.01 lot]
    margin_currency = EventField[str]()  # margin currency
    freeze_level = EventField[int]()  # distance from its price within which an order cannot be changed [points]
    margin_hedged_strong = EventField[int]()  # how margin of hedged positions is checked
    value_date = EventField[int]()  # value date [s, server clock]
    quotes_delay = EventField[int]()  # delay of quotes [s]
    swap_openprice = EventField[int]()  # not 0: swaps are calculated at the open price
    swap_variation_margin = EventField[int]()  # not 0: variation margin is charged at rollover


class Group(Event):
    """Group settings changed."""

    __slots__ = ()
    group = EventField[str]()  # name
    enable = EventField[int]()  # 0: the group is disabled
    timeout = EventField[int]()  # time-out of a request [s]
    otp_mode = EventField[int]()  # one-time passwords [enum GroupOtp]
    company = EventField[str]()  # name of the company
    signature = EventField[str]()  # signature of the company
    support_page = EventField[str]()  # web page of the support
    support_email = EventField[str]()  # e-mail address of the support
    templates = EventField[str]()  # folder of the templates
    copies = EventField[int]()  # how often reports are copied to support_email
    reports = EventField[int]()  # 0: no reports
    default_leverage = EventField[int]()  # leverage n of a new account [1:n]
    default_deposit = EventField[float]()  # deposit of a new demo account [account currency]
    maxsecurities = EventField[int]()  # how many symbols a client sees; 0: all
    secgroups = EventField[list[dict[str, Any]]]()  # settings by index of the symbol group
    secmargins = EventField[list[dict[str, Any]]]()  # symbols with their own settings in this group
    secmargins_total = EventField[int]()  # entries of secmargins
    currency = EventField[str]()  # account currency of the group
    credit = EventField[float]()  # credit of a new account [account currency]
    margin_call = EventField[int]()  # level of the margin call [%]
    margin_mode = EventField[int]()  # which floating profit counts as free margin [enum GroupMargin]
    margin_stopout = EventField[int]()  # level of the stop-out [see margin_type]
    interestrate = EventField[float]()  # annual interest [%]
    use_swap = EventField[int]()  # 0: no swaps
    news = EventField[int]()  # which news the clients get [enum GroupNews]
    rights = EventField[int]()  # what the clients may do [flags GroupRights]
    check_ie_prices = EventField[int]()  # not 0: prices of instant execution are checked
    maxpositions = EventField[int]()  # how many open orders an account may have; 0: any
    close_reopen = EventField[int]()  # not 0: a partly closed order is closed and opened again
    hedge_prohibited = EventField[int]()  # not 0: no opposite positions
    close_fifo = EventField[int]()  # not 0: the oldest order is closed first
    hedge_largeleg = EventField[int]()  # not 0: margin is taken for the larger leg
    margin_type = EventField[int]()  # unit of margin_stopout [enum MarginType]
    archive_period = EventField[int]()  # when idle accounts are archived [days]
    archive_max_balance = EventField[int]()  # largest balance of an account that is archived [account currency]
    stopout_skip_hedged = EventField[int]()  # not 0: fully hedged accounts are not stopped out
    archive_pending_period = EventField[int]()  # when old pending orders are archived [days]
    news_languages = EventField[list[int]]()  # languages of news [Windows language id]
    news_languages_total = EventField[int]()  # entries of news_languages


class Request(Event):
    """Dealer request queue changed."""

    __slots__ = ()
    id = EventField[int]()  # identity of the request
    status = EventField[int]()  # state of the request [enum RequestStatus]
    time = EventField[int]()  # when the request came, as the API gives it: the unit is not known
    manager = EventField[int]()  # login of the dealer who handles the request; 0: none
    login = EventField[int]()  # account that made the request
    group = EventField[str]()  # group of the account
    balance = EventField[float]()  # balance of the account [account currency]
    credit = EventField[float]()  # credit of the account [account currency]
    prices = EventField[list[float]]()  # bid [0] and ask [1] of the dealer's answer [price]
    trade = EventField[dict[str, Any]]()  # the requested transaction
    gw_volume = EventField[int]()  # volume at the gateway [0.01 lot]
    gw_order = EventField[int]()  # ticket at the gateway
    gw_price = EventField[int]()  # difference of the gateway's price [points]


class Activation(OrderRecord):
    """An order's stop or price was reached."""

    __slots__ = ()


class News(Event):
    """News header, with body where the API gives one."""

    __slots__ = ()
    category = EventField[str]()  # category
    time = EventField[int | None]()  # when the news was published [s, server clock]
    ctm = EventField[str | None]()  # the same as text
    keywords = EventField[str | None]()  # keywords
    bodylen = EventField[int | None]()  # length of the body on the server [bytes]
    readed = EventField[int | None]()  # not 0: marked as read
    priority = EventField[int | None]()  # not 0: important
    langid = EventField[int | None]()  # language; 0: not given [Windows language id]
    language = EventField[int | None]()  # language [Windows language id]
    flags = EventField[int | None]()  # kind of the news [flags NewsFlags]
    body_len = EventField[int | None]()  # length of the body
    languages_list = EventField[list[int] | None]()  # other languages in which the news exists [Windows language id]
    datetime = EventField[int | None]()  # when the news was published, as the API gives it: the unit is not known
    text = EventField[str | None]("body")  # text; nil: not known yet, or the API gives none

    @property
    def subject(self) -> str | None:
        """Return the headline; the API's two forms of news name it differently."""
        return self.body.get("subject", self.body.get("topic"))


class Mail(Event):
    """Internal mail."""

    __slots__ = ()
    time = EventField[int]()  # when the mail was sent [s, server clock]
    sender = EventField[int]()  # login of the sender
    from_ = EventField[str | None]("from")  # name of the sender
    to = EventField[int]()  # login of the receiver
    subject = EventField[str | None]()  # subject
    readed = EventField[int]()  # not 0: marked as read
    bodylen = EventField[int]()  # length of the body [bytes]
    build_min = EventField[int]()  # lowest build of the terminal that the mail is meant for; 0: any
    build_max = EventField[int]()  # highest build of the terminal that the mail is meant for; 0: any
    text = EventField[str | None]("body")  # text; nil: the API gives none


class Plugin(Event):
    """Server plugin settings changed."""

    __slots__ = ()
    file = EventField[str]()  # file on the server
    info = EventField[dict[str, Any]]()  # the plugin's description of itself
    enabled = EventField[int]()  # 1: the plugin runs
    configurable = EventField[int]()  # 1: the plugin can be configured
    manager_access = EventField[int]()  # 1: managers may configure the plugin
    name = EventField[str]()  # key of the topic: the plugin's name, or its file where it has no name
    parameters = EventField[list[dict[str, Any]] | None]()  # parameters


class Session(Event):
    """The Manager session started, stopped, or received a ping (ping is not durable)."""

    __slots__ = ()
    server = EventField[str]()  # MT4 server of the session
    login = EventField[int]()  # manager account
    state = EventField[str]()  # pumping after start and ping, lost after stop
    reason = EventField[str]()  # the pump code that reported it, or why the session was ended


class Heartbeat(Event):
    """The daemon's state and counters, once a second."""

    __slots__ = ()
    state = EventField[str]()  # state of the Manager session; `stopping` is in the last heartbeat of a clean stop
    since = EventField[int]()  # when this state began [ms since 1970]
    reason = EventField[str]()  # why the session was lost; empty: it is not lost
    server = EventField[str]()  # MT4 server
    server_code = EventField[str | None]()  # setting `server_code` of the daemon; empty by default
    version = EventField[str]()  # version of the daemon
    protocol = EventField[int]()  # version of this protocol
    interval_s = EventField[float]()  # longest time between two heartbeats, delays not included [s]
    uptime_s = EventField[float]()  # time since this run of the daemon began [s]
    log = EventField[str | None]()  # log that offsets refer to
    offsets = EventField[dict[str, int]]()  # last offset by kind
    durable = EventField[bool]()  # whether the journal is on and its last commit worked
    journal = EventField[dict[str, Any] | None]()  # counters of the journal; nil: there is none
    counts = EventField[dict[str, int]]()  # events numbered by kind, with or without a subscriber
    sent = EventField[int]()  # messages handed to ZeroMQ
    dropped = EventField[int]()  # records refused by the inbox
    inbox = EventField[dict[str, Any]]()  # the queue between the API and the publisher
    errors = EventField[dict[str, int]]()  # faults by name: each lost one record or one read, and was logged
    skipped = EventField[dict[str, int]]()  # records that were received and deliberately not published, by reason
    slow_readers = EventField[dict[str, Any]]()  # messages dropped for subscribers that read too slowly
    connections = EventField[dict[str, Any]]()  # subscribers' connections
    subscriptions = EventField[int]()  # different prefixes with at least one subscriber
    subscription_bytes = EventField[int | None]()  # text of all subscriptions, counted once per connection [bytes]
    query = EventField[dict[str, Any]]()  # counters of the query endpoint
    reconnects = EventField[int]()  # sessions after the first
    last_callback_ts = EventField[int]()  # when the API last called back; 0: never [ns since 1970]
    last_quote_ts = EventField[int]()  # when a quote last came; 0: never [ns since 1970]
    server_utc_offset_s = EventField[int | None]()  # server clock minus UTC; nil: not known yet [s]
    rss_bytes = EventField[int]()  # memory of the daemon [bytes]
    cpu_s = EventField[float]()  # CPU time of the daemon since its start, all threads together [s]
    threads = EventField[int]()  # threads of the daemon
    source = EventField[dict[str, int]]()  # counters of the library or the simulator
    deleted_files = EventField[dict[str, int]]()  # old files that the daemon deleted

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
CHANGES = ("opened", "placed", "activated", "modified", "closed", "cancelled", "balance", "credit", "deleted")
"""Values of `Trade.change`; a later version may have more."""
SESSION_STATES = ("connecting", "logged_in", "pumping", "lost", "stopping")
"""Values of `Session.state`; a later version may have more."""
