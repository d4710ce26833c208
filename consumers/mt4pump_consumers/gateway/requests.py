"""Handles the requests of clients: subscribe, unsubscribe, resume, auth, batch, history, status."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from websockets.exceptions import ConnectionClosed

from mt4pump.client.topic_state import is_pattern
from mt4pump_consumers.gateway.broadcaster import Broadcaster, full_payload, quote_payload
from mt4pump_consumers.gateway.limits import AUTH_UNITS, Budget, LimitedLog, Work
from mt4pump_consumers.gateway.protocol import (
    CLOSE_FLOOD,
    FORBIDDEN,
    INTERNAL,
    TOO_FAST,
    TOO_MANY,
    UNAUTHENTICATED,
    ClientRequest,
    ClientRequestError,
    Json,
    error_message,
    numbered,
    parse,
    status_for,
    subscription_message,
)
from mt4pump_consumers.gateway.replay import Replayer
from mt4pump_consumers.gateway.session import ClientSession
from mt4pump_consumers.gateway.settings import GatewaySettings
from mt4pump_consumers.gateway.tokens import BUSY, NOBODY, TOKEN_LIMIT_BYTES, TokenError, Verifier, verify
from mt4pump_consumers.gateway.topics import TopicSelection, is_prefix, matcher

REFUSALS_LIMIT = 100
"""Messages over the rate that are refused one by one; then the connection is closed."""
SNAPSHOT_PART = 100
"""Rows of a snapshot sent before looking whether the client keeps up."""
COMPARISONS = 2_000
"""Comparisons of topics with the patterns of a client before others get the slot."""
PARTS = 5
"""Patterns made ready before others get the slot."""
NAMES_SHOWN = 10
"""Most names in the text of an error."""
AUTH_CHARACTERS = TOKEN_LIMIT_BYTES + 1_024
"""Longest message before the login: what else than a token would it have."""

MESSAGE_UNITS, CHARACTERS_PER_UNIT = 50, 8
NAME_UNITS, PATTERN_UNITS, ROW_UNITS, HISTORY_UNITS = 3, 500, 60, 5_000
"""What work costs, in comparisons (see `limits`): a message and its length; a name to subscribe to, a pattern to
compile, a row of last values to send, a history to send."""

log = logging.getLogger(__name__)
limited = LimitedLog(log)


class Requests:
    """Handles the messages of all clients; ``refused`` counts error replies by code."""

    def __init__(  # noqa: PLR0917 - everything that a request may need
        self,
        broadcaster: Broadcaster,
        verifiers: Sequence[Verifier],
        replayer: Replayer,
        status: Callable[[], Json],
        work: Work,
        settings: GatewaySettings,
    ) -> None:
        self._broadcaster, self._verifiers, self._replayer, self._status = broadcaster, verifiers, replayer, status
        self._work, self._settings = work, settings
        self.refused: dict[str, int] = {}
        self._faults: set[tuple[type[Exception], str]] = set()
        self._actions = {
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "resume": self._resume,
            "auth": self._auth,
            "batch": self._batch,
            "history": self._history,
            "status": self._send_status,
        }

    async def serve(self, session: ClientSession) -> None:
        """Answer one client until it leaves."""
        per_s, refusals_left = self._settings.messages_per_s, REFUSALS_LIMIT
        rate, now_s = Budget(per_s, per_s), asyncio.get_running_loop().time
        async for text in session.connection:
            await self._spend(session, MESSAGE_UNITS + len(text) / CHARACTERS_PER_UNIT)
            if rate.allows(now_s()):
                refusals_left = REFUSALS_LIMIT
                await self._answer(session, text)
            else:
                refusals_left -= 1
                self._refuse(session, ClientRequestError(TOO_FAST, f"more than {per_s:g} messages a second"))
                if not refusals_left:
                    session.writer.shut(CLOSE_FLOOD, "too many messages")
            await session.writer.wait_until_writable()  # who does not read the answers is not asked for more questions

    async def _spend(self, session: ClientSession, units: float) -> None:
        """Return when the client's work is paid."""
        await self._work.spend(session.owner, units, lambda: session.writer.is_open)

    async def _answer(self, session: ClientSession, text: str | bytes) -> None:
        request: ClientRequest | None = None
        try:
            request = parse(text, AUTH_CHARACTERS if session.grant is NOBODY else None)
            await self._do(session, request)
        except ClientRequestError as error:
            self._refuse(session, error)
        except ConnectionClosed:
            raise
        except Exception as error:
            # Whatever a client finds to say, it does not end its connection, nor fill the log.
            action, number = (request.action, request.number) if request is not None else ("", None)
            if (kind := (type(error), action)) not in self._faults:
                self._faults.add(kind)
                log.exception("%s: %s failed; logged once, please report it", session.name, action or "a message")
            self._refuse(session, ClientRequestError(INTERNAL, "the gateway failed at this; its log says how", number))

    def _refuse(self, session: ClientSession, error: ClientRequestError) -> None:
        self.refused[error.code] = self.refused.get(error.code, 0) + 1
        session.reply(error_message(error))

    async def _do(self, session: ClientSession, request: ClientRequest) -> None:
        if session.grant is NOBODY and request.action != "auth":
            raise ClientRequestError(UNAUTHENTICATED, 'log in first: {"action": "auth", "token": …}', request.number)
        try:
            await self._actions[request.action](session, request)
        except ClientRequestError as error:
            raise ClientRequestError(error.code, str(error), request.number) from None

    async def _auth(self, session: ClientSession, request: ClientRequest) -> None:
        await self._spend(session, AUTH_UNITS)
        try:
            grant = verify(self._verifiers, request.token, time.time())
        except TokenError as error:
            limited.write(logging.WARNING, "%s: a token was refused: %s", session.name, error.reason)
            raise ClientRequestError(UNAUTHENTICATED, str(error)) from None
        if not session.connection.enter(grant.owner):
            raise ClientRequestError(TOO_MANY, BUSY)
        session.admit(grant)
        message: Json = {"type": "auth", "status": "success", "name": grant.name, "topics": list(grant.topics)}
        session.reply(numbered({**message, "expires": grant.expires_at_s}, request.number))

    async def _subscribe(self, session: ClientSession, request: ClientRequest) -> None:
        await self._prepare(session, request)
        symbols, topics = list(request.symbols), list(request.topics)
        session.symbols.update(dict.fromkeys(symbols))
        session.topics.update(dict.fromkeys(topics))
        session.refresh()
        session.reply(subscription_message(session.symbols, session.topics, request.number, request.topics))
        status = status_for(session.grant, self._status())
        if status["feed"] != "live":
            session.reply(status)
        await self._send_last_values(session, symbols, topics)

    async def _prepare(self, session: ClientSession, request: ClientRequest) -> None:
        """Check what is asked for, and make its patterns ready a few at a time; raises ClientRequestError."""
        self._check_counts(session, request)
        names = (*session.symbols, *session.topics, *request.symbols, *request.topics)
        await self._spend(session, NAME_UNITS * len(names))
        have = {*session.symbols, *session.topics}
        fresh = [name for name in _wild((*request.symbols, *request.topics)) if name not in have]
        for start in range(0, len(fresh), PARTS):
            part = fresh[start : start + PARTS]
            compiled = sum(not is_prefix(name) for name in part)
            await self._spend(session, compiled * PATTERN_UNITS + len(part) * self._broadcaster.groups.topics)
            for name in part:
                matcher(name)
        allowed = session.grant.allowed
        asked = (*(f"quote.{symbol}" for symbol in request.symbols), *request.topics)
        if forbidden := [topic for topic in asked if not allowed.touches(topic)]:
            more = f" and {len(forbidden) - NAMES_SHOWN} more" if len(forbidden) > NAMES_SHOWN else ""
            raise ClientRequestError(FORBIDDEN, f"your token does not allow {', '.join(forbidden[:NAMES_SHOWN])}{more}")

    def _check_counts(self, session: ClientSession, request: ClientRequest) -> None:
        have = len({*session.symbols, *request.symbols}) + len({*session.topics, *request.topics})
        if have > (most := self._settings.subscriptions):
            raise ClientRequestError(TOO_MANY, f"{have} subscriptions are more than {most}; use patterns")
        wild = {*_wild(session.symbols), *_wild(request.symbols)}, {*_wild(session.topics), *_wild(request.topics)}
        if (have := sum(map(len, wild))) > (most := self._settings.patterns):
            text = f"{have} patterns are more than {most}; give whole names, or wider patterns"
            raise ClientRequestError(TOO_MANY, text)

    async def _send_last_values(self, session: ClientSession, symbols: list[str], topics: list[str]) -> None:
        last, allowed = self._broadcaster.last, session.grant.allowed
        exact = [name for name in (*(f"quote.{symbol}" for symbol in symbols), *topics) if name in last]
        known = last.topics() if _wild([*symbols, *topics]) else exact
        by_symbol, by_topic, sent = TopicSelection(symbols), TopicSelection(topics), 0
        width = 1 + len(_wild([*symbols, *topics])) + len(allowed.patterns)
        step = max(1, COMPARISONS // width)
        for number, topic in enumerate(known):
            if number % step == 0:
                await self._spend(session, step * width)
                if not session.writer.is_open:
                    return
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
                    await self._spend(session, SNAPSHOT_PART * ROW_UNITS)
                    await session.writer.wait_until_writable()

    async def _unsubscribe(self, session: ClientSession, request: ClientRequest) -> None:
        await self._spend(session, NAME_UNITS * (len(session.symbols) + len(session.topics)))
        for name in request.symbols:
            session.symbols.pop(name, None)
        for name in request.topics:
            session.topics.pop(name, None)
        session.refresh()
        session.reply(subscription_message(session.symbols, session.topics, request.number))

    async def _resume(self, session: ClientSession, request: ClientRequest) -> None:
        await self._prepare(session, request)
        await self._replayer.resume(session, request, self._send_last_values)

    async def _batch(self, session: ClientSession, request: ClientRequest) -> None:
        session.window_s = request.window_s
        session.refresh()
        session.reply(numbered({"type": "batch", "status": "success", "window_s": request.window_s}, request.number))

    async def _history(self, session: ClientSession, request: ClientRequest) -> None:
        (symbol,) = request.symbols
        if not session.grant.allowed.covers(topic := f"quote.{symbol}"):
            raise ClientRequestError(FORBIDDEN, f"your token does not allow {topic}")
        await self._spend(session, HISTORY_UNITS)
        session.reply(numbered(self._broadcaster.history.of(symbol), request.number))

    async def _send_status(self, session: ClientSession, request: ClientRequest) -> None:
        session.wants_status = True
        session.reply(numbered(status_for(session.grant, self._status()), request.number))


def _wild(names: Iterable[str]) -> list[str]:
    return [name for name in names if is_pattern(name)]
