"""Sends alerts to a webhook: the queue in the store, and the thread that empties it."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import random
from threading import Event, Thread
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from mt4pump.process.backoff import Backoff
from mt4pump.process.clock import ProvenClock
from mt4pump_consumers.client_tls import trusted_servers
from mt4pump_consumers.monitor.store import connect

ERROR_LENGTH = 300


class WaitingAlert(NamedTuple):
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

    def next(self, now_s: float, postpone_s: float) -> WaitingAlert | None:
        """Return the alert that is due first; None when none is.

        One that is due in more than ``postpone_s`` was postponed before the clock was set back: it is due, too.
        """
        query = (
            "SELECT number, id, body, made_s FROM alerts WHERE webhook = 'pending' AND (due_s <= ? OR due_s > ?)"
            " ORDER BY due_s, number LIMIT 1"
        )
        row = self._connection.execute(query, (now_s, now_s + postpone_s)).fetchone()
        return None if row is None else WaitingAlert(*row)

    def sent(self, alert: WaitingAlert, attempts: int, now_s: float) -> None:
        """Note that the webhook accepted it."""
        change = "webhook = 'sent', attempts = attempts + ?, sent_s = ?, error = ''"
        self._connection.execute(
            f"UPDATE alerts SET {change} WHERE number = ?",  # noqa: S608 - our own text
            (attempts, now_s, alert.number),
        )

    def failed(self, alert: WaitingAlert, attempts: int, error: str) -> None:
        """Note that it is given up."""
        change = "webhook = 'failed', attempts = attempts + ?, error = ?"
        self._connection.execute(
            f"UPDATE alerts SET {change} WHERE number = ?",  # noqa: S608
            (attempts, error[:ERROR_LENGTH], alert.number),
        )

    def postpone(self, alert: WaitingAlert, attempts: int, error: str, due_s: float) -> None:
        """Note the failure, and when to try again; others are sent first."""
        change = "attempts = attempts + ?, error = ?, due_s = ?"
        self._connection.execute(
            f"UPDATE alerts SET {change} WHERE number = ?",  # noqa: S608
            (attempts, error[:ERROR_LENGTH], due_s, alert.number),
        )


ID_HEADER = "Idempotency-Key"
ATTEMPTS_AT_ONCE = 5
FIRST_DELAY_S, LAST_DELAY_S = 0.5, 30.0
POSTPONE_S = 60.0
"""An alert that failed so often waits for so long, so that it holds up no others."""
IDLE_S = 0.5
ANSWER_MAX_BYTES = 65_536
TRY_AGAIN = frozenset({408, 425, 429})
SERVER_FAULT, REDIRECT, SUCCESS = 500, 300, 200

log = logging.getLogger(__name__)


class NotAccepted(Exception):
    """The webhook did not accept an alert; ``is_final``: nor will it later."""

    def __init__(self, text: str, *, is_final: bool) -> None:
        super().__init__(text)
        self.is_final = is_final


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """See the settings ``webhook…``."""

    url: str
    token: str | None = None
    timeout_s: float = 10.0
    give_up_s: float = 86_400.0
    first_delay_s: float = FIRST_DELAY_S
    postpone_s: float = POSTPONE_S


class Webhook(Thread):
    """``counts``: sent, attempts, retries, failed (given up), faults (of the store); ``problem``: why it fails.

    Raises StartError when the address is of HTTPS and the authorities to trust cannot be read.
    """

    def __init__(self, store: Path, options: WebhookOptions) -> None:
        super().__init__(name="webhook", daemon=True)
        self.counts: Counter[str] = Counter()
        self.problem = ""
        parts = urlsplit(options.url)
        self.address = parts.hostname or ""
        self._store = store
        self._options = options
        self._trusted = trusted_servers(is_encrypted=parts.scheme == "https")
        self._stopping = Event()
        self._wake = Event()
        self._clock = ProvenClock(time.time_ns(), time.time_ns, time.monotonic)
        _quiet_libraries()

    def wake(self) -> None:
        """Wake the thread: there may be an alert to send."""
        self._wake.set()

    def stop(self, timeout_s: float) -> None:
        """Ask it to end after the current request, and wait up to ``timeout_s``."""
        self._stopping.set()
        self._wake.set()
        if self.is_alive():
            self.join(timeout_s)

    def run(self) -> None:
        """Send until stopped; whatever fails is tried again."""
        backoff = Backoff(1.0, LAST_DELAY_S)
        while not self._stopping.is_set():
            try:
                self._serve()
            except sqlite3.Error as error:
                self._fault(f"the store cannot be used ({error})")
            except Exception:
                log.exception("the webhook's thread failed by an error that should not happen; it goes on")
                self._fault("an error that should not happen")
            self._stopping.wait(backoff.next_s())

    def _serve(self) -> None:
        options = self._options
        headers = {"Authorization": f"Bearer {options.token}"} if options.token else {}
        outbox = AlertQueue(self._store)
        try:
            with httpx.Client(timeout=options.timeout_s, headers=headers, verify=self._trusted) as client:
                while not self._stopping.is_set():
                    self._wake.clear()
                    alert = outbox.next(time.time(), options.postpone_s)
                    if alert is None:
                        self._wake.wait(IDLE_S)
                    else:
                        self._deliver(client, outbox, alert)
        finally:
            outbox.close()

    def _deliver(self, client: httpx.Client, outbox: AlertQueue, alert: WaitingAlert) -> None:
        first_s = self._options.first_delay_s
        backoff = Backoff(first_s, LAST_DELAY_S)
        attempts = 0
        while True:
            attempts += 1
            try:
                self._post(client, alert)
            except NotAccepted as error:
                if error.is_final or attempts == ATTEMPTS_AT_ONCE or self._stopping.is_set():
                    self._handle_refusal(outbox, alert, attempts, error)
                    return
                self.counts["retries"] += 1
                self.problem = str(error)
                log.info("alert not sent to %s (%s): it is tried again", self.address, error)
            else:
                break
            self._stopping.wait(backoff.next_s() + first_s * random())  # noqa: S311 - no secret
        self.problem = ""
        self.counts["sent"] += 1
        self._mark_sent(outbox, alert, attempts)

    def _post(self, client: httpx.Client, alert: WaitingAlert) -> None:
        self.counts["attempts"] += 1
        headers = {ID_HEADER: alert.id, "Content-Type": "application/json"}
        try:
            with client.stream("POST", self._options.url, content=alert.body.encode(), headers=headers) as answer:
                code = answer.status_code
                read = 0
                for chunk in answer.iter_raw():  # to its end, so that the connection can be used again
                    read += len(chunk)
                    if read > ANSWER_MAX_BYTES:
                        break
        except httpx.HTTPError as error:
            # Its text may hold the address, and so a secret.
            raise NotAccepted(type(error).__name__, is_final=False) from None
        if SUCCESS <= code < REDIRECT:
            return
        raise NotAccepted(f"HTTP {code}", is_final=code < SERVER_FAULT and code not in TRY_AGAIN)

    def _mark_sent(self, outbox: AlertQueue, alert: WaitingAlert, attempts: int) -> None:
        """Note that it was sent, however long the store takes: to go on without would send it again."""
        while True:
            try:
                outbox.sent(alert, attempts, time.time())
            except sqlite3.Error as error:
                self._fault(f"the store cannot be used ({error})")
                if self._stopping.wait(1.0):
                    return
            else:
                return

    def _handle_refusal(self, outbox: AlertQueue, alert: WaitingAlert, attempts: int, error: NotAccepted) -> None:
        self.problem = str(error)
        now_s = time.time()
        if self._stopping.is_set() and not error.is_final:
            return  # as it was: the next run tries again
        if error.is_final or self._proven_s() - alert.made_s >= self._options.give_up_s:
            self.counts["failed"] += 1
            log.error("alert %s is given up after attempt %d: %s answers %s", alert.id, attempts, self.address, error)
            outbox.failed(alert, attempts, str(error))
        else:
            log.warning("alert %s is put off: %s does not take it (%s)", alert.id, self.address, error)
            outbox.postpone(alert, attempts, str(error), now_s + self._options.postpone_s)

    def _proven_s(self) -> float:
        """Return seconds since 1970, by which nothing is given up while a clock is far ahead for a moment."""
        return self._clock.read() / 1e9

    def _fault(self, text: str) -> None:
        self.counts["faults"] += 1
        self.problem = text
        log.error("webhook: %s; it is tried again", text)


def _quiet_libraries() -> None:
    """Keep the webhook's address, which is a secret, out of the log: httpx writes it there with every request."""
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
