"""Sends alerts, one at a time, in a thread of its own; what is not sent waits in the store, also over a restart.

An alert is marked as sent when the answer is there. A monitor killed between the two sends that one alert again the
next time: HTTP can do no better. Both times it carries the same ``Idempotency-Key``, the alert's id, for receivers to
tell.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

import httpx
import tenacity

from mt4pump_consumers.monitor.outbox import AlertQueue, Waiting

ID_HEADER = "Idempotency-Key"
ATTEMPTS_AT_ONCE = 5
FIRST_DELAY_S, LAST_DELAY_S = 0.5, 30.0
PUT_OFF_S = 60.0
"""An alert that failed so often waits for so long, so that it holds up no others."""
IDLE_S = 0.5
ANSWER_MAX_BYTES = 65_536
TRY_AGAIN = frozenset({408, 425, 429})
SERVER_FAULT, REDIRECT, SUCCESS = 500, 300, 200

log = logging.getLogger(__name__)


class NotTaken(Exception):
    """The webhook did not take an alert; ``is_final``: it will not take it later, either."""

    def __init__(self, text: str, *, is_final: bool) -> None:
        super().__init__(text)
        self.is_final = is_final


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """Where to and how long; see the settings of the same names."""

    url: str
    token: str | None = None
    timeout_s: float = 10.0
    give_up_s: float = 86_400.0
    first_delay_s: float = FIRST_DELAY_S
    put_off_s: float = PUT_OFF_S


class Webhook(Thread):
    """``counts``: sent, attempts, retries, failed (given up), faults (of the store); ``trouble``: why it fails."""

    def __init__(self, store: Path, options: WebhookOptions) -> None:
        super().__init__(name="webhook", daemon=True)
        self.counts: Counter[str] = Counter()
        self.trouble = ""
        self.address = urlsplit(options.url).hostname or ""
        self._store = store
        self._options = options
        self._stopping = Event()
        self._news = Event()
        _quiet_libraries()

    def look(self) -> None:
        """Say that there may be something to send."""
        self._news.set()

    def stop(self, timeout_s: float) -> None:
        """Ask it to end after the request that is under way, and wait up to ``timeout_s``."""
        self._stopping.set()
        self._news.set()
        if self.is_alive():
            self.join(timeout_s)

    def run(self) -> None:
        """Send until stopped; whatever fails is tried again."""
        delay_s = 1.0
        while not self._stopping.is_set():
            try:
                self._serve()
            except sqlite3.Error as error:
                self._fault(f"the store cannot be used ({error})")
            except Exception:
                log.exception("the webhook's thread failed by an error that should not happen; it goes on")
                self._fault("an error that should not happen")
            self._stopping.wait(delay_s)
            delay_s = min(delay_s * 2, LAST_DELAY_S)

    def _serve(self) -> None:
        options = self._options
        headers = {"Authorization": f"Bearer {options.token}"} if options.token else {}
        outbox = AlertQueue(self._store)
        try:
            with httpx.Client(timeout=options.timeout_s, headers=headers) as client:
                while not self._stopping.is_set():
                    self._news.clear()
                    alert = outbox.next(time.time())
                    if alert is None:
                        self._news.wait(IDLE_S)
                    else:
                        self._deliver(client, outbox, alert)
        finally:
            outbox.close()

    def _deliver(self, client: httpx.Client, outbox: AlertQueue, alert: Waiting) -> None:
        attempts = 0
        try:
            for attempt in self._attempts():
                with attempt:
                    attempts += 1
                    self._post(client, alert)
        except NotTaken as error:
            self._not_taken(outbox, alert, attempts, error)
            return
        self.trouble = ""
        self.counts["sent"] += 1
        self._mark_sent(outbox, alert, attempts)

    def _attempts(self) -> tenacity.Retrying:
        first_s = self._options.first_delay_s
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, NotTaken) and not error.is_final),
            stop=tenacity.stop_after_attempt(ATTEMPTS_AT_ONCE) | tenacity.stop_when_event_set(self._stopping),
            wait=tenacity.wait_exponential(first_s, max=LAST_DELAY_S) + tenacity.wait_random(0, first_s),
            sleep=tenacity.sleep_using_event(self._stopping),
            before_sleep=self._note_retry,
            reraise=True,
        )

    def _note_retry(self, state: tenacity.RetryCallState) -> None:
        self.counts["retries"] += 1
        error = state.outcome.exception() if state.outcome else None
        self.trouble = str(error)
        log.info("alert not sent to %s (%s): it is tried again", self.address, error)

    def _post(self, client: httpx.Client, alert: Waiting) -> None:
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
            raise NotTaken(type(error).__name__, is_final=False) from None
        if SUCCESS <= code < REDIRECT:
            return
        raise NotTaken(f"HTTP {code}", is_final=code < SERVER_FAULT and code not in TRY_AGAIN)

    def _mark_sent(self, outbox: AlertQueue, alert: Waiting, attempts: int) -> None:
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

    def _not_taken(self, outbox: AlertQueue, alert: Waiting, attempts: int, error: NotTaken) -> None:
        self.trouble = str(error)
        now_s = time.time()
        if self._stopping.is_set() and not error.is_final:
            return  # as it was: the next run tries again
        if error.is_final or now_s - alert.made_s >= self._options.give_up_s:
            self.counts["failed"] += 1
            log.error("alert %s is given up after %d attempts: %s answers %s", alert.id, attempts, self.address, error)
            outbox.failed(alert, attempts, str(error))
        else:
            log.warning("alert %s is put off: %s does not take it (%s)", alert.id, self.address, error)
            outbox.put_off(alert, attempts, str(error), now_s + self._options.put_off_s)

    def _fault(self, text: str) -> None:
        self.counts["faults"] += 1
        self.trouble = text
        log.error("webhook: %s; it is tried again", text)


def _quiet_libraries() -> None:
    """Keep the webhook's address, which is a secret, out of the log: httpx writes it there with every request."""
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
