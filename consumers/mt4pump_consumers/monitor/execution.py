"""One change of an order, and one alert, as they are stored and shown; pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from mt4pump.client import Trade, events

EXECUTIONS = ("opened", "activated", "closed", "deleted")
CHANGES = tuple(dict.fromkeys((*EXECUTIONS, *events.CHANGES)))
"""Of a trade, those first that are kept by default."""
SIDES = ("buy", "sell", "buy limit", "sell limit", "buy stop", "sell stop", "balance", "credit")
"""By ``cmd``."""
REMAINDER = 1
"""TradeRecord.state TS_OPEN_REMAND: what a partial close left, under a new ticket."""
POSITIONS = frozenset({0, 1})
"""Values of ``cmd`` that are positions; 2 to 5 are pending orders."""
HUNDREDTHS = 100
INTEGER_MAX = 2**63 - 1
"""SQLite's largest."""
INTEGERS = (
    *("login", "order", "cmd", "volume", "digits", "open_time", "close_time", "magic", "reason", "state", "timestamp"),
)
REALS = ("open_price", "close_price", "sl", "tp", "profit", "storage", "commission", "taxes")
TEXTS = ("change", "symbol", "comment")
DIGITS_MAX = 10


class Execution(NamedTuple):
    """A change of an order. ``epoch``, ``topic`` and ``seq`` name it for ever; ``offset`` is None if not stored there.

    The other names are TradeRecord's: ``volume`` in hundredths of a lot, times in seconds on the server's clock, money
    in the account's currency. ``ts`` is the time of the callback (ns since 1970). ``synthetic``: the daemon found it
    by comparing tables; prices and profit of such a close are the last ones known.
    """

    epoch: int
    topic: str
    seq: int
    offset: int | None
    ts: int
    login: int
    order: int
    change: str
    symbol: str
    cmd: int
    volume: int
    digits: int
    open_time: int
    open_price: float
    close_time: int
    close_price: float
    sl: float
    tp: float
    profit: float
    storage: float
    commission: float
    taxes: float
    magic: int
    comment: str
    reason: int
    state: int
    timestamp: int
    synthetic: bool

    @property
    def lots(self) -> float:
        """Return the volume in lots."""
        return self.volume / HUNDREDTHS

    @property
    def side(self) -> str:
        """Return ``cmd`` as a word."""
        return side_of(self.cmd)

    @property
    def result(self) -> float:
        """Return profit, swap and commission together: what the account won or lost."""
        return self.profit + self.storage + self.commission

    @property
    def is_remainder(self) -> bool:
        """Return whether it was opened by a partial close: the rest of an older position, not a new one."""
        return self.state == REMAINDER

    @property
    def held_s(self) -> int | None:
        """Return how long the order was open; None when it is not known when it ended."""
        return self.close_time - self.open_time if self.close_time > 0 and self.open_time > 0 else None

    @property
    def price(self) -> float:
        """Return the price of this change: of a close the closing one."""
        return self.close_price if self.change in {"closed", "deleted"} else self.open_price

    def price_text(self) -> str:
        """Return the price with the symbol's decimal places."""
        return price_text(self.price, self.digits)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data fit for JSON (no number is infinite or not a number), ``lots`` and ``side`` added."""
        plain = {name: finite(value) for name, value in self._asdict().items()}
        return {**plain, "lots": self.lots, "side": self.side}


def side_of(cmd: int) -> str:
    """Return TradeRecord.cmd as a word."""
    return SIDES[cmd] if 0 <= cmd < len(SIDES) else f"cmd {cmd}"


def price_text(price: float, digits: int) -> str:
    """Return a price with the symbol's decimal places."""
    return f"{price:.{min(max(digits, 0), DIGITS_MAX)}f}"


def execution_of(event: Trade) -> Execution:
    """Return the execution of a trade event; missing fields are 0 or empty."""
    body, key = event.body, event.key
    integers = {name: _int(body.get(name)) for name in INTEGERS}
    reals = {name: _float(body.get(name)) for name in REALS}
    texts = {name: str(body.get(name) or "") for name in TEXTS}
    if key.isdecimal():
        integers["login"] = int(key)  # a deletion may come with login 0; the topic has the account's own
    named: dict[str, Any] = {**integers, **reals, **texts}
    return Execution(
        epoch=event.epoch,
        topic=event.topic,
        seq=event.seq,
        offset=event.offset,
        ts=event.ts,
        synthetic=event.synthetic,
        **named,
    )


def _int(value: object) -> int:
    return value if isinstance(value, int) and abs(value) <= INTEGER_MAX else 0


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def finite(value: object) -> object:
    """Return the value, None for a number that JSON does not know."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Alert:
    """What a rule has to say.

    ``id`` is made from what caused it, so that the same cause gives the same id whenever it is made.
    ``subject`` is the account, or the feed; ``status`` is ``firing`` or, at the end of something that lasts,
    ``resolved``; ``ts`` is the moment of the cause, ns since 1970; ``facts`` are plain data.
    """

    id: str
    rule: str
    when: str
    severity: str
    status: str
    subject: str
    ts: int
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data fit for JSON; ``time`` is ``ts`` for people."""
        return {
            "id": self.id,
            "rule": self.rule,
            "when": self.when,
            "severity": self.severity,
            "status": self.status,
            "subject": self.subject,
            "ts": self.ts,
            "time": iso_time(self.ts),
            "text": self.text,
            "facts": dict(self.facts),
        }


def alert_id(rule: str, *cause: object) -> str:
    """Return the id of the alert of ``rule`` for ``cause``."""
    text = "\n".join(str(part) for part in (rule, *cause))
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def iso_time(ts: int) -> str:
    """Return nanoseconds since 1970 as text in UTC."""
    seconds, rest = divmod(ts, NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03d}Z"
