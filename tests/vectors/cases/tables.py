"""Accounts, connections, symbols, groups, requests, plugins."""

from __future__ import annotations

import math
from typing import Any

from mt4pump.mt4.codes import PumpCode, RequestStatus, Transaction
from mt4pump.mt4.layout import USER_RECORD
from mt4pump.mt4.record import PERSONAL
from tests.vectors.case import Case, Rec, Step, call, case, lost, parameters, rec, table
from tests.vectors.cases.texts import BROKEN, TEXTS

USER: dict[str, Any] = {
    "login": 1_001,
    "group": "demoforex",
    "enable": 1,
    "status": "RE",
    "regdate": 1_500_000_000,
    "leverage": 100,
    "lastdate": 1_577_916_000,
    "timestamp": 1_577_916_000,
    "balance": 1_000.0,
    "credit": 50.0,
    "taxes": 0.0,
    "prevbalance": 990.5,
    "prevmonthbalance": 500.25,
    "prevequity": 991.0,
    "interestrate": 0.5,
    "user_color": 0xFF000000,
    "send_reports": 1,
    "enable_change_password": 1,
    "agent_account": 0,
}
SECRETS = {"password": "hidden1", "password_investor": "hidden2", "password_phone": "hidden3", "otp_secret": "hidden4"}
PERSON: dict[str, Any] = {
    "name": "Ann Example",
    "email": "ann@example.com",
    "country": "Nowhere",
    "last_ip": 0x0100007F,
    "mqid": 2**32 - 1,
}
SYMBOL: dict[str, Any] = {
    "symbol": "EURUSD",
    "description": "Euro vs US Dollar",
    "currency": "EUR",
    "margin_currency": "EUR",
    "type": 0,
    "digits": 5,
    "trade": 2,
    "background_color": 0x00C8D003,
    "realtime": 1,
    "exemode": 2,
    "swap_enable": 1,
    "swap_long": -5.1,
    "swap_short": 1.2,
    "swap_rollover3days": 2,
    "contract_size": 100_000.0,
    "stops_level": 10,
    "point": 0.00001,
    "multiply": 100_000.0,
    "margin_divider": 1.0,
    "count": 1,
    "gtc_pendings": 1,
}
GROUP: dict[str, Any] = {
    "group": "demoforex",
    "enable": 1,
    "timeout": 60,
    "company": "Example Ltd",
    "currency": "USD",
    "rights": 15,
    "default_leverage": 100,
    "default_deposit": 5_000.0,
    "margin_call": 80,
    "margin_stopout": 20,
    "news": 2,
    "use_swap": 1,
    "smtp_server": "mail",
    "smtp_login": "hidden5",
    "smtp_password": "hidden6",
}
SECURITY = {"show": 1, "trade": 1, "execution": 1, "comm_base": 3.5, "lot_min": 1, "lot_max": 10_000, "lot_step": 1}
REQUEST: dict[str, Any] = {
    "id": 4_711,
    "status": 1,
    "time": 123_456,
    "manager": 0,
    "login": 1_001,
    "group": "demoforex",
    "balance": 1_000.0,
    "credit": 50.0,
    "prices": [1.1212, 1.1214],
}
ASKED = {"type": 64, "cmd": 0, "symbol": "EURUSD", "volume": 150, "price": 1.1214, "sl": 1.115, "ie_deviation": 5}
PLUGIN: dict[str, Any] = {
    "file": "report.dll",
    "enabled": 1,
    "configurable": 1,
    "manager_access": 0,
    "info": {"name": "Report server", "version": 1_200, "copyright": "Example Ltd"},
}
ACTIONS = {action.name: int(action) for action in Transaction} | {"an action that the API does not have": 42}


def result(code: PumpCode, record: str, usual: dict[str, Any], action: int, /, **fields: Any) -> Step:
    """Return a callback with a record."""
    return call(code, action, rec(record, usual, fields))


def user(action: int = Transaction.UPDATE, /, **fields: Any) -> Step:
    """Return a callback with the usual account, changed."""
    return result(PumpCode.UPDATE_USERS, "UserRecord", USER | SECRETS, action, **fields)


def symbol(action: int = Transaction.UPDATE, /, **fields: Any) -> Step:
    """Return a callback with the usual symbol, changed."""
    return result(PumpCode.UPDATE_SYMBOLS, "ConSymbol", SYMBOL, action, **fields)


def group(action: int = Transaction.UPDATE, /, **fields: Any) -> Step:
    """Return a callback with the usual group, changed."""
    return result(PumpCode.UPDATE_GROUPS, "ConGroup", GROUP, action, **fields)


def request(action: int = Transaction.ADD, /, **fields: Any) -> Step:
    """Return a callback with the usual request, changed."""
    return result(PumpCode.UPDATE_REQUESTS, "RequestInfo", REQUEST | {"trade": ASKED}, action, **fields)


def cases() -> dict[str, list[Case]]:
    """Return the cases of every kind."""
    return {
        "user": _users(),
        "online": _online(),
        "symbol": _symbols(),
        "group": _groups(),
        "request": _requests(),
        "plugin": _plugins(),
    }


def _users() -> list[Case]:
    every = sorted(USER_RECORD.names(PERSONAL))
    bell = call(PumpCode.UPDATE_USERS)
    known = table("users", rec("UserRecord", USER))
    full: dict[str, Any] = {"group": "0123456789abcdef", "status": "fedcba9876543210"}
    return [
        *(case(name, user(action)) for name, action in ACTIONS.items()),
        case("secrets are never told, personal data is not asked for", user(**PERSON)),
        case("user_fields: name and email", user(**PERSON), user_fields=["email", "name"]),
        case("user_fields: all", user(**PERSON, comment="x", id="A-1", phone="+0"), user_fields=every),
        case("login below zero", user(login=-1_001)),
        case("all zero but the login", call(PumpCode.UPDATE_USERS, 0, rec("UserRecord", login=1))),
        case("times before 1970", user(regdate=-1, lastdate=-(2**31))),
        case("balance no number", user(balance=math.nan, credit=-math.inf)),
        case("balance huge", user(balance=1e308, prevequity=-5e-324)),
        case("texts full, without a NUL", user(**full)),
        case("texts empty", user(group="", status="")),
        *(case(f"group in {page}", user(group=text), encoding=page) for page, text in TEXTS.items()),
        *(case(f"group broken in {page}", user(group=raw), encoding=page) for page, raw in BROKEN.items()),
        case("by table: update", table("users", rec("UserRecord", USER, balance=5.0)), bell, setup=(known,)),
        case("by table: add", known, bell),
        case("by table: delete", table("users"), bell, setup=(known,)),
        case(
            "by table: a secret that changed is no event",
            table("users", rec("UserRecord", USER | SECRETS)),
            bell,
            setup=(known,),
        ),
        case(
            "synthetic: changed while the session was away",
            lost("mute: no callback of any kind, not even PING, for 60 s"),
            table("users", rec("UserRecord", USER, balance=7.0)),
            call(PumpCode.START_PUMPING),
            setup=(known,),
        ),
    ]


def _online() -> list[Case]:
    def online(**fields: Any) -> Rec:
        return rec("OnlineRecord", {"counter": 1, "login": 1_001, "group": "demoforex", "ip": 0x0100007F}, fields)

    bell = call(PumpCode.UPDATE_ONLINE)
    return [
        case("add", table("online", online()), bell),
        case(
            "update: a second connection", table("online", online(counter=2)), bell, setup=(table("online", online()),)
        ),
        case("delete", table("online"), bell, setup=(table("online", online()),)),
        case("login below zero", table("online", online(login=-1)), bell),
        case("group full, without a NUL", table("online", online(group="0123456789abcdef")), bell),
        *(
            case(f"group in {page}", table("online", online(group=text)), bell, encoding=page)
            for page, text in (("cp1251", "Рубль"), ("cp932", "日本円"))
        ),
    ]


def _symbols() -> list[Case]:
    day = {"quote": [{"open_hour": 0, "close_hour": 24, "close": 1440}], "trade": [{"open_min": 5, "open": 5}]}
    known = table("symbols", rec("ConSymbol", SYMBOL))
    bell = call(PumpCode.UPDATE_SYMBOLS)
    return [
        *(case(name, symbol(action)) for name, action in ACTIONS.items()),
        case("sessions of a week", symbol(sessions=[day | {"quote_overnight": n} for n in range(7)])),
        case("values no number", symbol(swap_long=math.nan, tick_value=math.inf, margin_initial=-math.inf)),
        case("texts full, without a NUL", symbol(symbol="ABCDEFGHIJKL", description="d" * 64, source="s" * 12)),
        case("texts empty", symbol(symbol="", description="")),
        case("symbol with dots", symbol(symbol="EUR.USD.pro")),
        *(
            case(f"description in {page}", symbol(description=TEXTS[page]), encoding=page)
            for page in ("cp1251", "cp932", "cp936", "utf-8")
        ),
        case("by table: update", table("symbols", rec("ConSymbol", SYMBOL, spread=15)), bell, setup=(known,)),
        case("by table: delete", table("symbols"), bell, setup=(known,)),
    ]


def _groups() -> list[Case]:
    margins = [
        {"symbol": "EURUSD", "swap_long": -1.0, "margin_divider": 2.0},
        {"symbol": "GBPUSD", "swap_short": math.nan},
    ]
    return [
        *(case(name, group(ACTIONS[name])) for name in ("ADD", "DELETE", "UPDATE")),
        case("secrets are never told", group(support_email="help@example.com")),
        case("securities", group(secgroups=[SECURITY, SECURITY | {"comm_tax": -0.5, "spread_diff": -3}])),
        case("two margins in use", group(secmargins=margins, secmargins_total=2)),
        case("totals out of range show whole arrays", group(secmargins_total=-1, news_languages_total=9)),
        case("languages of news", group(news_languages=[1033, 1049, 1031], news_languages_total=3)),
        case("texts full, without a NUL", group(group="0123456789abcdef", company="c" * 128)),
        case("group in cp1251", group(group="демо", company="Пример"), encoding="cp1251"),
    ]


def _requests() -> list[Case]:
    bell = call(PumpCode.UPDATE_REQUESTS)
    known = table("requests", rec("RequestInfo", REQUEST, trade=ASKED))
    return [
        *(case(f"add: {status.name}", request(status=status)) for status in RequestStatus),
        case("update: a dealer took it", request(), request(Transaction.UPDATE, status=2, manager=5)),
        case("delete", request(), request(Transaction.DELETE, status=3)),
        case("close by", request(trade=ASKED | {"type": 73, "order": 5_001, "orderby": 5_002, "flags": 2})),
        case("numbers at their ends", request(time=2**32 - 1, login=-1, gw_price=-32768, prices=[math.nan, -0.0])),
        case("trade's type beyond a signed byte", request(trade=ASKED | {"type": 255, "flags": -128, "cmd": -1})),
        case("comment full, in cp932", request(trade=ASKED | {"comment": "円" * 16}), encoding="cp932"),
        case("by table: delete", table("requests"), bell, setup=(known,)),
    ]


def _plugins() -> list[Case]:
    bell = call(PumpCode.UPDATE_PLUGINS)
    plugin, unnamed = rec("ConPlugin", PLUGIN), rec("ConPlugin", PLUGIN, info={})
    setting = parameters(0, rec("PluginCfg", name="Path", value="C:\\x"), rec("PluginCfg", name="", value=""))
    return [
        case("add", table("plugins", plugin), bell),
        case(
            "update: switched off",
            table("plugins", rec("ConPlugin", PLUGIN, enabled=0)),
            bell,
            setup=(table("plugins", plugin),),
        ),
        case("delete", table("plugins"), bell, setup=(table("plugins", plugin),)),
        case("named after its file", table("plugins", unnamed), bell),
        case("with parameters", setting, table("plugins", plugin), bell, plugin_parameters=True),
        case("parameters that the API cannot give", table("plugins", plugin), bell, plugin_parameters=True),
        case("name full, without a NUL", table("plugins", rec("ConPlugin", PLUGIN, info={"name": "n" * 128})), bell),
        case(
            "name in cp1251",
            table("plugins", rec("ConPlugin", PLUGIN, info={"name": "Отчёт"})),
            bell,
            encoding="cp1251",
        ),
    ]
