"""Builds the gateway, serves until asked to end, and runs what is periodic."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

from mt4pump.client import ClientError, Notice
from mt4pump.client.topic_state import warn_of_unmatched, whole_kind
from mt4pump.process.program import Shutdown, StartError
from mt4pump.process.values import is_loopback
from mt4pump_consumers.gateway.broadcaster import Broadcaster, GatewayFeed
from mt4pump_consumers.gateway.client_writer import DEFLATE
from mt4pump_consumers.gateway.connection import (
    GatewayConnection,
    Tls,
    UpgradeHandler,
    connection_factory,
)
from mt4pump_consumers.gateway.http import TrustedProxies, Web
from mt4pump_consumers.gateway.last_values import Refresher
from mt4pump_consumers.gateway.limits import ConnectionLimiter, Origins, Work
from mt4pump_consumers.gateway.protocol import (
    CLOSE_AUTH,
    CLOSE_EXPIRED,
    CLOSE_STOP,
    LIVE,
    Json,
    changed,
    feed_state,
    notice_message,
    status_for,
    status_message,
)
from mt4pump_consumers.gateway.replay import Replayer
from mt4pump_consumers.gateway.requests import Requests
from mt4pump_consumers.gateway.session import ClientSession
from mt4pump_consumers.gateway.settings import GatewaySettings
from mt4pump_consumers.gateway.tokens import NOBODY, BadKey, Grant, JwtVerifier, TokenFile, Verifier
from mt4pump_consumers.health import CountsCollector, health_endpoint
from mt4pump_consumers.http_server import NONE_LEFT, SpareDescriptors

CHECK_S = 0.25
"""How often the state of the daemon is checked."""
CLIENTS_S = 1.0
"""How often clients, tokens and files are checked, which takes time with many clients."""
CLOSE_S = 2.0
"""Time for a client to answer a close."""
STOP_S = 10.0
"""Time for all clients to be gone when the gateway ends."""

log = logging.getLogger(__name__)


def main(settings: GatewaySettings, shutdown: Shutdown) -> int:
    """Run the gateway until asked to end; return the exit code."""
    logging.getLogger("websockets").setLevel(logging.WARNING)  # it has a line per connection; so have we
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # its warning of a write to a lost connection: one per write
    return asyncio.run(_run(settings, shutdown))


async def _run(settings: GatewaySettings, shutdown: Shutdown) -> int:
    gateway = Gateway(settings)

    def counts() -> dict[str, int]:
        return {**gateway.counts(), "old_logs_deleted": shutdown.old_logs_deleted}

    collector = CountsCollector("mt4pump_gateway", counts, gateway.fault, {"connections"})
    with health_endpoint(settings.health_port, collector):
        server = await gateway.start()
        try:
            await gateway.run_periodic(shutdown)
        finally:
            await gateway.stop(server)
    return 0


def verifiers_of(settings: GatewaySettings) -> list[Verifier]:
    """Return what checks tokens, by the settings; raises StartError for a file or key that cannot be used."""
    found: list[Verifier] = []
    try:
        if settings.tokens is not None:
            found.append(TokenFile(settings.tokens))
        if settings.jwt_secret is not None:
            found.append(JwtVerifier.of_secret(settings.jwt_secret.get_secret_value(), settings))
        if settings.jwt_public_key is not None:
            found.append(JwtVerifier.of_public_key(settings.jwt_public_key, settings))
    except BadKey as error:
        raise StartError(str(error)) from error
    return found


class Gateway:
    """One gateway. ``port`` is known once it is started."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self.port = settings.port
        self.sessions: dict[ClientSession, float] = {}
        self.broadcaster = Broadcaster(asyncio.get_running_loop(), settings.quotes_per_s, self._on_notice)
        self._verifiers = verifiers_of(settings)
        self._anonymous_topics = tuple(map(whole_kind, settings.anonymous_topics))
        if settings.anonymous:
            warn_of_unmatched(self._anonymous_topics)
        self._limiter = ConnectionLimiter(settings, asyncio.get_running_loop().time)
        self._work = Work(settings.work_per_s)
        self._proxies = TrustedProxies(settings.trusted_proxies)
        self._upgrade_handler = UpgradeHandler(
            self._limiter, Origins(settings.origins), Web(self._health), self._verifiers, self._work
        )
        self._tls = self._load_tls()
        self._feed = self._make_feed()
        self._replayer = Replayer(self.broadcaster, self._feed.query, settings.resume_events)
        self._refresher = Refresher(self.broadcaster.last, self._feed.snapshot, self._live_epoch, self._publish_notice)
        self._requests = Requests(
            self.broadcaster,
            self._verifiers,
            self._replayer,
            self._status,
            self._work,
            settings,
        )
        self._published = self._status()
        self._spare = SpareDescriptors()
        self._clients_at_s = 0.0
        self._token_trouble = ""

    def _load_tls(self) -> Tls | None:
        certificate, key = self._settings.tls_certificate, self._settings.tls_key
        if certificate is None or key is None:
            return None
        try:
            return Tls(certificate, key)
        except OSError as error:
            raise StartError(f"tls-certificate {certificate} and tls-key {key} cannot be used: {error}") from error

    def _make_feed(self) -> GatewayFeed:
        try:
            return GatewayFeed(self._settings, self.broadcaster.bridge)
        except (ClientError, ValueError) as error:
            raise StartError(str(error)) from error

    async def start(self) -> Server:
        """Bind, start to read the stream, and serve; raises StartError."""
        settings = self._settings
        asyncio.get_running_loop().set_exception_handler(self._on_exception)
        deflate = ServerPerMessageDeflateFactory(
            server_no_context_takeover=True, client_no_context_takeover=True, compress_settings=DEFLATE
        )
        try:
            server = await serve(
                self._welcome,
                settings.host,
                settings.port,
                ssl=self._tls.context if self._tls else None,
                process_request=self._upgrade_handler.answer,
                create_connection=connection_factory(self._limiter, self._proxies, settings),
                extensions=[deflate] if settings.compression else None,
                compression=None,
                max_size=settings.message_bytes,
                max_queue=16,
                write_limit=settings.write_buffer_bytes,
                close_timeout=CLOSE_S,
                server_header=None,
            )
        except OSError as error:
            text = f"{settings.host} port {settings.port} cannot be served on ({error}); choose another with --port"
            raise StartError(text) from error
        self.port = server.sockets[0].getsockname()[1]
        self._feed.thread.start()
        scheme = "https" if self._tls else "http"
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        log.info("serves on %s://%s:%d/, reads %s", scheme, host, self.port, settings.endpoint)
        return server

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Close the connection that asyncio has no descriptor for; it would log and try again, more often each time."""
        error, listener = context.get("exception"), context.get("socket")
        if isinstance(error, OSError) and error.errno in NONE_LEFT and listener is not None:
            self._spare.close_waiting(listener.fileno())
        else:
            loop.default_exception_handler(context)

    async def stop(self, server: Server) -> None:
        """Close all clients and end."""
        self._feed.thread.stop()
        for session in list(self.sessions):
            session.writer.shut(CLOSE_STOP, "the gateway stops")
        server.close(code=CLOSE_STOP, reason="the gateway stops")  # for those who were just coming in
        try:
            await asyncio.wait_for(server.wait_closed(), STOP_S)
        except TimeoutError:
            log.warning("not gone after %g s, and ended without an answer: clients %d", STOP_S, len(self.sessions))
        await asyncio.to_thread(self._feed.thread.join, 10.0)
        await self._refresher.close()
        self._replayer.close()
        self._spare.release()
        log.info(
            "stopped; %d events came, %d messages were sent", self.broadcaster.received, self.broadcaster.delivered
        )

    async def _welcome(self, connection: ServerConnection) -> None:
        assert isinstance(connection, GatewayConnection)  # noqa: S101 - `connection_factory` makes no others
        session = ClientSession(connection, self.broadcaster.groups, self._settings)
        connection.writer = session.writer
        if (grant := connection.grant or self._anonymous(connection)) is not None and connection.enter(grant.owner):
            session.admit(grant)
        self.sessions[session] = asyncio.get_running_loop().time() + self._settings.authenticate_s
        try:
            await self._requests.serve(session)
        except ConnectionClosed:
            log.debug("%s: left", session.name)
        finally:
            del self.sessions[session]
            session.end()

    def _anonymous(self, connection: GatewayConnection) -> Grant | None:
        local = is_loopback(connection.address) and not connection.is_proxied
        return Grant("anonymous", self._anonymous_topics) if self._settings.anonymous and local else None

    async def run_periodic(self, shutdown: Shutdown) -> None:
        """Check status, clients and files periodically, until asked to end."""
        while not shutdown.asked():
            try:
                self._run_periodic()
            except Exception:
                self.broadcaster.faults += 1
                log.exception("checking the clients failed; please report it")
            with suppress(TimeoutError):
                await asyncio.wait_for(shutdown.wait_async(), CHECK_S)

    def _run_periodic(self) -> None:
        now_s = asyncio.get_running_loop().time()
        self._publish_status()
        self._refresher.check(now_s)
        if now_s >= self._clients_at_s:
            self._clients_at_s = now_s + CLIENTS_S
            self._reload()
            self._check_clients(now_s, time.time())

    def _check_clients(self, now_s: float, unix_s: float) -> None:
        for session, deadline_s in list(self.sessions.items()):
            grant = session.grant
            if grant is NOBODY and now_s > deadline_s:
                session.writer.shut(CLOSE_AUTH, f"no token within {self._settings.authenticate_s:g} s")
            elif grant.expires_at_s is not None and grant.expires_at_s <= unix_s:
                session.writer.shut(CLOSE_EXPIRED, "token has expired")
            elif not all(verifier.holds(grant) for verifier in self._verifiers):
                session.writer.shut(CLOSE_EXPIRED, "token was withdrawn or changed")
            else:
                session.check(now_s)

    def _reload(self) -> None:
        if self._tls is not None:
            self._tls.reload()
        for verifier in self._verifiers:
            if isinstance(verifier, TokenFile):
                try:
                    if verifier.reload():
                        log.info("token file %s was read again", verifier.path)
                    self._token_trouble = ""
                except BadKey as error:
                    if self._token_trouble != str(error):
                        log.warning("%s; the tokens before stay", error)
                    self._token_trouble = str(error)

    def _publish_status(self) -> None:
        now = self._status()
        if changed(self._published, now):
            log.info("the feed is %s (state %s)", now["feed"], now["state"] or "not known")
            self._published = now
            self.broadcaster.publish(now)
            for session in list(self.sessions):
                if session.wants_status and not session.subscribes:
                    session.reply(status_for(session.grant, now))

    def _on_notice(self, notice: Notice) -> None:
        log.debug("stream: %s: %s", notice.kind, notice.text)  # the subscriber logs them, at a bounded rate
        self._refresher.note(notice)
        self._publish_notice(notice)

    def _publish_notice(self, notice: Notice) -> None:
        self.broadcaster.publish(notice_message(notice), notice.topic)

    def _status(self) -> Json:
        return status_message(self._feed.thread.status, self.broadcaster.log, self.broadcaster.confirmed)

    def _live_epoch(self) -> int:
        status = self._feed.thread.status
        return status.epoch if feed_state(status) == LIVE else 0

    def fault(self) -> str:
        """Return what keeps the feed from being live, empty for nothing; from any thread."""
        state = feed_state(self._feed.thread.status)
        return "" if state == LIVE else f"the feed is {state}"

    def _health(self) -> tuple[bool, Json]:
        feed = self._status()["feed"]
        return feed == LIVE, {"feed": feed, "clients": len(self.sessions), "counts": self.counts()}

    def counts(self) -> dict[str, int]:
        """Return what was limited, closed or refused so far, and what went out."""
        limiter, replays = self._limiter, self._replayer
        return {
            "received": self.broadcaster.received,
            "delivered": self.broadcaster.delivered,
            "faults": self.broadcaster.faults,
            "quotes_conflated": self.broadcaster.conflated,
            "quotes_conflated_for_slow_clients": self.broadcaster.groups.conflated,
            "feed_waits": self.broadcaster.bridge.waits,
            "feed_restarts": self._feed.thread.restarts,
            "connections": limiter.count,
            "connections_refused": limiter.refused,
            "connections_gave_way": limiter.gave_way,
            "connections_too_fast": limiter.too_fast,
            "connections_without_descriptor": self._spare.count,
            "foreign_pages": limiter.foreign,
            "malformed_requests": limiter.malformed,
            "floods_closed": limiter.flooded,
            "work_waits": self._work.waits,
            "replay_turns_given_up": replays.slots_given_up,
            "rows_not_kept": self.broadcaster.last.unkept,
            "quotes_without_history": self.broadcaster.history.unkept,
            **{f"refused_{code}": count for code, count in dict(self._requests.refused).items()},
        }
