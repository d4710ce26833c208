"""Units and meanings of the API's record fields, one row per field or group of alike ones; pure.

A row is ``names: unit: meaning``. Names and types come from `mt4pump.mt4.layout`; a test holds
the two together, so that a field can neither go unexplained nor be explained without being published.
"""

from __future__ import annotations

from collections.abc import Mapping

TRADE_RECORD = (
    "order:: ticket",
    "login:: account that owns the order",
    "symbol:: symbol; empty for balance and credit operations",
    "digits: digits: decimal places of the symbol's prices",
    "cmd: enum TradeCommand: kind of order",
    "volume: 0.01 lot: size of the order",
    "open_time: s, server clock: when it was opened or placed",
    "state: enum TradeState: what became of it",
    "open_price: price: price it was opened at, or is to be activated at",
    "sl tp: price: stop loss, take profit; 0: none",
    "close_time: s, server clock: when it was closed; 0 while it is open",
    "gw_volume: 0.01 lot: volume at the gateway",
    "expiration: s, server clock: end of a pending order; 0: none",
    "reason: enum TradeReason: who opened it",
    "conv_rates: rate: profit currency to account currency at open [0] and at close [1]",
    "commission commission_agent: account currency: commission of the broker, of the agent",
    "storage: account currency: accumulated swap",
    "close_price: price: price it was closed at; while it is open the current one",
    "profit: account currency: profit; of OP_BALANCE and OP_CREDIT the amount",
    "taxes: account currency: taxes",
    "magic:: number that the client's robot gave it",
    "comment:: comment",
    "gw_order:: ticket at the gateway",
    "activation: enum Activation: which of its prices was reached; negative: the price came back",
    "gw_open_price gw_close_price: points: difference of the gateway's price at open, at close",
    "margin_rate: rate: margin currency to account currency",
    "timestamp: s, server clock: when the record last changed",
)

USER_RECORD = (
    "login:: account",
    "group:: group of the account",
    "enable:: 0: the account is disabled",
    "enable_change_password enable_read_only enable_otp:: 0 or 1: the right, or restriction, that the name says",
    "name country city state zipcode address phone email:: the client's own data",
    "lead_source:: where the client came from",
    "comment:: the broker's comment",
    "id:: identity document",
    "status:: the broker's own word for the account",
    "regdate: s, server clock: when the account was opened",
    "lastdate: s, server clock: last connection",
    "leverage: 1:n: leverage n",
    "agent_account:: account of the agent; 0: none",
    "timestamp: s, server clock: when the record last changed",
    "last_ip:: IPv4 address of the last connection, packed; network byte order is assumed",
    "balance credit: account currency: balance without credit, credit",
    "prevmonthbalance prevbalance: account currency: balance at the end of last month, of yesterday",
    "interestrate: %: annual interest",
    "taxes: account currency: taxes",
    "prevmonthequity prevequity: account currency: equity at the end of last month, of yesterday",
    "send_reports:: 0: no reports by e-mail",
    "mqid:: identity of the client's mobile terminal",
    "user_color: 0x00BBGGRR: colour in the vendor's terminals; 0xFF000000: none",
)

ONLINE_RECORD = (
    "counter: connections: connections of the account",
    "login:: account",
    "ip:: IPv4 address, packed",
    "group:: group of the account",
)

MARGIN_LEVEL = (
    "login:: account",
    "group:: group of the account",
    "leverage: 1:n: leverage n",
    "balance: account currency: balance and credit together, unlike a user's",
    "equity margin margin_free: account currency: equity, margin in use, margin that is free",
    "volume: 0.01 lot: size of all positions (unit presumed)",
    "margin_level: %: equity / margin",
    "margin_type: enum MarginType: how levels are measured",
    "level_type: enum MarginLevelType: whether the account is in margin call or stop-out",
)

CON_SESSION = (
    "open_hour close_hour: h, server clock: hour of opening, of closing",
    "open_min close_min: min: minute of it",
    "open close: min of the day: the same as minutes since midnight",
)

CON_SESSIONS = (
    "quote trade:: up to three sessions in which quotes come, in which trading is possible",
    "quote_overnight trade_overnight:: not 0: the last session goes on into the next day",
)

CON_SYMBOL = (
    "symbol:: name",
    "description:: description",
    "source:: symbol whose quotes it copies; empty: its own",
    "currency:: base currency",
    "type:: index of its symbol group",
    "digits: digits: decimal places of prices",
    "trade: enum SymbolTrade: what trading is allowed",
    "background_color: 0x00BBGGRR: colour in the vendor's terminals",
    "count count_original:: index in the list of symbols, before sorting",
    "realtime:: 0: no quotes",
    "starting expiration: s, server clock: first and last moment of trading; 0: none",
    "sessions:: sessions of seven week days, presumably from Sunday",
    "profit_mode: enum SymbolProfit: how profit is calculated",
    "filter:: filter of wrong quotes",
    "logging:: 0: quotes are not logged",
    "spread: points: fixed spread; 0: floating",
    "spread_balance: points: shift of the spread towards one side",
    "exemode: enum SymbolExecution: how orders are executed",
    "swap_enable:: 0: no swaps",
    "swap_type: enum SymbolSwap: what swap_long and swap_short are measured in",
    "swap_long swap_short: see swap_type: swap per night of a long, of a short position",
    "swap_rollover3days:: day of the triple swap, 0 = Monday",
    "contract_size: units: one lot",
    "tick_value tick_size:: value of the smallest change of price, and that change (futures)",
    "stops_level: points: how near to the price stops may be",
    "gtc_pendings: enum SymbolPendings: how long pending orders live",
    "margin_mode: enum SymbolMargin: how margin is calculated",
    "margin_initial margin_maintenance margin_hedged: margin currency: margin per lot; 0: by margin_mode",
    "margin_divider:: divides the margin",
    "point: price: smallest change of price, 10^-digits",
    "multiply:: 10^digits",
    "bid_tickvalue ask_tickvalue:: value of a point for the bid, for the ask",
    "long_only:: not 0: only long positions are allowed",
    "instant_max_volume: 0.01 lot: largest volume of instant execution",
    "margin_currency:: margin currency",
    "freeze_level: points: how near to its price an order can no longer be changed",
    "margin_hedged_strong:: how margin of hedged positions is checked",
    "value_date: s, server clock: value date",
    "quotes_delay: s: delay of quotes",
    "swap_openprice:: not 0: swaps are calculated at the open price",
    "swap_variation_margin:: not 0: variation margin is charged at rollover",
)

CON_GROUP_SEC = (
    "show trade:: 0: the symbols are hidden, are not traded",
    "execution: enum Execution: who executes orders",
    "comm_base comm_tax comm_agent: see comm_type: commission, its tax, the agent's commission",
    "comm_type comm_agent_type: enum CommissionType: what commissions are measured in",
    "comm_lots comm_agent_lots: enum CommissionPer: what commissions are charged for",
    "spread_diff: points: difference to the symbol's spread",
    "lot_min lot_max lot_step: 0.01 lot: smallest, largest volume and its step",
    "ie_deviation: points: largest deviation of instant execution",
    "confirmation:: not 0: orders on request are confirmed",
    "trade_rights: enum TradeDeny: what kind of close is denied",
    "ie_quick_mode:: not 0: instant execution is not asked for again",
    "autocloseout_mode: enum CloseOut: in which order opposite positions are closed",
    "freemargin_mode:: how free margin is checked",
)

CON_GROUP_MARGIN = (
    "symbol:: symbol that differs for this group",
    "swap_long swap_short: see the symbol's swap_type: its swaps",
    "margin_divider:: divides its margin",
)

CON_GROUP = (
    "group:: name",
    "enable:: 0: the group is disabled",
    "timeout: s: time-out of a request",
    "otp_mode: enum GroupOtp: one-time passwords",
    "company signature support_page support_email templates:: texts of the company",
    "copies:: how often reports are copied to support_email",
    "reports:: 0: no reports",
    "default_leverage: 1:n: leverage n of a new account",
    "default_deposit: account currency: deposit of a new demo account",
    "maxsecurities:: how many symbols a client sees; 0: all",
    "secgroups:: settings by index of the symbol group",
    "secmargins:: symbols that differ for this group; cut to secmargins_total",
    "secmargins_total:: how many there are",
    "currency:: account currency of the group",
    "credit: account currency: credit of a new account",
    "margin_call: %: level of the margin call",
    "margin_mode: enum GroupMargin: which floating profit counts as free margin",
    "margin_stopout: see margin_type: level of the stop-out",
    "interestrate: %: annual interest",
    "use_swap:: 0: no swaps",
    "news: enum GroupNews: which news the clients get",
    "rights: flags GroupRights: what the clients may do",
    "check_ie_prices:: not 0: prices of instant execution are checked",
    "maxpositions:: how many open orders an account may have; 0: any",
    "close_reopen:: not 0: a partly closed order is closed and opened anew",
    "hedge_prohibited:: not 0: no opposite positions",
    "close_fifo:: not 0: the oldest order is closed first",
    "hedge_largeleg:: not 0: margin is taken for the larger leg",
    "margin_type: enum MarginType: what margin_stopout is measured in",
    "archive_period archive_pending_period: days: when idle accounts and old pending orders are archived",
    "archive_max_balance: account currency: largest balance of an account that is archived",
    "stopout_skip_hedged:: not 0: fully hedged accounts are not stopped out",
    "news_languages: Windows language id: languages of news; cut to news_languages_total",
    "news_languages_total:: how many there are",
)

TRADE_TRANS_INFO = (
    "type: enum TransactionType: what is asked for",
    "flags: flags TransactionFlags: where it comes from",
    "cmd: enum TradeCommand: kind of order",
    "order orderby:: ticket, and the opposite one of a close by",
    "symbol:: symbol",
    "volume: 0.01 lot: size",
    "price sl tp: price: price, stop loss, take profit",
    "ie_deviation: points: deviation that the client accepts",
    "comment:: comment",
    "expiration: s, server clock: end of a pending order; 0: none",
)

REQUEST_INFO = (
    "id:: identity of the request",
    "status: enum RequestStatus: what became of it",
    "time:: when it came, as the API has it: its unit is not known",
    "manager:: dealer who works on it; 0: nobody",
    "login:: account that asks",
    "group:: group of the account",
    "balance credit: account currency: the account's balance and credit",
    "prices: price: bid [0] and ask [1] that were answered",
    "trade:: what is asked for",
    "gw_volume: 0.01 lot: volume at the gateway",
    "gw_order:: ticket at the gateway",
    "gw_price: points: difference of the gateway's price",
)

PLUGIN_INFO = (
    "name:: the name that it gives itself",
    "version:: version, as the plugin counts",
    "copyright:: copyright",
)

PLUGIN_CFG = (
    "name:: name of the parameter",
    "value:: its value",
)

CON_PLUGIN = (
    "file:: file on the server",
    "info:: what it says of itself",
    "enabled configurable manager_access:: 0 or 1: it runs, can be configured, may be configured by managers",
)

NEWS_TOPIC = (
    "key:: identity of the news",
    "time: s, server clock: when it was published",
    "ctm:: the same as text",
    "topic:: headline",
    "category:: category",
    "keywords:: keywords",
    "bodylen: bytes: length of the body on the server",
    "readed:: not 0: marked as read",
    "priority:: not 0: important",
    "langid: Windows language id: language; 0: not said",
)

NEWS_TOPIC_NEW = (
    "key:: identity of the news",
    "language: Windows language id: language",
    "subject:: headline",
    "category:: category",
    "flags: flags NewsFlags: what kind of news it is",
    "body_len:: length of the body; bytes or characters, the API does not say: so many bytes of it are in body",
    "languages_list: Windows language id: the other languages that it exists in",
    "datetime:: when it was published, as the API has it: its unit is not known",
)

MAIL_BOX = (
    "time: s, server clock: when it was sent",
    "sender:: login of the sender",
    "from:: name of the sender",
    "to:: login of the receiver",
    "subject:: subject",
    "readed:: not 0: marked as read",
    "bodylen: bytes: length of the body",
    "build_min build_max:: builds of the terminal that it is meant for; 0: any",
)

NOTES: Mapping[str, tuple[str, ...]] = {
    "TradeRecord": TRADE_RECORD,
    "UserRecord": USER_RECORD,
    "OnlineRecord": ONLINE_RECORD,
    "MarginLevel": MARGIN_LEVEL,
    "ConSession": CON_SESSION,
    "ConSessions": CON_SESSIONS,
    "ConSymbol": CON_SYMBOL,
    "ConGroupSec": CON_GROUP_SEC,
    "ConGroupMargin": CON_GROUP_MARGIN,
    "ConGroup": CON_GROUP,
    "TradeTransInfo": TRADE_TRANS_INFO,
    "RequestInfo": REQUEST_INFO,
    "PluginInfo": PLUGIN_INFO,
    "PluginCfg": PLUGIN_CFG,
    "ConPlugin": CON_PLUGIN,
    "NewsTopic": NEWS_TOPIC,
    "NewsTopicNew": NEWS_TOPIC_NEW,
    "MailBox": MAIL_BOX,
}
"""Rows by record."""
