"""Events as text for people; pure. Text of the server may hold anything: what would drive the terminal is escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from mt4pump.cli.stats import ReceivedEvent
from mt4pump.log import json_line, one_line
from mt4pump.mt4.codes import TradeCommand
from mt4pump.wire import COMMON_KEYS, Body, kind_of

DIGITS_MAX = 10
SUMMARY_MAX_CHARS = 100
VALUE_MAX_CHARS = 40
MONEY_COMMANDS = (TradeCommand.OP_BALANCE, TradeCommand.OP_CREDIT)
CLOSING = ("closed", "cancelled", "deleted")
"""Changes of a trade after which its price is the closing one."""


def json_event(event: ReceivedEvent) -> str:
    """Return the event as one JSON object: ``topic`` and ``body``; numbers that JSON lacks become null.

    The body stays apart: news have a field called ``topic``, too.
    """
    return json_line({"topic": event.topic, "body": event.body})


def human_event(event: ReceivedEvent) -> str:
    """Return the event as one line: local time of ``ts``, topic, values."""
    return f"{clock_text(event.body.get('ts'))} {one_line(event.topic):<16} {summary(event.topic, event.body)}"


def clock_text(ts: object) -> str:
    """Return ns since 1970 as local ``11:09:38.123``."""
    try:
        when = datetime.fromtimestamp(int(ts) / 1e9, UTC).astimezone()  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError, OSError):
        return "--:--:--.---"
    return when.strftime("%H:%M:%S.") + f"{when.microsecond // 1000:03d}"


def age_text(seconds: float) -> str:
    """Return how long ago something was, short."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def summary(topic: str, body: Body) -> str:
    """Return the values of a body that people look for first, in one line."""
    shown = _SUMMARIES.get(kind_of(topic.encode("utf-8", "replace")), _short)(body)
    return one_line(shown if len(shown) <= SUMMARY_MAX_CHARS else shown[: SUMMARY_MAX_CHARS - 1] + "…")


def price_text(price: object, digits: object) -> str:
    """Return a price with the symbol's digits, where it says them."""
    if isinstance(price, int | float) and isinstance(digits, int) and 0 <= digits <= DIGITS_MAX:
        return f"{price:.{digits}f}"
    return _value_text(price)


def lots_text(volume: object) -> str:
    """Return hundredths of a lot as lots."""
    return f"{volume / 100:.2f}" if isinstance(volume, int | float) else _value_text(volume)


def command_text(cmd: object) -> str:
    """Return TradeRecord.cmd in words: ``buy``, ``sell limit``."""
    if not isinstance(cmd, int) or cmd not in TradeCommand._value2member_map_:
        return f"cmd {_value_text(cmd)}"
    return TradeCommand(cmd).name.removeprefix("OP_").replace("_", " ").lower()


def _quote(body: Body) -> str:
    digits = body.get("digits")
    bid, ask = (price_text(body.get(name), digits) for name in ("bid", "ask"))
    return f"bid {bid}  ask {ask}  spread {_value_text(body.get('spread'))}"


def _trade(body: Body) -> str:
    change = body.get("change") or body.get("action")
    if body.get("cmd") in MONEY_COMMANDS:  # a record without symbol, volume and price: the amount is its profit
        amount = _value_text(body.get("profit"))
        return f"{_value_text(change)}  #{_value_text(body.get('order'))}  {command_text(body.get('cmd'))} {amount}"
    price = body.get("close_price" if change in CLOSING else "open_price")
    parts = (
        _value_text(change),
        f"#{_value_text(body.get('order'))}",
        _value_text(body.get("symbol") or "-"),
        command_text(body.get("cmd")),
        f"{lots_text(body.get('volume'))} lots",
        f"at {price_text(price, body.get('digits'))}",
        f"profit {_value_text(body.get('profit'))}",
    )
    return "  ".join(parts)


def _heartbeat(body: Body) -> str:
    names = ("state", "server", "uptime_s", "dropped", "reconnects", "subscriptions")
    return _pairs({name: body[name] for name in names if name in body})


def _short(body: Body) -> str:
    return _pairs({name: value for name, value in body.items() if name not in COMMON_KEYS})


def _pairs(values: Mapping[Any, Any]) -> str:
    parts, length = [], 0
    for name, value in values.items():
        if length > SUMMARY_MAX_CHARS:  # the rest would be cut off: a group has hundreds of values
            break
        parts.append(f"{name}={_value_text(value)}")
        length += len(parts[-1]) + 1
    return " ".join(parts)


def _value_text(value: object) -> str:
    if isinstance(value, dict | list):
        return f"({len(value)} values)"
    text = str(value)
    return text if len(text) <= VALUE_MAX_CHARS else text[: VALUE_MAX_CHARS - 1] + "…"


_SUMMARIES: dict[str, Callable[[Body], str]] = {"quote": _quote, "trade": _trade, "heartbeat": _heartbeat}
