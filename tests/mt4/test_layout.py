"""The table of records against the header's own layout, and what of it may ever be published."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import CALLBACK_RECORD
from mt4pump.mt4.manager import TABLES
from mt4pump.mt4.record import INTERNAL, PERSONAL, PUBLIC, SECRET, VISIBILITIES, Field, Record
from tests.reference import api_layout

SIZES = {
    "ConGroupSec": 112,
    "ConGroupMargin": 72,
    "ConGroup": 13696,
    "ConSession": 32,
    "ConSessions": 208,
    "ConSymbol": 1936,
    "PluginInfo": 388,
    "PluginCfg": 224,
    "ConPlugin": 904,
    "ConPluginParam": 912,
    "UserRecord": 1120,
    "OnlineRecord": 32,
    "TradeRecord": 224,
    "TradeTransInfo": 96,
    "RequestInfo": 192,
    "MarginLevel": 88,
    "SymbolInfo": 112,
    "MailBox": 224,
    "NewsTopic": 640,
    "NewsTopicNew": 1300,
}

MAY_BE_PUBLISHED = {
    "ConGroupSec": """show trade execution comm_base comm_type comm_lots comm_agent comm_agent_type spread_diff lot_min
        lot_max lot_step ie_deviation confirmation trade_rights ie_quick_mode autocloseout_mode comm_tax comm_agent_lots
        freemargin_mode""",
    "ConGroupMargin": "symbol swap_long swap_short margin_divider",
    "ConGroup": """group enable timeout otp_mode company signature support_page support_email templates copies reports
        default_leverage default_deposit maxsecurities secgroups secmargins secmargins_total currency credit margin_call
        margin_mode margin_stopout interestrate use_swap news rights check_ie_prices maxpositions close_reopen
        hedge_prohibited close_fifo hedge_largeleg margin_type archive_period archive_max_balance stopout_skip_hedged
        archive_pending_period news_languages news_languages_total""",
    "ConSession": "open_hour open_min close_hour close_min open close",
    "ConSessions": "quote trade quote_overnight trade_overnight",
    "ConSymbol": """symbol description source currency type digits trade background_color count count_original realtime
        starting expiration sessions profit_mode filter logging spread spread_balance exemode swap_enable swap_type
        swap_long swap_short swap_rollover3days contract_size tick_value tick_size stops_level gtc_pendings margin_mode
        margin_initial margin_maintenance margin_hedged margin_divider point multiply bid_tickvalue ask_tickvalue
        long_only instant_max_volume margin_currency freeze_level margin_hedged_strong value_date quotes_delay
        swap_openprice swap_variation_margin""",
    "PluginInfo": "name version copyright",
    "PluginCfg": "name value",
    "ConPlugin": "file info enabled configurable manager_access",
    "ConPluginParam": "plugin total",
    "UserRecord": """login group enable enable_change_password enable_read_only enable_otp status regdate lastdate
        leverage agent_account timestamp balance prevmonthbalance prevbalance credit interestrate taxes prevmonthequity
        prevequity send_reports user_color""",
    "OnlineRecord": "counter login group",
    "TradeRecord": """order login symbol digits cmd volume open_time state open_price sl tp close_time gw_volume
        expiration reason conv_rates commission commission_agent storage close_price profit taxes magic comment gw_order
        activation gw_open_price gw_close_price margin_rate timestamp""",
    "TradeTransInfo": "type flags cmd order orderby symbol volume price sl tp ie_deviation comment expiration",
    "RequestInfo": "id status time manager login group balance credit prices trade gw_volume gw_order gw_price",
    "MarginLevel": "login group leverage balance equity volume margin margin_free margin_level margin_type level_type",
    "SymbolInfo": """symbol digits count visible type point spread spread_balance direction lasttime bid ask high low
        commission comm_type""",
    "MailBox": "time sender to readed bodylen build_min build_max",
    "NewsTopic": "key time ctm topic category keywords bodylen readed priority langid",
    "NewsTopicNew": "key language subject category flags body_len languages_list datetime",
}
"""Frozen on purpose: whoever publishes one field more has to say so here."""

MAY_BE_ASKED_FOR = {
    "UserRecord": "name country city state zipcode address lead_source phone email comment id last_ip mqid",
    "OnlineRecord": "ip",
    "MailBox": "from subject",
}
"""Personal data: published only when the settings name it."""

SOUNDS_SECRET = re.compile(r"password|secret|otp_secret|smtp_(login|password)|pass|secure")
NOT_SECRET = {("UserRecord", "enable_change_password")}
"""A yes or no about passwords, not one."""

LETTERS = {
    "c_int8": "b",
    "c_uint8": "B",
    "c_int16": "h",
    "c_int32": "i",
    "c_uint32": "I",
    "c_int64": "q",
    "c_float": "f",
    "c_double": "d",
}

every_record = pytest.mark.parametrize("name", SIZES)


def declared(field: dict[str, Any]) -> str:
    """Return the header's type of a member in the words of our rows."""
    kind, _, times = field["ctypes"].partition(" * ")
    if kind == "c_char":
        return f"{times}s"
    if kind == "c_uint16" and field["kind"] == "utf16_text":
        return f"{times}u"
    if kind in LETTERS:
        return f"{times}{LETTERS[kind]}"
    return f"{kind}*{times}" if times else str(kind)


def written(field: Field) -> str:
    """Return our type of a member; raw bytes are what the header calls characters."""
    if field.record:
        return f"{field.record.name}*{field.count}" if field.count else field.record.name
    if field.kind == "r":
        return f"{field.count}s"
    return f"{field.count or ''}{field.kind}"


def test_the_list_of_records_is_complete() -> None:
    assert Record.known.keys() == SIZES.keys() == MAY_BE_PUBLISHED.keys()


@every_record
def test_size_is_the_one_every_build_has(name: str) -> None:
    assert Record.known[name].size == Record.known[name].struct.size == SIZES[name]


@every_record
def test_size_packing_and_alignment_are_the_headers(name: str) -> None:
    expected, record = api_layout()[name], Record.known[name]
    assert expected["size"] == {"x86": record.size, "x64": record.size}
    assert expected["align"] == {"x86": record.align, "x64": record.align}
    assert expected["packed"] == record.packed


@every_record
def test_every_member_stands_where_the_header_puts_it_on_both_word_sizes(name: str) -> None:
    ours = [(field.name, field.offset, field.offset, field.size) for field in Record.known[name].fields]
    assert ours == [
        (field["name"], field["offset_x86"], field["offset_x64"], field["size"])
        for field in api_layout()[name]["fields"]
    ]


@every_record
def test_every_member_has_the_headers_type_and_count(name: str) -> None:
    ours = {field.name: written(field) for field in Record.known[name].fields if field.name != "api_data"}
    headers = {field["name"]: declared(field) for field in api_layout()[name]["fields"] if field["name"] != "api_data"}
    assert ours.items() - headers.items() == set()
    assert ours.keys() == headers.keys()


@every_record
def test_every_member_has_a_visibility(name: str) -> None:
    assert {field.visibility for field in Record.known[name].fields} <= set(VISIBILITIES)
    assert len(Record.known[name].by_name) == len(Record.known[name].fields)


@every_record
def test_only_the_members_of_the_frozen_list_may_be_published(name: str) -> None:
    assert Record.known[name].names(PUBLIC) == set(MAY_BE_PUBLISHED[name].split())


@every_record
def test_only_the_members_of_the_frozen_list_may_be_asked_for(name: str) -> None:
    assert Record.known[name].names(PERSONAL) == set(MAY_BE_ASKED_FOR.get(name, "").split())


@every_record
def test_whatever_sounds_like_a_secret_is_one(name: str) -> None:
    record = Record.known[name]
    sounding = {field.name for field in record.fields if SOUNDS_SECRET.search(field.name)}
    assert sounding - record.names(SECRET) <= {field for owner, field in NOT_SECRET if owner == name}


def test_the_members_that_the_header_says_never_to_publish_are_secret() -> None:
    noted = {
        (name, field["name"])
        for name in SIZES
        for field in api_layout()[name]["fields"]
        if "never publish" in field.get("note", "")
    }
    assert noted
    assert not [pair for pair in noted if Record.known[pair[0]].by_name[pair[1]].visibility != SECRET]


@every_record
def test_pointers_padding_and_reserved_members_stay_inside(name: str) -> None:
    record = Record.known[name]
    for field in api_layout()[name]["fields"]:
        if field["kind"] == "ptr32" or "reserved" in field["name"] or field["name"] in {"unused", "api_data", "align"}:
            assert record.by_name[field["name"]].visibility in {INTERNAL, SECRET}, field["name"]


def test_a_nested_record_holds_nothing_personal_or_secret() -> None:
    nested = {field.record for record in Record.known.values() for field in record.fields if field.record}
    assert nested
    assert all(not record.names(PERSONAL, SECRET) for record in nested)


def test_every_code_that_carries_a_record_knows_which() -> None:
    assert {code: record.name for code, record in CALLBACK_RECORD.items()} == {
        PumpCode.UPDATE_SYMBOLS: "ConSymbol",
        PumpCode.UPDATE_GROUPS: "ConGroup",
        PumpCode.UPDATE_USERS: "UserRecord",
        PumpCode.UPDATE_NEWS: "NewsTopic",
        PumpCode.UPDATE_MAIL: "MailBox",
        PumpCode.UPDATE_TRADES: "TradeRecord",
        PumpCode.UPDATE_REQUESTS: "RequestInfo",
        PumpCode.UPDATE_NEWS_NEW: "NewsTopicNew",
    }


def test_every_table_is_an_array_of_a_known_record() -> None:
    assert set(TABLES.values()) <= SIZES.keys()
