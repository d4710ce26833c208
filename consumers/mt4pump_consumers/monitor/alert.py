"""An alert, and its name; pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Alert:
    """What a rule has to say.

    ``id`` is made from what caused it, so that the same cause gives the same id whenever it is looked at.
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
