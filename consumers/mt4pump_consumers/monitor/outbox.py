"""The alerts that wait for the webhook, as its own thread sees the store."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import NamedTuple

from mt4pump_consumers.monitor.schema import connect

ERROR_LENGTH = 300


class Waiting(NamedTuple):
    """An alert to send; ``made_s`` is when it was stored, seconds since 1970."""

    number: int
    id: str
    body: str
    made_s: float


class AlertQueue:
    """For one thread. Every change is a transaction of its own, done as soon as it is known. Raises sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        self._connection: sqlite3.Connection = connect(path)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def next(self, now_s: float) -> Waiting | None:
        """Return the alert that is due first; None when none is."""
        query = (
            "SELECT number, id, body, made_s FROM alerts WHERE webhook = 'pending' AND due_s <= ?"
            " ORDER BY due_s, number LIMIT 1"
        )
        row = self._connection.execute(query, (now_s,)).fetchone()
        return None if row is None else Waiting(*row)

    def sent(self, alert: Waiting, attempts: int, now_s: float) -> None:
        """Note that the webhook took it."""
        change = "webhook = 'sent', attempts = attempts + ?, sent_s = ?, error = ''"
        self._connection.execute(
            f"UPDATE alerts SET {change} WHERE number = ?",  # noqa: S608 - our own text
            (attempts, now_s, alert.number),
        )

    def failed(self, alert: Waiting, attempts: int, error: str) -> None:
        """Note that it is given up."""
        change = "webhook = 'failed', attempts = attempts + ?, error = ?"
        self._connection.execute(
            f"UPDATE alerts SET {change} WHERE number = ?",  # noqa: S608
            (attempts, error[:ERROR_LENGTH], alert.number),
        )

    def put_off(self, alert: Waiting, attempts: int, error: str, due_s: float) -> None:
        """Note that it did not work, and when to try again; the others go first until then."""
        change = "attempts = attempts + ?, error = ?, due_s = ?"
        self._connection.execute(
            f"UPDATE alerts SET {change} WHERE number = ?",  # noqa: S608
            (attempts, error[:ERROR_LENGTH], due_s, alert.number),
        )
