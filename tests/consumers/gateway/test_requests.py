"""Requests that cost too much or fail inside: others do not notice, and the client gets an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from mt4pump_consumers.gateway.broadcaster import Broadcaster
from mt4pump_consumers.gateway.limits import Work
from mt4pump_consumers.gateway.protocol import Json
from mt4pump_consumers.gateway.replay import Replayer
from mt4pump_consumers.gateway.requests import COMPARISONS, Requests
from mt4pump_consumers.gateway.session import ClientSession
from mt4pump_consumers.gateway.settings import GatewaySettings
from mt4pump_consumers.gateway.tokens import NOBODY, Grant

from mt4pump.client import Event
from tests.consumers.gateway.stream_made import event

PATTERNS = 50
SETTINGS = GatewaySettings(anonymous=True, messages_per_s=1000, subscriptions=1000, patterns=PATTERNS)
TOPICS = 2 * COMPARISONS


class Client:
    """Stands in for a session that says ``texts``; keeps what is sent to it."""

    def __init__(self, *texts: str) -> None:
        self.connection = self.writer = self
        self.name, self.grant = "client", Grant("all", ("*",))
        self.owner = "token"
        self.symbols, self.topics = dict[str, None](), dict[str, None]()
        self.is_open = True
        self.replies: list[Json] = []
        self.sent = 0
        self._texts: Iterator[str] = iter(texts)

    def __aiter__(self) -> Client:
        return self

    async def __anext__(self) -> str:
        for text in self._texts:
            return text
        raise StopAsyncIteration

    def refresh(self) -> None:
        """Nothing comes live here."""

    def reply(self, message: Json) -> None:
        self.replies.append(message)

    def send(self, payloads: list[Any]) -> None:
        self.sent += len(payloads)

    async def wait_until_writable(self) -> None:
        """It always keeps up."""


def requests(broadcaster: Broadcaster, status: Callable[[], Json] = lambda: {"feed": "live"}) -> Requests:
    no_replays = cast(Replayer, None)
    return Requests(broadcaster, [], no_replays, status, Work(1e9), SETTINGS)


def full_hub() -> Broadcaster:
    broadcaster = Broadcaster(asyncio.get_running_loop(), 10, lambda _notice: None)
    for number in range(TOPICS):
        broadcaster.last.keep(event(f"user.{number}", 1, login=number))
    return broadcaster


def test_who_has_not_logged_in_can_do_nothing_else() -> None:
    async def test() -> None:
        client = Client('{"action": "status", "id": 1}', '{"action": "auth", "token": "x", "id": 2}')
        client.grant = NOBODY
        await requests(full_hub()).serve(cast(ClientSession, client))
        assert [message["code"] for message in client.replies] == ["unauthenticated"] * 2
        assert [message["message"].split(":")[0] for message in client.replies] == [
            "log in first",
            "token is not valid",
        ]

    asyncio.run(test())


def test_others_have_their_turn_while_patterns_are_compared_with_all_topics() -> None:
    async def test() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        names = ", ".join(f'"user.*x{number}"' for number in range(PATTERNS))
        client = Client(f'{{"action": "subscribe", "topics": [{names}]}}')
        await requests(full_hub()).serve(cast(ClientSession, client))
        task.cancel()
        assert [message["type"] for message in client.replies] == ["subscription"]
        assert turns >= TOPICS * PATTERNS // COMPARISONS

    asyncio.run(test())


def test_a_client_that_leaves_is_sent_no_further_last_values() -> None:
    async def test() -> None:
        client = Client('{"action": "subscribe", "topics": ["user.*"]}')
        client.is_open = False
        await requests(full_hub()).serve(cast(ClientSession, client))
        assert client.sent == 0

    asyncio.run(test())


@pytest.mark.parametrize("action", ["subscribe", "resume"])
def test_more_patterns_than_allowed_are_refused_and_whole_names_are_not(action: str) -> None:
    async def test() -> None:
        names = ", ".join(f'"user.{number}"' for number in range(500))
        patterns = ", ".join(f'"quote.{number}*"' for number in range(PATTERNS))
        rest = '"offset": 0'
        client = Client(
            f'{{"action": "subscribe", "topics": [{names}]}}',
            f'{{"action": "subscribe", "topics": [{patterns}]}}',
            f'{{"action": "{action}", "topics": ["trade.*"], {rest}}}',
        )
        await requests(full_hub()).serve(cast(ClientSession, client))
        assert [message["type"] for message in client.replies] == ["subscription", "subscription", "error"]
        assert client.replies[-1]["code"] == "too_many"
        assert "51 patterns are more than 50" in client.replies[-1]["message"]

    asyncio.run(test())


def test_a_fault_of_ours_is_answered_counted_and_logged_once_and_the_connection_lives(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        failures = [KeyError("no such key"), KeyError("no such key")]
        client = Client(*('{"action": "status", "id": 5}',) * 3)

        def status() -> Json:
            if failures:
                raise failures.pop()
            return {"type": "status", "feed": "x"}

        handler = requests(full_hub(), status)
        await handler.serve(cast(ClientSession, client))
        *failed, last = client.replies
        assert [(message["code"], message["id"]) for message in failed] == [("internal", 5)] * 2
        assert last == {"type": "status", "feed": "x", "id": 5}
        assert handler.refused == {"internal": 2}

    asyncio.run(test())
    assert caplog.text.count("status failed") == 1


def test_names_and_patterns_give_the_last_values_of_what_they_mean_and_no_others() -> None:
    async def test() -> None:
        broadcaster = full_hub()
        client = Client('{"action": "subscribe", "symbols": ["EUR*"], "topics": ["user.1", "user.2?"]}')
        broadcaster.last.keep(quote("EURUSD"))
        broadcaster.last.keep(quote("GBPUSD"))
        await requests(broadcaster).serve(cast(ClientSession, client))
        assert client.sent == 1 + 1 + 10

    asyncio.run(test())


def quote(symbol: str) -> Event:
    return event(f"quote.{symbol}", 1, symbol=symbol, bid=1.0, ask=1.0, digits=5, time=1)
