"""The connection to NATS: one after the other, each a fresh client.

The library's own reconnecting is not used: it sends again what waited in its buffer, and ends for good on a refused
login. A fresh client has nothing left over, and every end of a connection is the same: the next one is made.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import nats.errors
from nats.aio.client import Client

from mt4pump.process.backoff import Backoff
from mt4pump.process.program import CONSTRAINTS_PLACE, StartError
from mt4pump_consumers.nats_bridge.message import Message, QuarantineLimits
from mt4pump_consumers.nats_bridge.settings import NatsSettings

CONNECT_TIMEOUT_S = 5
CHECK_INTERVAL_S, CHECK_TIMEOUT_S = 3.0, 6
CLOSE_LIMIT_S = 2.0
PENDING_LIMIT_BYTES = 1_048_576
"""Bytes that the server has not taken yet, above which what is not durable is dropped: old quotes help nobody."""
FAULTS = (OSError, nats.errors.Error, asyncio.TimeoutError, ValueError)
"""What the library raises when a connection cannot be made or used."""

log = logging.getLogger(__name__)


class ServerConnection:
    """One connected client. ``lost`` is set when the connection is over; a `ServerConnection` never comes back."""

    def __init__(self) -> None:
        self.client = Client()
        self.lost = asyncio.Event()
        self.reason = ""
        self._callbacks: list[Callable[[], None]] = []

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the connection is lost; at once if it is."""
        self._callbacks.append(callback)
        if self.lost.is_set():
            callback()

    async def open(self, options: Mapping[str, Any]) -> None:
        """Connect; raises what is in `FAULTS`."""
        # Tries every server twice, one after the other; then it raises.
        await self.client.connect(
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=CONNECT_TIMEOUT_S,
            error_cb=self._on_error,
            disconnected_cb=self._on_lost,
            closed_cb=self._on_lost,
            **options,
        )

    async def watch(self) -> None:
        """Return when the connection is over, also when the server only stopped to answer."""
        while not self.lost.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self.lost.wait(), CHECK_INTERVAL_S)
                return
            try:
                await self.client.flush(CHECK_TIMEOUT_S)
            except FAULTS as error:
                self.reason = self.reason or f"the server does not answer ({error})"
                self._end()

    async def close(self) -> None:
        """Close it, within a bound."""
        self._end()
        with suppress(*FAULTS, AttributeError, AssertionError):  # the last two of a client that never began to connect
            await asyncio.wait_for(self.client.close(), CLOSE_LIMIT_S)

    async def _on_error(self, error: Exception) -> None:
        self.reason = str(error) or type(error).__name__
        log.debug("NATS: %r", error)

    async def _on_lost(self) -> None:
        self._end()

    def _end(self) -> None:
        if not self.lost.is_set():
            self.lost.set()
            for callback in self._callbacks:
                callback()


def fault_in_background(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Handle what nobody waited for: a lost connection ends the library's own tasks, too, and is no news there.

    What is lost then is noticed by `ServerConnection.watch`. Everything else goes the usual way. For `asyncio`'s
    ``set_exception_handler``.
    """
    if isinstance(context.get("exception"), (OSError, nats.errors.Error)):
        log.debug("NATS, in a task of the library: %r", context["exception"])
    else:
        loop.default_exception_handler(context)


class NatsConnection:
    """Keeps a `ServerConnection` up; `run` does it.

    ``counts``: ``connections``, ``published``, ``dropped``, and ``oversized`` for those dropped by their size.
    """

    def __init__(self, settings: NatsSettings, counts: Counter[str]) -> None:
        self._options = _options(settings)
        self._servers = ", ".join(settings.servers)
        self._counts = counts
        self._retry_s = settings.retry_s
        self._connection: ServerConnection | None = None
        self._came_up = asyncio.Event()

    async def run(self) -> None:
        """Connect, and connect again whenever the connection is over; for ever."""
        backoff, logged = Backoff(0.2, self._retry_s), ""
        while True:
            connection = ServerConnection()
            try:
                try:
                    await connection.open(self._options)
                except FAULTS as error:
                    wait_s = backoff.next_s()
                    reason = connection.reason or str(error) or type(error).__name__
                    level = logging.WARNING if reason != logged else logging.DEBUG  # not every attempt is news
                    log.log(level, "NATS at %s cannot be reached (%s): tried again", self._servers, reason)
                    logged = reason
                    await asyncio.sleep(wait_s)
                    continue
                backoff.reset()
                logged = ""
                await self._serve(connection)
            finally:
                await connection.close()

    @property
    def is_up(self) -> bool:
        """Return whether there is a connection; from any thread."""
        return self._connection is not None

    async def connection(self) -> ServerConnection:
        """Return the connection, once there is one."""
        while self._connection is None:
            await self._came_up.wait()
        return self._connection

    async def publish(self, subject: str, payload: bytes, headers: dict[str, str]) -> None:
        """Publish what is not durable: now, or not at all."""
        connection = self._connection
        if connection is None or connection.client.pending_data_size > PENDING_LIMIT_BYTES:
            self._counts["dropped"] += 1
            return
        limits = QuarantineLimits(connection.client.max_payload)
        if objection := limits.objection(Message(subject, payload, headers)):
            # The server would end the connection for it, which the durable events need.
            self._counts["dropped"] += 1
            self._counts["oversized"] += 1
            if self._counts["oversized"] == 1:
                log.warning("%.200s is not published: %s; such events are counted as oversized", subject, objection)
            return
        try:
            await connection.client.publish(subject, payload, headers=headers)
        except FAULTS as error:
            self._counts["dropped"] += 1
            log.debug("%s was not published: %s", subject, error)
        else:
            self._counts["published"] += 1

    async def _serve(self, connection: ServerConnection) -> None:
        url = connection.client.connected_url
        log.info("connected to NATS at %s", url.netloc.rpartition("@")[2] if url else self._servers)
        self._counts["connections"] += 1
        self._connection = connection
        self._came_up.set()
        try:
            await connection.watch()
            log.warning("the connection to NATS is over (%s): made anew", connection.reason or "closed by the server")
        finally:
            self._connection = None
            self._came_up.clear()


def _options(settings: NatsSettings) -> dict[str, Any]:
    """Return the arguments for nats-py that follow from the settings; raises StartError for files that are no good."""
    options: dict[str, Any] = {"servers": list(settings.servers), "name": "mt4pump-nats"}
    if settings.user is not None and settings.password is not None:
        options |= {"user": settings.user, "password": settings.password.get_secret_value()}
    if settings.token is not None:
        options["token"] = settings.token.get_secret_value()
    if settings.credentials is not None:
        options["user_credentials"] = str(_credentials(settings))
    if settings.tls_ca is not None or settings.tls_certificate is not None:
        options["tls"] = _tls(settings)
    return options


NKEYS = f"pip install -c deploy/constraints.txt 'nkeys>=0.2.1,<0.3' 'pynacl>=1.6.2,<2' ({CONSTRAINTS_PLACE})"
"""The package that credentials need, and what it needs, bounded: neither is in the locked set."""


def _credentials(settings: NatsSettings) -> object:
    if find_spec("nkeys") is None:
        raise StartError(f"credentials need the package nkeys: {NKEYS}")
    if settings.credentials is None or not settings.credentials.is_file():
        raise StartError(f"credentials: there is no file {settings.credentials}")
    return settings.credentials


def _tls(settings: NatsSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca)
        if settings.tls_certificate is not None:
            context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"the TLS files cannot be used: {error}") from error
    return context
