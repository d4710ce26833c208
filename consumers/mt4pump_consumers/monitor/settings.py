"""The monitor's settings."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from mt4pump_consumers.frame import ConsumerSettings, settings_config
from mt4pump_consumers.monitor.execution import CHANGES, EXECUTIONS
from mt4pump_consumers.monitor.rules import load_rules


class MonitorSettings(ConsumerSettings):
    """Settings of the trade monitor."""

    model_config = settings_config("monitor")

    view: Literal["auto", "live", "json", "log"] = Field(
        "auto", description="live screen, JSON lines, or only the log; auto: live on a terminal, else only the log"
    )
    refresh_s: float = Field(0.25, ge=0.05, le=10, description="seconds between two pictures of the live screen")
    topics: tuple[str, ...] = Field(
        ("trade.*", "margin.*", "session.start", "session.stop"), min_length=1, description="what to read"
    )
    changes: tuple[str, ...] = Field(
        EXECUTIONS, min_length=1, description=f"changes of an order that are kept, of {' '.join(CHANGES)}"
    )
    silence_s: float = Field(5.0, gt=0, le=300, description="without a heartbeat for so long the daemon is silent")

    store: Path | None = Field(
        None, description="SQLite file for executions, alerts and the position; with it a restart goes on where it was"
    )
    start: Literal["now", "journal"] = Field(
        "now", description="where a new store begins: now, or with all that the daemon's journal still has"
    )
    keep_days: int = Field(0, ge=0, description="days after which the store forgets; 0: never")
    csv: Path | None = Field(None, description="file to append executions to")

    rules: Path | None = Field(None, description="TOML file of alert rules; needs store")
    webhook: SecretStr | None = Field(None, description="URL to POST alerts to")
    webhook_token: SecretStr | None = Field(None, description="sent as Authorization: Bearer")
    webhook_timeout_s: float = Field(10.0, gt=0, le=120, description="longest wait for one answer of the webhook")
    webhook_give_up_s: float = Field(86_400.0, gt=0, description="age at which an alert that nobody took is given up")
    alert_backlog: int = Field(10_000, ge=1, description="most alerts that may wait for the webhook")

    @field_validator("changes")
    @classmethod
    def known_changes(cls, changes: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse a word that no trade event will ever have."""
        if unknown := sorted(set(changes) - set(CHANGES)):
            raise ValueError(f"there is no change {', '.join(unknown)}; there are {', '.join(CHANGES)}")
        return changes

    @field_validator("rules")
    @classmethod
    def can_be_read(cls, rules: Path | None) -> Path | None:
        """Refuse a file of rules with a mistake in it."""
        if rules is not None:
            load_rules(rules)
        return rules

    @field_validator("webhook")
    @classmethod
    def is_address(cls, webhook: SecretStr | None) -> SecretStr | None:
        """Refuse what is no web address."""
        if webhook is not None:
            parts = urlsplit(webhook.get_secret_value())
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise ValueError("give a whole address, as https://hooks.example.com/abc")
        return webhook

    @model_validator(mode="after")
    def agree(self) -> Self:
        """Refuse what would lose alerts, tell them twice, or show a secret to the network."""
        if self.rules is not None and self.store is None:
            raise ValueError("rules need a store, which remembers what was told already: give store, too")
        if self.webhook is not None and self.rules is None:
            raise ValueError("a webhook is for alerts: give rules, too")
        if self.webhook_token is not None:
            if self.webhook is None:
                raise ValueError("webhook-token is for a webhook: give webhook, too")
            address = urlsplit(self.webhook.get_secret_value())
            if address.scheme != "https" and not _is_local(address.hostname or ""):
                raise ValueError("webhook-token would go over the network in plain text: give an https address")
        return self


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
