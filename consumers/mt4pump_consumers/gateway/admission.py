"""The request at the beginning of a connection: its headers, where it comes from, its token; and TLS by files."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from mt4pump.process.program import StartError
from mt4pump_consumers.gateway.connection import GatewayConnection
from mt4pump_consumers.gateway.http import Web, fault_in, plain
from mt4pump_consumers.gateway.jwt_tokens import JwtVerifier
from mt4pump_consumers.gateway.limits import PROXY_HEADERS, ConnectionLimiter, LimitedLog, Origins, Work
from mt4pump_consumers.gateway.requests import AUTH_UNITS
from mt4pump_consumers.gateway.settings import GatewaySettings
from mt4pump_consumers.gateway.tokens import BUSY, BadKey, TokenError, TokenFile, Verifier, verify

log = logging.getLogger(__name__)


class Tls:
    """The certificate; new connections get the new one when its files change."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._seen = self._stamp()
        self._trouble = ""
        self.context = self._load()

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(*self._files)
        return context

    def _stamp(self) -> list[int]:
        return [file.stat().st_mtime_ns for file in self._files]

    def reload(self) -> None:
        """Take over changed files; files that are no pair leave the old ones in use."""
        try:
            stamp = self._stamp()
            if stamp != self._seen:
                self._load()  # files that are no pair would take the key from the context that is in use
                self.context.load_cert_chain(*self._files)
                self._seen = stamp  # only now: files that could not be read for a moment are read again
                log.info("certificate %s was read again", self._files[0])
            self._trouble = ""
        except OSError as error:  # ssl.SSLError is one
            if self._trouble != str(error):
                log.warning("certificate %s cannot be used (%s); the one before stays", self._files[0], error)
            self._trouble = str(error)


WEBSOCKET_PATHS = frozenset({"/", "/ws"})

limited = LimitedLog(logging.getLogger(__name__))


def verifiers_of(settings: GatewaySettings) -> list[Verifier]:
    """Return the ways of knowing tokens that are set; raises StartError for a key that is of no use."""
    names = (settings.jwt_claim, settings.jwt_audience, settings.jwt_issuer, settings.jwt_leeway_s)
    found: list[Verifier] = []
    try:
        if settings.tokens is not None:
            found.append(TokenFile(settings.tokens))
        if settings.jwt_secret is not None:
            found.append(JwtVerifier.of_secret(settings.jwt_secret.get_secret_value(), *names))
        if settings.jwt_public_key is not None:
            found.append(JwtVerifier.of_public_key(settings.jwt_public_key, *names))
    except BadKey as error:
        raise StartError(str(error)) from error
    return found


class UpgradeHandler:
    """Answers the first request of each connection: a file of the page, a refusal, or None, which lets it in."""

    def __init__(
        self, limiter: ConnectionLimiter, origins: Origins, web: Web, verifiers: Sequence[Verifier], work: Work
    ) -> None:
        self._limiter, self._origins, self._web = limiter, origins, web
        self._verifiers, self._work = verifiers, work

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the response that ends the connection, None to open the WebSocket."""
        assert isinstance(connection, GatewayConnection)  # noqa: S101 - `connection_factory` makes no others
        if fault := fault_in(request):
            self._limiter.malformed += 1
            return plain(HTTPStatus.BAD_REQUEST, fault)
        connection.is_proxied = any(name in request.headers for name in PROXY_HEADERS)
        if not connection.arrived_by(request.headers):
            return _no_room(connection, "too many connections from your address; try again later")
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return self._web.answer(request)
        return self._refusal(connection, request) or self._log_in(connection, request.headers.get("Authorization", ""))

    def _refusal(self, connection: GatewayConnection, request: Request) -> Response | None:
        """Return why the WebSocket cannot be opened, None when it can."""
        if request.path.partition("?")[0] not in WEBSOCKET_PATHS:
            return plain(HTTPStatus.NOT_FOUND, "WebSockets are served on / and /ws")
        if not self._origins.allow(request.headers.get("Origin"), request.headers.get("Host")):
            self._limiter.foreign += 1
            text = "%s: a page of origin %.200r was refused: it is not one of the setting origins"
            limited.write(logging.WARNING, text, connection.name, request.headers.get("Origin"))
            return plain(HTTPStatus.FORBIDDEN, "this page may not connect; see the setting origins")
        if refusal := self._limiter.refusal(connection):
            return _no_room(connection, refusal)
        return None

    def _log_in(self, connection: GatewayConnection, authorization: str) -> Response | None:
        """Check the token that came with the request, if one did; return the refusal."""
        scheme, _, bearer = authorization.partition(" ")
        if not scheme:
            return None
        if not self._work.allows(f"address {connection.group or connection.address}", AUTH_UNITS):
            return plain(HTTPStatus.TOO_MANY_REQUESTS, "too many logins from your address; try again later")
        try:
            grant = verify(self._verifiers, bearer.strip() if scheme.lower() == "bearer" else "", time.time())
        except TokenError as error:
            limited.write(logging.WARNING, "%s: a token was refused: %s", connection.name, error.reason)
            return plain(HTTPStatus.UNAUTHORIZED, str(error))
        if not connection.enter(grant.owner):
            return plain(HTTPStatus.TOO_MANY_REQUESTS, BUSY)
        connection.grant = grant
        return None


def _no_room(connection: GatewayConnection, refusal: str) -> Response:
    """Log that there are too many connections; return the response."""
    limited.write(logging.WARNING, "%s: a connection was refused: %s", connection.name, refusal)
    return plain(HTTPStatus.SERVICE_UNAVAILABLE, refusal)
