"""The alert rules and the TOML file that they stand in.

::

    [[rule]]
    name = "big order"          # names the rule in alerts; must differ from rule to rule
    when = "volume"             # its kind, see the classes
    lots = 50
    symbols = ["XAU*", "!XAUEUR"]   # optional: patterns, ! excludes
    accounts = [1001, 1002]     # optional: only these accounts
    quiet_s = 60                # optional: then silent about the same account for so long
    severity = "critical"       # optional: info, warning (default), critical
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mt4pump.process.sources import read_toml
from mt4pump_consumers.monitor.execution import CHANGES, EXECUTIONS


class Rule(BaseModel):
    """What every rule may say."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    name: str = Field(min_length=1, max_length=100)
    severity: Literal["info", "warning", "critical"] = "warning"
    quiet_s: float = Field(0.0, ge=0)


class TradeRule(Rule):
    """A rule about orders, of some accounts or symbols or of all."""

    accounts: frozenset[int] = frozenset()
    symbols: tuple[str, ...] = ()

    def covers(self, login: int, symbol: str) -> bool:
        """Return whether the rule looks at this account and symbol."""
        if self.accounts and login not in self.accounts:
            return False
        wanted = [pattern for pattern in self.symbols if not pattern.startswith("!")]
        unwanted = [pattern[1:] for pattern in self.symbols if pattern.startswith("!")]
        if any(fnmatchcase(symbol, pattern) for pattern in unwanted):
            return False
        return not wanted or any(fnmatchcase(symbol, pattern) for pattern in wanted)


class Volume(TradeRule):
    """A position of ``lots`` or more was opened, or a pending order of that size became one."""

    when: Literal["volume"]
    lots: float = Field(gt=0)


class Loss(TradeRule):
    """An order was closed with a loss (profit, swap, commission) of ``amount`` or more, in the account's currency."""

    when: Literal["loss"]
    amount: float = Field(gt=0)


class AccountRule(TradeRule):
    """One of ``accounts`` did something; by default an execution."""

    when: Literal["account"]
    changes: frozenset[str] = frozenset(EXECUTIONS)

    @model_validator(mode="after")
    def names_somebody(self) -> AccountRule:
        """Refuse a list without anybody in it, and changes that never come."""
        if not self.accounts:
            raise ValueError("accounts is empty: list the logins to look at")
        if unknown := sorted(self.changes - set(CHANGES)):
            raise ValueError(f"there is no change {', '.join(unknown)}; there are {', '.join(CHANGES)}")
        return self


class QuickClose(TradeRule):
    """A position was closed within ``seconds`` of its opening, by the server's clock."""

    when: Literal["quick_close"]
    seconds: int = Field(ge=0)


class MarginCall(Rule):
    """An account is in margin call (or only: in stop-out)."""

    when: Literal["margin_call"]
    level: Literal["margin_call", "stop_out"] = "margin_call"
    accounts: frozenset[int] = frozenset()
    tell_end: bool = True


class FeedSilent(Rule):
    """Nothing came for ``seconds``.

    ``of``: ``quotes`` (no quote; a closed market is silent, too), ``session`` (the trade server sent nothing at all,
    not even a PING: a fault at any hour), ``daemon`` (no heartbeat of mt4pump). The first two notice a dead daemon as
    well.
    """

    when: Literal["feed_silent"]
    seconds: float = Field(gt=0)
    of: Literal["quotes", "session", "daemon"] = "quotes"
    tell_end: bool = True


AnyRule = Annotated[Volume | Loss | AccountRule | QuickClose | MarginCall | FeedSilent, Field(discriminator="when")]


class RuleFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: tuple[AnyRule, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def names_differ(self) -> RuleFile:
        """Refuse two rules of one name: their alerts would look the same."""
        names = [rule.name for rule in self.rule]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two rules have the name {', '.join(twice)}: give each its own")
        return self


def load_rules(path: Path) -> tuple[AnyRule, ...]:
    """Return the rules in the file; raises ValueError with what to change."""
    try:
        return RuleFile.model_validate(read_toml(path)).rule
    except ValidationError as error:
        raise ValueError(f"{path}: {'; '.join(_problems(error))}") from error


def _problems(error: ValidationError) -> list[str]:
    """Return each problem with the place that it is at, counted as people count."""
    found = []
    for problem in error.errors():
        place = [str(part + 1) if isinstance(part, int) else str(part) for part in problem["loc"]]
        found.append(f"{' '.join(place)}: {problem['msg']}" if place else problem["msg"])
    return found
