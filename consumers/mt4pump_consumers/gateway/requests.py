"""What clients ask for, done: subscribe, unsubscribe, resume, auth, batch, status."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from websockets.exceptions import ConnectionClosed

from mt4pump_consumers.gateway.hub import Hub, full_payload, quote_payload
from mt4pump_consumers.gateway.protocol import (
    CLOSE_FLOOD,
    FORBIDDEN,
    INTERNAL,
    TOO_FAST,
    TOO_MANY,
    UNAUTHENTICATED,
    Json,
    Request,
    RequestError,
    error_message,
    numbered,
    parse,
    subscription_message,
)
from mt4pump_consumers.gateway.replay import Replayer
from mt4pump_consumers.gateway.session import Session
from mt4pump_consumers.gateway.tokens import NOBODY, TokenError, Verifier, verify
from mt4pump_consumers.gateway.topics import Wish, is_pattern

PATIENCE = 100
"""Messages over the rate that are refused one by one; then the connection is closed."""
SNAPSHOT_PART = 100
"""Rows of a snapshot sent before looking whether the client keeps up."""
LOOKS = 200
"""Topics compared with the patterns of a client before others have their turn."""

log = logging.getLogger(__name__)


class Pace:
    """At most ``per_s`` messages a second, and a second's worth at once."""

    def __init__(self, per_s: float) -> None:
        self._per_s, self._most = per_s, max(1.0, per_s)
        self._left, self._at_s = self._most, 0.0

    def allows(self, now_s: float) -> bool:
        """Count one message; return whether it is within the pace."""
        self._left = min(self._most, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Requests:
    """Handles the messages of all clients; ``refused`` counts error replies by code."""

    def __init__(
        self,
        hub: Hub,
        verifiers: Sequence[Verifier],
        replayer: Replayer,
        status: Callable[[], Json],
        *,
        messages_per_s: float,
        subscriptions: int,
        patterns: int,
    ) -> None:
        self._hub, self._verifiers, self._replayer, self._status = hub, verifiers, replayer, status
        self._messages_per_s, self._subscriptions, self._patterns = messages_per_s, subscriptions, patterns
        self.refused: dict[str, int] = {}
        self._faults: set[tuple[type[Exception], str]] = set()
        self._actions = {
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "resume": self._resume,
            "auth": self._auth,
            "batch": self._batch,
            "status": self._send_status,
        }

    async def serve(self, session: Session) -> None:
        """Answer one client until it leaves."""
        pace, patience = Pace(self._messages_per_s), PATIENCE
        now_s = asyncio.get_running_loop().time
        async for text in session.connection:
            if pace.allows(now_s()):
                patience = PATIENCE
                await self._answer(session, text)
            else:
                patience -= 1
                self._refuse(session, RequestError(TOO_FAST, f"more than {self._messages_per_s:g} messages a second"))
                if not patience:
                    session.shut(CLOSE_FLOOD, "too many messages")
            await session.clear()  # who does not read the answers is not asked for more questions

    async def _answer(self, session: Session, text: str | bytes) -> None:
        request: Request | None = None
        try:
            request = parse(text)
            await self._do(session, request)
        except RequestError as error:
            self._refuse(session, error)
        except ConnectionClosed:
            raise
        except Exception as error:
            # Whatever a client finds to say, it does not end its connection, nor fill the log.
            action, number = (request.action, request.number) if request is not None else ("", None)
            if (kind := (type(error), action)) not in self._faults:
                self._faults.add(kind)
                log.exception("%s: %s failed; logged once, please report it", session.name, action or "a message")
            self._refuse(session, RequestError(INTERNAL, "the gateway failed at this; its log says how", number))

    def _refuse(self, session: Session, error: RequestError) -> None:
        self.refused[error.code] = self.refused.get(error.code, 0) + 1
        session.reply(error_message(error))

    async def _do(self, session: Session, request: Request) -> None:
        if session.grant is NOBODY and request.action != "auth":
            raise RequestError(UNAUTHENTICATED, 'log in first: {"action": "auth", "token": …}', request.number)
        try:
            await self._actions[request.action](session, request)
        except RequestError as error:
            raise RequestError(error.code, str(error), request.number) from None

    async def _auth(self, session: Session, request: Request) -> None:
        try:
            grant = verify(self._verifiers, request.token, time.time())
        except TokenError as error:
            log.warning("%s: a token was refused: %s", session.name, error)
            raise RequestError(UNAUTHENTICATED, str(error)) from None
        session.admit(grant)
        message: Json = {"type": "auth", "status": "success", "name": grant.name, "topics": list(grant.topics)}
        session.reply(numbered({**message, "expires": grant.expires_at_s}, request.number))

    async def _subscribe(self, session: Session, request: Request) -> None:
        self._check(session, request)
        symbols, topics = list(request.symbols), list(request.topics)
        session.symbols.update(dict.fromkeys(symbols))
        session.topics.update(dict.fromkeys(topics))
        session.refresh()
        session.reply(subscription_message(session.symbols, session.topics, request.number))
        status = self._status()
        if status["feed"] != "live":
            session.reply(status)
        await self._send_last_values(session, symbols, topics)

    def _check(self, session: Session, request: Request) -> None:
        allowed = session.grant.allowed
        asked = [*(f"quote.{symbol}" for symbol in request.symbols), *request.topics]
        if forbidden := [topic for topic in asked if not allowed.touches(topic)]:
            raise RequestError(FORBIDDEN, f"your token does not allow {', '.join(forbidden)}")
        have = len({*session.symbols, *request.symbols}) + len({*session.topics, *request.topics})
        if have > self._subscriptions:
            raise RequestError(TOO_MANY, f"{have} subscriptions are more than {self._subscriptions}; use patterns")
        wild = {*_wild(session.symbols), *_wild(request.symbols)}, {*_wild(session.topics), *_wild(request.topics)}
        if (have := sum(map(len, wild))) > self._patterns:
            text = f"{have} patterns are more than {self._patterns}; give whole names, or wider patterns"
            raise RequestError(TOO_MANY, text)

    async def _send_last_values(self, session: Session, symbols: list[str], topics: list[str]) -> None:
        last, allowed = self._hub.last, session.grant.allowed
        exact = [name for name in (*(f"quote.{symbol}" for symbol in symbols), *topics) if name in last]
        known = last.topics() if _wild([*symbols, *topics]) else exact
        by_symbol, by_topic, sent = Wish(symbols), Wish(topics), 0
        for number, topic in enumerate(known, 1):
            if number % LOOKS == 0:
                await asyncio.sleep(0)
            kind, _, key = topic.partition(".")
            narrow, full = kind == "quote" and key in by_symbol, topic in by_topic
            if not (narrow or full) or not allowed.covers(topic):
                continue
            # The rows are looked up when they are sent, so none can be older than what went out live before it.
            for event in last.rows(topic):
                payloads = [quote_payload(event)] if narrow else []
                session.send([*payloads, full_payload(event, snapshot=True)] if full else payloads)
                sent += 1
                if sent % SNAPSHOT_PART == 0:
                    await asyncio.sleep(0)
                    await session.clear()
            if not session.is_open:
                return

    async def _unsubscribe(self, session: Session, request: Request) -> None:
        for name in request.symbols:
            session.symbols.pop(name, None)
        for name in request.topics:
            session.topics.pop(name, None)
        session.refresh()
        session.reply(subscription_message(session.symbols, session.topics, request.number))

    async def _resume(self, session: Session, request: Request) -> None:
        self._check(session, request)
        await self._replayer.resume(session, request, self._send_last_values)

    async def _batch(self, session: Session, request: Request) -> None:
        session.window_s = request.window_s
        session.refresh()
        session.reply(numbered({"type": "batch", "status": "success", "window_s": request.window_s}, request.number))

    async def _send_status(self, session: Session, request: Request) -> None:
        session.wants_status = True
        session.reply(numbered(self._status(), request.number))


def _wild(names: Iterable[str]) -> list[str]:
    return [name for name in names if is_pattern(name)]
