"""The alert rules: the TOML file that they stand in, and the engine that applies them to what happens.

::

    [[rule]]
    name = "big order"          # names the rule in alerts; must differ from rule to rule
    when = "volume"             # its kind, see the classes
    lots = 50
    symbols = ["XAU*", "!XAUEUR"]   # optional: patterns, ! excludes
    accounts = [1001, 1002]     # optional: only these accounts
    quiet_s = 60                # optional: then silent about the same account for so long
    severity = "critical"       # optional: info, warning (default), critical

The engine is pure: the same events give the same alerts with the same ids, at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mt4pump.client import Margin
from mt4pump.process.sources import toml_and_text
from mt4pump.process.values import SymbolFilter
from mt4pump_consumers.monitor.execution import CHANGES, EXECUTIONS, NS, Alert, Execution, alert_id, finite
from mt4pump_consumers.monitor.rule_problems import rule_problems
from mt4pump_consumers.monitor.state import FeedSign


class Rule(BaseModel):
    """What every rule may say."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=100)
    severity: Literal["info", "warning", "critical"] = "warning"
    quiet_s: float = Field(0.0, ge=0)


class TradeRule(Rule):
    """A rule about orders, of some accounts or symbols or of all."""

    accounts: frozenset[int] = frozenset()
    symbols: tuple[str, ...] = ()

    def covers(self, login: int, symbol: str) -> bool:
        """Return whether the rule is for this account and symbol."""
        return (not self.accounts or login in self.accounts) and self._filter.selects(symbol)

    @cached_property
    def _filter(self) -> SymbolFilter:
        return SymbolFilter(self.symbols)


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
            raise ValueError("accounts is empty: list the logins that the rule is for")
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
    document, text = toml_and_text(path)
    try:
        return RuleFile.model_validate(document).rule
    except ValidationError as error:
        kinds = {get_args(rule.model_fields["when"].annotation)[0]: rule for rule in get_args(get_args(AnyRule)[0])}
        raise ValueError(f"{path}: {'; '.join(rule_problems(error, kinds, text))}") from error


ConditionKey = tuple[str, str]
"""A rule's name and its subject: an account, or the feed."""
QUIET_LIMIT = 10_000
"""Accounts that were alerted about and are remembered, before the stale ones are looked for and dropped."""


class Condition(NamedTuple):
    """Something that lasts. ``since``: ns since 1970; ``reported``: an alert was made, so its end makes one, too."""

    since: int
    reported: bool


@dataclass(slots=True)
class RuleMemory:
    """``conditions`` that hold now and ``quiet``, the moments (ns) of last alerts; the store keeps what ``touched``."""

    conditions: dict[ConditionKey, Condition] = field(default_factory=dict)
    quiet: dict[ConditionKey, int] = field(default_factory=dict)
    touched_conditions: set[ConditionKey] = field(default_factory=set)
    touched_quiet: set[ConditionKey] = field(default_factory=set)

    def begin(self, key: ConditionKey, condition: Condition) -> None:
        """Note that a condition holds from now on."""
        self.conditions[key] = condition
        self.touched_conditions.add(key)

    def end(self, key: ConditionKey) -> Condition | None:
        """Note that a condition is over; return it if it did hold."""
        self.touched_conditions.add(key)
        return self.conditions.pop(key, None)

    def set_quiet(self, key: ConditionKey, ts: int) -> None:
        """Note the moment of an alert."""
        self.quiet[key] = ts
        self.touched_quiet.add(key)

    def forget_quiet(self, before: dict[str, int]) -> None:
        """Drop moments that are older than their rule's (by name) limit, once there are many."""
        if len(self.quiet) < QUIET_LIMIT:
            return
        stale = [key for key, ts in self.quiet.items() if ts < before.get(key[0], ts + 1)]
        for key in stale:
            del self.quiet[key]
        self.touched_quiet.update(stale)

    @property
    def is_touched(self) -> bool:
        """Return whether there is something to keep."""
        return bool(self.touched_conditions or self.touched_quiet)


FIRING, RESOLVED = "firing", "resolved"
LEVELS = {"margin_call": 1, "stop_out": 2}
"""MarginLevel.level_type."""
FEED = "feed"
FEED_NAMES = {"quotes": "quotes", "session": "trade server", "daemon": "mt4pump"}

TradeRuleKind = Volume | Loss | AccountRule | QuickClose


class RuleEngine:
    """``alerts`` are the new ones, for the caller to take away; ``suppressed`` counts what ``quiet_s`` held back."""

    def __init__(self, rules: Iterable[AnyRule], memory: RuleMemory) -> None:
        self.alerts: list[Alert] = []
        self.suppressed = 0
        self._memory = memory
        self._of_trades: list[TradeRuleKind] = []
        self._of_margins: list[MarginCall] = []
        self.of_feed: list[FeedSilent] = []
        for rule in rules:
            if isinstance(rule, MarginCall):
                self._of_margins.append(rule)
            elif isinstance(rule, FeedSilent):
                self.of_feed.append(rule)
            else:
                self._of_trades.append(rule)
        self._quiet_ns = {rule.name: int(rule.quiet_s * NS) for rule in rules}

    def trade(self, done: Execution) -> None:
        """Check a change of an order against the rules."""
        for rule in self._of_trades:
            if rule.covers(done.login, done.symbol) and (reason := _reason(rule, done)):
                cause = (done.epoch, done.topic, done.seq)
                facts = {"reason": reason, "execution": done.as_dict()}
                text = f"{_trade_text(done)}: {reason}"
                self._add_alert(
                    rule, _alert(rule, FIRING, cause, subject=str(done.login), ts=done.ts, text=text, facts=facts)
                )

    def margin(self, event: Margin) -> None:
        """Check an account's margin: an event, or a row of a snapshot."""
        level = 0 if event.action == "delete" else event.level_type or 0
        subject, facts = event.key, _margin_facts(event)
        for rule in self._of_margins:
            if rule.accounts and event.login not in rule.accounts:
                continue
            holds = (rule.name, subject) in self._memory.conditions
            cause = (event.epoch, event.topic, event.seq)
            if level >= LEVELS[rule.level] and not holds:
                text = f"account {subject} is in {'stop-out' if level > 1 else 'margin call'}: {_margin_text(event)}"
                alert = _alert(rule, FIRING, cause, subject=subject, ts=event.ts, text=text, facts=facts)
                self._begin(rule, event.ts, alert)
            elif level < LEVELS[rule.level] and holds:
                words = rule.level.replace("_", " ")
                text = f"account {subject} is out of {words}: {_margin_text(event)}"
                self._end(rule, _alert(rule, RESOLVED, cause, subject=subject, ts=event.ts, text=text, facts=facts))

    def margins_are(self, logins: frozenset[str], ts: int) -> None:
        """Take a whole table of accounts in margin call: conditions of all others are over, though nobody said so."""
        for rule in self._of_margins:
            for key in [key for key in self._memory.conditions if key[0] == rule.name and key[1] not in logins]:
                cause = (key[1], self._memory.conditions[key].since)
                text = f"account {key[1]} is out of margin call"
                self._end(rule, _alert(rule, RESOLVED, cause, subject=key[1], ts=ts, text=text, facts={}))

    def feed(self, signs: Mapping[str, FeedSign], now_ts: int) -> None:
        """Check how long the feed was silent; ``signs`` by what a rule is ``of``."""
        for rule in self.of_feed:
            sign = signs[rule.of]
            facts = {"of": rule.of, "silent_s": round(sign.silent_s, 1), "last_ts": sign.last_ts, "state": sign.state}
            condition = self._memory.conditions.get((rule.name, FEED))
            if sign.silent_s >= rule.seconds and condition is None:
                text = f"{FEED_NAMES[rule.of]}: nothing for {sign.silent_s:.0f} s ({sign.state})"
                cause: tuple[object, ...] = (rule.of, sign.last_ts)
                alert = _alert(rule, FIRING, cause, subject=FEED, ts=now_ts, text=text, facts=facts)
                self._begin(rule, sign.last_ts, alert)
            elif sign.silent_s < rule.seconds and condition is not None and sign.has_arrived:
                text = f"{FEED_NAMES[rule.of]}: there again"
                cause = (rule.of, condition.since)
                self._end(rule, _alert(rule, RESOLVED, cause, subject=FEED, ts=now_ts, text=text, facts=facts))

    def _add_alert(self, rule: AnyRule, alert: Alert) -> bool:
        """Add the alert, unless the rule is quiet about this subject; return whether it was added."""
        key = (rule.name, alert.subject)
        quiet_ns = self._quiet_ns[rule.name]
        if alert.status == FIRING and quiet_ns:
            last = self._memory.quiet.get(key)
            if last is not None and alert.ts - last < quiet_ns:
                self.suppressed += 1
                return False
            self._memory.set_quiet(key, alert.ts)
            self._memory.forget_quiet({name: alert.ts - each_ns for name, each_ns in self._quiet_ns.items()})
        self.alerts.append(alert)
        return True

    def _begin(self, rule: MarginCall | FeedSilent, since: int, alert: Alert) -> None:
        reported = self._add_alert(rule, alert)
        self._memory.begin((rule.name, alert.subject), Condition(since, reported))

    def _end(self, rule: MarginCall | FeedSilent, alert: Alert) -> None:
        condition = self._memory.end((rule.name, alert.subject))
        if condition is not None and condition.reported and rule.tell_end:
            self._add_alert(rule, alert)


def _alert(
    rule: AnyRule, status: str, cause: tuple[object, ...], *, subject: str, ts: int, text: str, facts: Mapping[str, Any]
) -> Alert:
    name = alert_id(rule.name, *cause, status)
    return Alert(name, rule.name, rule.when, rule.severity, status, subject, ts, text, facts)


def _reason(rule: TradeRuleKind, done: Execution) -> str:
    """Return why the rule has something to say, else nothing."""
    match rule:
        case Volume():
            # What a partial close leaves is an old position under a new ticket, which had its alert at its opening.
            if done.change in {"opened", "activated"} and not done.is_remainder and done.lots >= rule.lots:
                return f"{rule.lots:g} lots or more"
        case Loss():
            if done.change == "closed" and done.result <= -rule.amount:
                return f"a loss of {-done.result:,.2f}" + (", inferred" if done.synthetic else "")
        case AccountRule():
            if done.change in rule.changes:
                return "an account on the list"
        case QuickClose():
            if done.change == "closed" and done.held_s is not None and done.held_s <= rule.seconds:
                return f"closed {done.held_s} s after its opening"
    return ""


def _trade_text(done: Execution) -> str:
    what = f"{done.lots:.2f} lots of {done.symbol}" if done.symbol else f"{done.profit:,.2f}"
    return f"account {done.login} {done.change} {what} ({done.side}, order {done.order} at {done.price_text()})"


def _margin_text(event: Margin) -> str:
    return f"level {event.margin_level or 0:.1f} %, equity {event.equity or 0:,.2f}, margin {event.margin or 0:,.2f}"


def _margin_facts(event: Margin) -> dict[str, Any]:
    names = ("group", "leverage", "balance", "equity", "volume", "margin", "margin_free", "margin_level", "level_type")
    return {"login": event.login, **{name: finite(event.body.get(name)) for name in names}}
