"""The Manager API's enumerations that fields hold, by the name that a unit calls them; pure.

The daemon uses those of `mt4pump.mt4.codes` itself; it passes the others on to readers unchanged.
Source: the API's header, builds 509 to 1403.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from mt4pump.mt4.codes import (
    Activation,
    MarginLevelType,
    RequestStatus,
    SymbolDirection,
    TradeCommand,
    TradeReason,
    TradeState,
)


def _of(enum: type[IntEnum]) -> dict[str, int]:
    return {member.name: int(member) for member in enum}


def _counted(*names: str) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _bits(*names: str) -> dict[str, int]:
    return {name: 1 << number for number, name in enumerate(names)}


NUMBERS: Mapping[str, Mapping[str, int]] = {
    **{
        enum.__name__: _of(enum)
        for enum in (
            *(TradeCommand, TradeState, TradeReason, Activation),
            *(MarginLevelType, RequestStatus, SymbolDirection),
        )
    },
    "SymbolTrade": _counted("TRADE_NO", "TRADE_CLOSE", "TRADE_FULL"),
    "SymbolExecution": _counted("EXE_REQUEST", "EXE_INSTANT", "EXE_MARKET"),
    "SymbolSwap": _counted("SWAP_BY_POINTS", "SWAP_BY_DOLLARS", "SWAP_BY_INTEREST", "SWAP_BY_MARGIN_CURRENCY"),
    "SymbolProfit": _counted("PROFIT_CALC_FOREX", "PROFIT_CALC_CFD", "PROFIT_CALC_FUTURES"),
    "SymbolMargin": _counted(
        *("MARGIN_CALC_FOREX", "MARGIN_CALC_CFD", "MARGIN_CALC_FUTURES"),
        *("MARGIN_CALC_CFDINDEX", "MARGIN_CALC_CFDLEVERAGE"),
    ),
    "SymbolPendings": _counted("ORDERS_DAILY", "ORDERS_GTC", "ORDERS_DAILY_NO_STOPS"),
    "GroupOtp": _counted("OTP_MODE_DISABLED", "OTP_MODE_TOTP_SHA256"),
    "GroupMargin": _counted(
        "MARGIN_MODE_DONT_USE", "MARGIN_MODE_USE_ALL", "MARGIN_MODE_USE_PROFIT", "MARGIN_MODE_USE_LOSS"
    ),
    "MarginType": _counted("MARGIN_TYPE_PERCENT", "MARGIN_TYPE_CURRENCY"),
    "GroupNews": _counted("NEWS_NO", "NEWS_TOPICS", "NEWS_FULL"),
    "GroupRights": _bits(
        *("ALLOW_FLAG_EMAIL", "ALLOW_FLAG_TRAILING", "ALLOW_FLAG_ADVISOR", "ALLOW_FLAG_EXPIRATION"),
        *("ALLOW_FLAG_SIGNALS_ALL", "ALLOW_FLAG_SIGNALS_OWN", "ALLOW_FLAG_RISK_WARNING"),
        "ALLOW_FLAG_FORCED_OTP_USAGE",
    ),
    "Execution": _counted("EXECUTION_MANUAL", "EXECUTION_AUTO", "EXECUTION_ACTIVITY"),
    "CommissionType": _counted("COMM_TYPE_MONEY", "COMM_TYPE_PIPS", "COMM_TYPE_PERCENT"),
    "CommissionPer": _counted("COMMISSION_PER_LOT", "COMMISSION_PER_DEAL"),
    "TradeDeny": _counted("TRADE_DENY_NONE", "TRADE_DENY_CLOSEBY", "TRADE_DENY_MUCLOSEBY"),
    "CloseOut": _counted(
        *("CLOSE_OUT_NONE", "CLOSE_OUT_HIHI", "CLOSE_OUT_LOLO", "CLOSE_OUT_HILO", "CLOSE_OUT_LOHI"),
        *("CLOSE_OUT_FIFO", "CLOSE_OUT_LIFO", "CLOSE_OUT_INTRDAY_FIFO"),
    ),
    "TransactionType": {
        **_counted("TT_PRICES_GET", "TT_PRICES_REQUOTE"),
        **{
            name: number
            for number, name in enumerate(
                (
                    *("TT_ORDER_IE_OPEN", "TT_ORDER_REQ_OPEN", "TT_ORDER_MK_OPEN", "TT_ORDER_PENDING_OPEN"),
                    *("TT_ORDER_IE_CLOSE", "TT_ORDER_REQ_CLOSE", "TT_ORDER_MK_CLOSE", "TT_ORDER_MODIFY"),
                    *("TT_ORDER_DELETE", "TT_ORDER_CLOSE_BY", "TT_ORDER_CLOSE_ALL", "TT_BR_ORDER_OPEN"),
                    *("TT_BR_ORDER_CLOSE", "TT_BR_ORDER_DELETE", "TT_BR_ORDER_CLOSE_BY", "TT_BR_ORDER_CLOSE_ALL"),
                    *("TT_BR_ORDER_MODIFY", "TT_BR_ORDER_ACTIVATE", "TT_BR_ORDER_COMMENT", "TT_BR_BALANCE"),
                ),
                start=64,
            )
        },
    },
    "TransactionFlags": _bits(
        *("TT_FLAG_SIGNAL", "TT_FLAG_EXPERT", "TT_FLAG_GATEWAY", "TT_FLAG_MOBILE", "TT_FLAG_WEB", "TT_FLAG_API")
    ),
    "NewsFlags": _bits("FLAG_PRIORITY", "FLAG_CALENDAR", "FLAG_MIME", "FLAG_ALLOW_DEMO"),
}
"""Numbers by name, by the name of the enumeration. A number that is not listed is passed on as it came."""
