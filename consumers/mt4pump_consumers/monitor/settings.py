"""The monitor's settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from mt4pump.process.program import ConsumerSettings, did_you_mean
from mt4pump.process.settings import Disagreement, setting
from mt4pump.process.values import PathValue, Port, Seconds, is_loopback
from mt4pump_consumers.monitor.execution import CHANGES, EXECUTIONS
from mt4pump_consumers.monitor.rules import load_rules

SCREEN, STREAM, STORE, ALERTS, HEALTH = "Output", "Stream", "Store", "Alerts", "Health"


def change(word: str) -> str:
    """Check a change that a trade event can have."""
    if word not in CHANGES:
        cure = did_you_mean(word, CHANGES, f"there are {', '.join(CHANGES)}")
        raise ValueError(f"there is no change {word}; {cure}")
    return word


def rule_file(path: Path) -> Path:
    """Check a file of rules by reading it."""
    load_rules(path)
    return path


def web_address(secret: SecretStr) -> SecretStr:
    """Check the address of a webhook."""
    parts = urlsplit(secret.get_secret_value())
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("give a whole address, as https://hooks.example.com/abc")
    return secret


class MonitorSettings(ConsumerSettings):
    """Settings of the trade monitor."""

    program = help_command = "mt4pump-monitor"

    view: Literal["auto", "live", "lines", "json", "log"] = setting(
        SCREEN,
        "live screen with keys, lines for people, JSON lines, or only the log; auto: live on a terminal, else lines",
        "auto",
    )
    refresh_s: Annotated[Seconds, Field(ge=0.05, le=10)] = setting(
        SCREEN, "seconds between two pictures of the live screen", 0.25
    )
    csv: PathValue | None = setting(SCREEN, "file to append executions to")

    health_port: Port | None = setting(
        HEALTH, "port of 127.0.0.1 for /metrics and /healthz of the program itself; 0: any free one, named in the log"
    )
    topics: tuple[str, ...] = setting(
        STREAM, "what to read", ("trade.*", "margin.*", "session.start", "session.stop"), min_length=1, metavar="TOPIC"
    )
    changes: tuple[Annotated[str, AfterValidator(change)], ...] = setting(
        STREAM, f"changes of an order that are kept, of {' '.join(CHANGES)}", EXECUTIONS, min_length=1
    )
    silence_s: Annotated[Seconds, Field(gt=0, le=300)] = setting(
        STREAM, "without a heartbeat for so long the daemon is silent", 5.0
    )

    store: PathValue | None = setting(
        STORE, "SQLite file for executions, alerts and the position; with it a restart goes on where it was"
    )
    start: Literal["now", "journal"] = setting(
        STORE, "where a new store begins: now, or with all that the daemon's journal still has", "now"
    )
    keep_days: int = setting(STORE, "days after which the store forgets; 0: never", 0, ge=0)

    rules: Annotated[PathValue, AfterValidator(rule_file)] | None = setting(
        ALERTS, "TOML file of alert rules; needs store"
    )
    webhook: Annotated[SecretStr, AfterValidator(web_address)] | None = setting(
        ALERTS, "URL to POST alerts to", metavar="URL"
    )
    webhook_token: SecretStr | None = setting(ALERTS, "sent as Authorization: Bearer")
    webhook_timeout_s: Annotated[Seconds, Field(gt=0, le=120)] = setting(
        ALERTS, "longest wait for one answer of the webhook", 10.0
    )
    webhook_give_up_s: Annotated[Seconds, Field(gt=0)] = setting(
        ALERTS, "age at which an alert that nobody took is given up", 86_400.0
    )
    alert_backlog: int = setting(ALERTS, "most alerts that may wait for the webhook", 10_000, ge=1)

    def disagreements(self) -> Iterator[Disagreement]:
        """Yield what would lose alerts, send them twice, or show a secret to the network."""
        if self.rules is not None and self.store is None:
            text = "need a store, which remembers what was sent already: give store, too"
            yield Disagreement(("rules", "store"), text)
        if self.webhook is not None and self.rules is None:
            yield Disagreement(("webhook", "rules"), "is for alerts: give rules, too")
        if self.webhook_token is None:
            return
        if self.webhook is None:
            yield Disagreement(("webhook_token", "webhook"), "is for a webhook: give webhook, too")
            return
        address = urlsplit(self.webhook.get_secret_value())
        if address.scheme != "https" and not is_loopback(address.hostname or ""):
            text = "would go over the network in plain text: give an https address as webhook"
            yield Disagreement(("webhook_token", "webhook"), text)
