"""Builds the gateway, serves until asked to end, and looks after everything that time changes."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

from mt4pump.client import ClientError, ClientKeys, Notice
from mt4pump.process.program import Shutdown, StartError
from mt4pump.process.values import is_loopback
from mt4pump_consumers.gateway import status as words
from mt4pump_consumers.gateway.admission import RequestGate, connection_limits_of, gate_of, verifiers_of
from mt4pump_consumers.gateway.broadcaster import Broadcaster
from mt4pump_consumers.gateway.budget import Work
from mt4pump_consumers.gateway.connection import GatewayConnection, connection_factory
from mt4pump_consumers.gateway.connection_limiter import Origins
from mt4pump_consumers.gateway.feed import GatewayFeed
from mt4pump_consumers.gateway.headers import TrustedProxies
from mt4pump_consumers.gateway.payload import DEFLATE
from mt4pump_consumers.gateway.protocol import CLOSE_AUTH, CLOSE_EXPIRED, CLOSE_STOP, Json
from mt4pump_consumers.gateway.refresh import Refresher
from mt4pump_consumers.gateway.replay import Replayer
from mt4pump_consumers.gateway.requests import RequestLimits, Requests
from mt4pump_consumers.gateway.session import ClientSession, SessionLimits
from mt4pump_consumers.gateway.settings import GatewaySettings
from mt4pump_consumers.gateway.tls import Tls
from mt4pump_consumers.gateway.tokens import NOBODY, BadKey, Grant, TokenFile
from mt4pump_consumers.gateway.web import Web

LOOK_S = 0.25
"""How often the state of the daemon is looked at."""
CLIENTS_S = 1.0
"""How often clients, tokens and files are looked at: with many clients it counts."""
CLOSE_S = 2.0
"""Time for a client to answer a close."""
STOP_S = 10.0
"""Time for all clients to be gone when the gateway ends."""

log = logging.getLogger(__name__)


def main(settings: GatewaySettings, ending: Shutdown) -> int:
    """Run the gateway until asked to end; return the exit code."""
    logging.getLogger("websockets").setLevel(logging.WARNING)  # it has a line per connection; so have we
    return asyncio.run(_run(settings, ending))


async def _run(settings: GatewaySettings, ending: Shutdown) -> int:
    gateway = Gateway(settings)
    server = await gateway.start()
    try:
        await gateway.look_after(ending)
    finally:
        await gateway.stop(server)
    return 0


class Gateway:
    """One gateway. ``port`` is known once it is started."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self.port = settings.port
        self.sessions: dict[ClientSession, float] = {}
        self.hub = Broadcaster(asyncio.get_running_loop(), settings.quotes_per_s, self._on_notice)
        self._verifiers = verifiers_of(settings)
        self._gate = gate_of(settings)
        self._work = Work(settings.work_per_s)
        self._proxies = TrustedProxies(settings.trusted_proxies)
        self._request_gate = RequestGate(
            self._gate, Origins(settings.origins), Web(self._health), self._verifiers, self._work
        )
        self._limits = SessionLimits(settings.queue, settings.slow_s)
        self._tls = self._load_tls()
        self._feed = self._make_feed()
        self._replayer = Replayer(self.hub, self._feed.query, settings.resume_events)
        self._refresher = Refresher(self.hub, self._feed.cut, self._live_epoch, self._tell_notice)
        self._requests = Requests(
            self.hub,
            self._verifiers,
            self._replayer,
            self._status,
            self._work,
            RequestLimits(settings.messages_per_s, settings.subscriptions, settings.patterns),
        )
        self._told: Json = words.status_message(None, None, None)
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
        settings = self._settings
        try:
            keys = ClientKeys.load(settings.keys) if settings.keys is not None else None
            feed = GatewayFeed(
                settings.endpoint,
                query_endpoint=settings.query_address,
                keys=keys,
                topics=settings.topics,
                silence_s=settings.silence_s,
                door=self.hub.door,
            )
            feed.subscriber().close()  # says now what could never work
        except (ClientError, ValueError) as error:
            raise StartError(str(error)) from error
        return feed

    async def start(self) -> Server:
        """Bind, start to read the stream, and serve; raises StartError."""
        settings = self._settings
        deflate = ServerPerMessageDeflateFactory(
            server_no_context_takeover=True, client_no_context_takeover=True, compress_settings=DEFLATE
        )
        try:
            server = await serve(
                self._welcome,
                settings.host,
                settings.port,
                ssl=self._tls.context if self._tls else None,
                process_request=self._request_gate.answer,
                create_connection=connection_factory(self._gate, self._proxies, connection_limits_of(settings)),
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
        self._feed.start()
        scheme = "https" if self._tls else "http"
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        log.info("serves on %s://%s:%d/, reads %s", scheme, host, self.port, settings.endpoint)
        return server

    async def stop(self, server: Server) -> None:
        """Say goodbye to all clients and end."""
        self._feed.stop()
        for session in list(self.sessions):
            session.shut(CLOSE_STOP, "the gateway stops")
        server.close(code=CLOSE_STOP, reason="the gateway stops")  # for those who were just coming in
        try:
            await asyncio.wait_for(server.wait_closed(), STOP_S)
        except TimeoutError:
            log.warning("%d clients are not gone after %g s; ending without them", len(self.sessions), STOP_S)
        await asyncio.to_thread(self._feed.join, 10.0)
        await self._refresher.close()
        self._replayer.close()
        log.info("stopped; %d events came, %d messages were sent", self.hub.received, self.hub.delivered)

    async def _welcome(self, connection: ServerConnection) -> None:
        assert isinstance(connection, GatewayConnection)  # noqa: S101 - `connection_factory` makes no others
        session = ClientSession(connection, self.hub.cohorts, self._limits)
        session.window_s = self._settings.batch_window_s
        connection.flow = session
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
        return Grant("anonymous", self._settings.anonymous_topics) if self._settings.anonymous and local else None

    async def look_after(self, ending: Shutdown) -> None:
        """Do what time brings, until asked to end."""
        while not ending.asked():
            try:
                self._look()
            except Exception:
                self.hub.faults += 1
                log.exception("looking after the clients failed; please report it")
            with suppress(TimeoutError):
                await asyncio.wait_for(ending.wait_async(), LOOK_S)

    def _look(self) -> None:
        now_s = asyncio.get_running_loop().time()
        self._tell_status()
        self._refresher.look(now_s)
        if now_s >= self._clients_at_s:
            self._clients_at_s = now_s + CLIENTS_S
            self._reload()
            self._look_at_clients(now_s, time.time())

    def _look_at_clients(self, now_s: float, unix_s: float) -> None:
        for session, deadline_s in list(self.sessions.items()):
            grant = session.grant
            if grant is NOBODY and now_s > deadline_s:
                session.shut(CLOSE_AUTH, f"no token within {self._settings.authenticate_s:g} s")
            elif grant.expires_at_s is not None and grant.expires_at_s <= unix_s:
                session.shut(CLOSE_EXPIRED, "token has expired")
            elif not all(verifier.holds(grant) for verifier in self._verifiers):
                session.shut(CLOSE_EXPIRED, "token was withdrawn or changed")
            else:
                session.look(now_s)

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

    def _tell_status(self) -> None:
        now = self._status()
        if words.changed(self._told, now):
            log.info("the feed is %s (state %s)", now["feed"], now["state"] or "not known")
            self._told = now
            self.hub.tell(now)
            for session in list(self.sessions):
                if session.wants_status and not session.subscribes:
                    session.reply(words.status_for(session.grant, now))

    def _on_notice(self, notice: Notice) -> None:
        log.debug("stream: %s: %s", notice.kind, notice.text)  # the subscriber logs them, at a bounded rate
        self._refresher.note(notice)
        self._tell_notice(notice)

    def _tell_notice(self, notice: Notice) -> None:
        self.hub.tell(words.notice_message(notice), notice.topic)

    def _status(self) -> Json:
        return words.status_message(self._feed.status, self.hub.log, self.hub.confirmed)

    def _live_epoch(self) -> int:
        status = self._feed.status
        return status.epoch if status is not None and words.feed_word(status) == words.LIVE else 0

    def _health(self) -> tuple[bool, Json]:
        feed = self._status()["feed"]
        return feed == words.LIVE, {"feed": feed, "clients": len(self.sessions), "counts": self.counts()}

    def counts(self) -> dict[str, int]:
        """Return what was limited, closed or refused so far, and what went out."""
        gate, replays = self._gate, self._replayer
        return {
            "received": self.hub.received,
            "delivered": self.hub.delivered,
            "faults": self.hub.faults,
            "connections": gate.count,
            "connections_refused": gate.refused,
            "connections_gave_way": gate.gave_way,
            "connections_too_fast": gate.too_fast,
            "foreign_pages": gate.foreign,
            "malformed_requests": gate.malformed,
            "floods_closed": gate.flooded,
            "work_waits": self._work.waits,
            "replay_turns_given_up": replays.turns_given_up,
            "rows_not_kept": self.hub.last.unkept,
            **{f"refused_{code}": count for code, count in self._requests.refused.items()},
        }
