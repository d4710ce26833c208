"""The Manager API's records: names, sizes, offsets, and what of each may ever be published; pure.

Rows follow the order of the header (builds 509 to 1403), so that one table reads and writes a record. Names are MT4's
own. Times are seconds on the *server's* clock, volumes hundredths of a lot. Pointer members are 32 bits wide in both
DLLs (``I``, internal) and are never followed here.
"""

from __future__ import annotations

from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.record import PERSONAL, Record

CON_GROUP_SEC = Record("ConGroupSec", 112, """
    public i: show trade execution
    public d: comm_base
    public i: comm_type comm_lots
    public d: comm_agent
    public i: comm_agent_type spread_diff lot_min lot_max lot_step ie_deviation confirmation
    public i: trade_rights ie_quick_mode autocloseout_mode
    public d: comm_tax
    public i: comm_agent_lots freemargin_mode
    internal 3i: reserved
""")  # fmt: skip

CON_GROUP_MARGIN = Record("ConGroupMargin", 72, """
    public 12s: symbol
    public d: swap_long swap_short margin_divider
    internal 7i: reserved
""")  # fmt: skip

CON_GROUP = Record("ConGroup", 13696, """
    public 16s: group
    public i: enable timeout otp_mode
    public 128s: company signature support_page
    internal 64s: smtp_server
    secret 32s: smtp_login smtp_password
    public 64s: support_email
    public 32s: templates
    public i: copies reports default_leverage
    public d: default_deposit
    public i: maxsecurities
    public ConGroupSec*32: secgroups
    public ConGroupMargin*128: secmargins
    public i: secmargins_total
    public 12s: currency
    public d: credit
    public i: margin_call margin_mode margin_stopout
    public d: interestrate
    public i: use_swap news rights check_ie_prices maxpositions close_reopen hedge_prohibited close_fifo hedge_largeleg
    internal 2i: unused_rights
    internal 16r: securities_hash
    public i: margin_type archive_period archive_max_balance stopout_skip_hedged archive_pending_period
    public 8I: news_languages
    public I: news_languages_total
    internal 17i: reserved
""")  # fmt: skip

CON_SESSION = Record("ConSession", 32, """
    public h: open_hour open_min close_hour close_min
    public i: open close
    internal 7h: align
""")  # fmt: skip

CON_SESSIONS = Record("ConSessions", 208, """
    public ConSession*3: quote trade
    public i: quote_overnight trade_overnight
    internal 2i: reserved
""")  # fmt: skip

CON_SYMBOL = Record("ConSymbol", 1936, """
    public 12s: symbol
    public 64s: description
    public 12s: source currency
    public i: type digits trade
    public I: background_color
    public i: count count_original
    internal 7i: external_unused
    public i: realtime starting expiration
    public ConSessions*7: sessions
    public i: profit_mode
    internal i: profit_reserved
    public i: filter
    internal i: filter_counter
    internal d: filter_limit
    internal i: filter_smoothing
    internal f: filter_reserved
    public i: logging spread spread_balance exemode swap_enable swap_type
    public d: swap_long swap_short
    public i: swap_rollover3days
    public d: contract_size tick_value tick_size
    public i: stops_level gtc_pendings margin_mode
    public d: margin_initial margin_maintenance margin_hedged margin_divider point multiply bid_tickvalue ask_tickvalue
    public i: long_only instant_max_volume
    public 12s: margin_currency
    public i: freeze_level margin_hedged_strong value_date quotes_delay swap_openprice swap_variation_margin
    internal 21i: unused
""")  # fmt: skip

PLUGIN_INFO = Record("PluginInfo", 388, """
    public 128s: name
    public I: version
    public 128s: copyright
    internal 32i: reserved
""")  # fmt: skip

PLUGIN_CFG = Record("PluginCfg", 224, """
    public 32s: name
    public 128s: value
    internal 16i: reserved
""")  # fmt: skip

CON_PLUGIN = Record("ConPlugin", 904, """
    public 256s: file
    public PluginInfo: info
    public i: enabled configurable manager_access
    internal 62i: reserved
""")  # fmt: skip

CON_PLUGIN_PARAM = Record("ConPluginParam", 912, """
    public ConPlugin: plugin
    internal I: params
    public i: total
""")  # fmt: skip

USER_RECORD = Record("UserRecord", 1120, """
    public i: login
    public 16s: group
    secret 16s: password
    public i: enable enable_change_password enable_read_only enable_otp
    internal 2i: enable_reserved
    secret 16s: password_investor
    secret 32s: password_phone
    personal 128s: name
    personal 32s: country city state
    personal 16s: zipcode
    personal 96s: address
    personal 32s: lead_source phone
    personal 48s: email
    personal 64s: comment
    personal 32s: id
    public 16s: status
    public i: regdate lastdate leverage agent_account timestamp
    personal i: last_ip
    public d: balance prevmonthbalance prevbalance credit interestrate taxes prevmonthequity prevequity
    internal 2d: reserved2
    secret 32s: otp_secret
    secret 240s: secure_reserved
    public i: send_reports
    personal I: mqid
    public I: user_color
    internal 40s: unused
    internal 16r: api_data
""")  # fmt: skip

ONLINE_RECORD = Record("OnlineRecord", 32, """
    public i: counter
    internal i: reserved
    public i: login
    personal I: ip
    public 16s: group
""")  # fmt: skip

TRADE_RECORD = Record("TradeRecord", 224, """
    public i: order login
    public 12s: symbol
    public i: digits cmd volume open_time state
    public d: open_price sl tp
    public i: close_time gw_volume expiration
    public b: reason
    internal 3s: conv_reserv
    public 2d: conv_rates
    public d: commission commission_agent storage close_price profit taxes
    public i: magic
    public 32s: comment
    public i: gw_order activation
    public h: gw_open_price gw_close_price
    public d: margin_rate
    public i: timestamp
    internal 4i: api_data
    internal I: next
""", packed=True)  # fmt: skip

TRADE_TRANS_INFO = Record("TradeTransInfo", 96, """
    public B: type
    public b: flags
    public h: cmd
    public i: order orderby
    public 12s: symbol
    public i: volume
    public d: price sl tp
    public i: ie_deviation
    public 32s: comment
    public i: expiration
    internal i: crc
""", packed=True)  # fmt: skip

REQUEST_INFO = Record("RequestInfo", 192, """
    public i: id
    public b: status
    public I: time
    public i: manager login
    public 16s: group
    public d: balance credit
    public 2d: prices
    public TradeTransInfo: trade
    public i: gw_volume gw_order
    public h: gw_price
    internal I: prev next
""")  # fmt: skip

MARGIN_LEVEL = Record("MarginLevel", 88, """
    public i: login
    public 16s: group
    public i: leverage
    internal i: updated
    public d: balance equity
    public i: volume
    public d: margin margin_free margin_level
    public i: margin_type level_type
""")  # fmt: skip

SYMBOL_INFO = Record("SymbolInfo", 112, """
    public 12s: symbol
    public i: digits count visible type
    public d: point
    public i: spread spread_balance direction
    internal i: updateflag
    public i: lasttime
    public d: bid ask high low commission
    public i: comm_type
""")  # fmt: skip

MAIL_BOX = Record("MailBox", 224, """
    public i: time sender
    personal 64s: from
    public i: to
    personal 128s: subject
    public i: readed
    internal I: body
    public i: bodylen
    public h: build_min build_max
    internal i: reserved
""")  # fmt: skip
MAIL_PERSONAL = MAIL_BOX.names(PERSONAL) | {"body"}
"""What a mail holds of persons; ``body`` is the text, which lies behind the record."""

NEWS_TOPIC = Record("NewsTopic", 640, """
    public I: key
    public i: time
    public 32s: ctm
    public 256s: topic
    public 64s: category
    public 256s: keywords
    internal I: body
    public i: bodylen readed priority langid
    internal 1i: reserved
""")  # fmt: skip

NEWS_TOPIC_NEW = Record("NewsTopicNew", 1300, """
    public I: key language
    public 256u: subject category
    public I: flags
    internal I: body
    public I: body_len
    public 32I: languages_list
    public q: datetime
    internal 30I: reserved
""", packed=True)  # fmt: skip

CALLBACK_RECORD = {
    PumpCode.UPDATE_SYMBOLS: CON_SYMBOL,
    PumpCode.UPDATE_GROUPS: CON_GROUP,
    PumpCode.UPDATE_USERS: USER_RECORD,
    PumpCode.UPDATE_NEWS: NEWS_TOPIC,
    PumpCode.UPDATE_MAIL: MAIL_BOX,
    PumpCode.UPDATE_TRADES: TRADE_RECORD,
    PumpCode.UPDATE_REQUESTS: REQUEST_INFO,
    PumpCode.UPDATE_NEWS_NEW: NEWS_TOPIC_NEW,
}
"""What ``data`` points at, per code, when it is not NULL. ONLINE is left out: sources disagree on its data."""
