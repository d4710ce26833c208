"""Numbers of the MT4 Manager API under their own names; pure.

Source: the API's header, builds 509 to 1403; no number ever changed between them.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag


class PumpCode(IntEnum):
    """First argument of the pump callback. A code outside this table is passed on as a number, never assumed."""

    START_PUMPING = 0
    UPDATE_SYMBOLS = 1
    UPDATE_GROUPS = 2
    UPDATE_USERS = 3
    UPDATE_ONLINE = 4
    UPDATE_BIDASK = 5
    UPDATE_NEWS = 6
    UPDATE_NEWS_BODY = 7
    UPDATE_MAIL = 8
    UPDATE_TRADES = 9
    UPDATE_REQUESTS = 10
    UPDATE_PLUGINS = 11
    UPDATE_ACTIVATION = 12
    UPDATE_MARGINCALL = 13
    STOP_PUMPING = 14
    PING = 15
    UPDATE_NEWS_NEW = 16


class Transaction(IntEnum):
    """Second argument of the callback (TRANS_*) for codes that carry a record."""

    ADD = 0
    DELETE = 1
    UPDATE = 2
    CHANGE_GRP = 3


ACTION_NAMES: dict[int, str] = dict(zip(Transaction, ("add", "delete", "update", "change_group"), strict=True))


class PumpFlag(IntFlag):
    """What PumpingSwitchEx is asked to leave out, or to send in full (CLIENT_FLAGS_*)."""

    HIDETICKS = 1
    HIDENEWS = 2
    HIDEMAIL = 4
    SENDFULLNEWS = 8
    HIDEONLINE = 32
    HIDEUSERS = 64


class ReturnCode(IntEnum):
    """RET_* codes. 151, 152 and 255 are not in the header but were seen by users."""

    RET_OK = 0
    RET_OK_NONE = 1
    RET_ERROR = 2
    RET_INVALID_DATA = 3
    RET_TECH_PROBLEM = 4
    RET_OLD_VERSION = 5
    RET_NO_CONNECT = 6
    RET_NOT_ENOUGH_RIGHTS = 7
    RET_TOO_FREQUENT = 8
    RET_MALFUNCTION = 9
    RET_GENERATE_KEY = 10
    RET_SECURITY_SESSION = 11
    RET_INVALID_COMPANY = 15
    RET_ACCOUNT_DISABLED = 64
    RET_BAD_ACCOUNT_INFO = 65
    RET_PUBLIC_KEY_MISSING = 66
    RET_TRADE_TIMEOUT = 128
    RET_TRADE_BAD_PRICES = 129
    RET_TRADE_BAD_STOPS = 130
    RET_TRADE_BAD_VOLUME = 131
    RET_TRADE_MARKET_CLOSED = 132
    RET_TRADE_DISABLE = 133
    RET_TRADE_NO_MONEY = 134
    RET_TRADE_PRICE_CHANGED = 135
    RET_TRADE_OFFQUOTES = 136
    RET_TRADE_BROKER_BUSY = 137
    RET_TRADE_REQUOTE = 138
    RET_TRADE_ORDER_LOCKED = 139
    RET_TRADE_LONG_ONLY = 140
    RET_TRADE_TOO_MANY_REQ = 141
    RET_TRADE_ACCEPTED = 142
    RET_TRADE_PROCESS = 143
    RET_TRADE_USER_CANCEL = 144
    RET_TRADE_MODIFY_DENIED = 145
    RET_TRADE_CONTEXT_BUSY = 146
    RET_TRADE_EXPIRATION_DENIED = 147
    RET_TRADE_TOO_MANY_ORDERS = 148
    RET_TRADE_HEDGE_PROHIBITED = 149
    RET_TRADE_PROHIBITED_BY_FIFO = 150


LOGIN_REFUSALS = frozenset(
    {
        ReturnCode.RET_OLD_VERSION,
        ReturnCode.RET_NOT_ENOUGH_RIGHTS,
        ReturnCode.RET_GENERATE_KEY,
        ReturnCode.RET_INVALID_COMPANY,
        ReturnCode.RET_ACCOUNT_DISABLED,
        ReturnCode.RET_BAD_ACCOUNT_INFO,
        ReturnCode.RET_PUBLIC_KEY_MISSING,
    }
)
"""Codes that a quick retry cannot cure: the supervisor waits long and logs it."""

NETWORK_PROBLEM = 255
"""What the API itself returns for a failure of the network; its header has no name for it."""

CONNECTION_LOSSES = frozenset({ReturnCode.RET_NO_CONNECT, NETWORK_PROBLEM})

OBSERVED_MEANINGS = {
    65: "wrong login or password, or not a manager account",
    151: "a request method was called while pumping",
    152: "a request method was called while pumping",
    NETWORK_PROBLEM: "network problem: the server did not answer, or the link broke",
}
"""What these numbers were seen to mean; added to the API's own description."""

LOGIN_ANSWERS = {NETWORK_PROBLEM, *(code for code in ReturnCode if code < ReturnCode.RET_TRADE_TIMEOUT)}
"""What a trade server, or the API itself, may answer to a login; later codes are about trades."""
NOT_A_SERVER = "this does not look like an MT4 server: the API takes the first byte of a foreign answer for a code"


def meaning_of(call: str, code: int) -> str:
    """Return what code ``code`` was seen to mean when method ``call`` returned it; empty where nothing is known."""
    if call == "Login" and code not in LOGIN_ANSWERS:
        return NOT_A_SERVER
    return OBSERVED_MEANINGS.get(code, "")


def return_code_name(code: int) -> str:
    """Return ``RET_…`` for a known number, else ``unknown``."""
    return ReturnCode(code).name if code in ReturnCode._value2member_map_ else "unknown"


class TradeCommand(IntEnum):
    """TradeRecord.cmd."""

    OP_BUY = 0
    OP_SELL = 1
    OP_BUY_LIMIT = 2
    OP_SELL_LIMIT = 3
    OP_BUY_STOP = 4
    OP_SELL_STOP = 5
    OP_BALANCE = 6
    OP_CREDIT = 7


PENDING_COMMANDS = frozenset(
    {TradeCommand.OP_BUY_LIMIT, TradeCommand.OP_SELL_LIMIT, TradeCommand.OP_BUY_STOP, TradeCommand.OP_SELL_STOP}
)


class TradeState(IntEnum):
    """TradeRecord.state."""

    TS_OPEN_NORMAL = 0
    TS_OPEN_REMAND = 1
    TS_OPEN_RESTORED = 2
    TS_CLOSED_NORMAL = 3
    TS_CLOSED_PART = 4
    TS_CLOSED_BY = 5
    TS_DELETED = 6


CLOSED_STATES = frozenset({TradeState.TS_CLOSED_NORMAL, TradeState.TS_CLOSED_PART, TradeState.TS_CLOSED_BY})


class TradeReason(IntEnum):
    """TradeRecord.reason."""

    TR_REASON_CLIENT = 0
    TR_REASON_EXPERT = 1
    TR_REASON_DEALER = 2
    TR_REASON_SIGNAL = 3
    TR_REASON_GATEWAY = 4
    TR_REASON_MOBILE = 5
    TR_REASON_WEB = 6
    TR_REASON_API = 7


class ActivationType(IntEnum):
    """TradeRecord.activation; negative: the price came back."""

    ACTIVATION_NONE = 0
    ACTIVATION_SL = 1
    ACTIVATION_TP = 2
    ACTIVATION_PENDING = 3
    ACTIVATION_STOPOUT = 4
    ACTIVATION_SL_ROLLBACK = -1
    ACTIVATION_TP_ROLLBACK = -2
    ACTIVATION_PENDING_ROLLBACK = -3
    ACTIVATION_STOPOUT_ROLLBACK = -4


class MarginLevelType(IntEnum):
    """MarginLevel.level_type."""

    MARGINLEVEL_OK = 0
    MARGINLEVEL_MARGINCALL = 1
    MARGINLEVEL_STOPOUT = 2


class RequestStatus(IntEnum):
    """RequestInfo.status."""

    DC_EMPTY = 0
    DC_REQUEST = 1
    DC_LOCKED = 2
    DC_ANSWERED = 3
    DC_RESETED = 4
    DC_CANCELED = 5


class SymbolDirection(IntEnum):
    """SymbolInfo.direction."""

    SDIR_UP = 0
    SDIR_DOWN = 1
    SDIR_NONE = 2
