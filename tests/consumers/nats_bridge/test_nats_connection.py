"""The connection to NATS against a server of a few lines: what is counted, and that faults end nothing but it.

Private access: the bytes that nats-py has not sent, because how many it keeps depends on the system's buffers.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from mt4pump_consumers.nats_bridge import connection as link_module
from mt4pump_consumers.nats_bridge.connection import (
    PENDING_LIMIT_BYTES,
    NatsConnection,
    ServerConnection,
    fault_in_background,
)
from mt4pump_consumers.nats_bridge.settings import NatsSettings

from mt4pump.process.program import settings_of
from tests.bus import LIMIT_S

NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
INFO = b'INFO {"server_id":"S","version":"2.10.0","max_payload":1048576,"headers":true,"proto":1}\r\n'


class Server:
    """Says hello, answers PING, and keeps other lines. ``is_mute``: it answers no more; ``counts``: its client's."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.is_mute = False
        self.refusal = b""
        self.port = 0
        self.counts: Counter[str] = Counter()
        self.writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        writer.write(INFO)
        with suppress(ConnectionError):
            await self._answer(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        self.writers.discard(writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if self.refusal and line.startswith(b"CONNECT"):
                writer.write(self.refusal)
            elif line == b"PING\r\n":
                if not self.is_mute:
                    writer.write(b"PONG\r\n")
            else:
                self.received.append(line)

    def reset(self) -> None:
        """Break all connections as a killed machine does: with a reset, what is under way is lost."""
        for writer in self.writers:
            if writer.transport.is_closing():
                continue
            at: socket.socket = writer.get_extra_info("socket")
            at.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            writer.transport.abort()


@asynccontextmanager
async def linked(counts: Counter[str], server: Server) -> AsyncIterator[NatsConnection]:
    """Give a nats_link that runs, on a server that listens."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    settings = settings_of(NatsSettings, ["--servers", f"nats://127.0.0.1:{server.port}", "--retry-s", "0.1"]).settings
    made = NatsConnection(settings, counts)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=0.1)
        listening.close()
        server.reset()
        await until(lambda: not server.writers, "the server's end")


async def until(condition: Callable[[], object], what: str) -> None:
    """Return once ``condition`` holds."""
    deadline_s = asyncio.get_running_loop().time() + LIMIT_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline_s, f"never: {what}"
        await asyncio.sleep(0.001)


def played(scene: Callable[[NatsConnection, Server], Awaitable[None]]) -> Counter[str]:
    """Run ``scene``; return the counts."""
    server = Server()
    counts = server.counts

    async def play() -> None:
        asyncio.get_running_loop().set_exception_handler(fault_in_background)
        async with linked(counts, server) as nats_link:
            await scene(nats_link, server)

    asyncio.run(play())
    return counts


def test_what_is_published_reaches_the_server_and_is_counted() -> None:
    async def scene(nats_link: NatsConnection, server: Server) -> None:
        await nats_link.connection()
        await nats_link.publish("quote.EURUSD", b"body", {"Nats-Msg-Id": "1"})
        await until(lambda: b"body\r\n" in server.received, "the body")
        assert any(line.startswith(b"HPUB quote.EURUSD ") for line in server.received)

    assert played(scene) == {"connections": 1, "published": 1}


def test_without_a_connection_what_is_not_durable_is_dropped_and_counted() -> None:
    async def scene(nats_link: NatsConnection, server: Server) -> None:
        await nats_link.publish("quote.EURUSD", b"body", {})  # its task has not even begun
        await nats_link.connection()
        assert server.received == [] or server.received[0].startswith(b"CONNECT")

    assert played(scene) == {"connections": 1, "dropped": 1}


def test_what_the_server_does_not_take_is_dropped_beyond_a_bound() -> None:
    async def scene(nats_link: NatsConnection, _server: Server) -> None:
        connection = await nats_link.connection()
        connection.client._pending_data_size = PENDING_LIMIT_BYTES + 1  # noqa: SLF001
        await nats_link.publish("quote.EURUSD", b"body", {})
        connection.client._pending_data_size = 0  # noqa: SLF001

    assert played(scene) == {"connections": 1, "dropped": 1}


def test_a_reset_makes_a_new_connection_and_no_noise(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "CHECK_INTERVAL_S", 0.01)
    caplog.set_level(logging.INFO)

    async def scene(nats_link: NatsConnection, server: Server) -> None:
        for number in range(1, 4):
            first = await nats_link.connection()
            received: list[int] = []
            first.on_lost(lambda received=received: received.append(1))  # type: ignore[misc]
            server.reset()
            for _ in range(50):  # under way when the reset comes: the library's own task dies of it
                await nats_link.publish("quote.EURUSD", bytes(1000), {})
                await asyncio.sleep(0)
            await until(lambda received=received: received, "word of the loss")  # type: ignore[misc]
            await until(lambda number=number: server.counts["connections"] > number, "a new connection")  # type: ignore[misc]

    assert played(scene)["connections"] == 4
    assert {record.name for record in caplog.records} == {"mt4pump_consumers.nats_bridge.connection"}
    assert sum("is over" in message for message in caplog.messages) == 3
    assert not [record for record in caplog.records if record.exc_info]


def test_a_server_that_stopped_to_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "CHECK_INTERVAL_S", 0.01)
    monkeypatch.setattr(link_module, "CHECK_TIMEOUT_S", 0.05)

    async def scene(nats_link: NatsConnection, server: Server) -> None:
        first = await nats_link.connection()
        server.is_mute = True
        await until(first.lost.is_set, "the loss")
        assert "does not answer" in first.reason
        server.is_mute = False
        await until(lambda: server.counts["connections"] > 1, "a new connection")

    played(scene)


def test_a_refused_login_is_said_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(nats_link: NatsConnection, server: Server) -> None:
        server.refusal = b"-ERR 'Authorization Violation'\r\n"
        await until(lambda: any("Authorization" in message for message in caplog.messages), "word of the refusal")
        server.refusal = b""
        await nats_link.connection()

    assert played(scene)["connections"] == 1
    assert sum("Authorization" in message for message in caplog.messages) == 1


def test_a_listener_added_after_a_loss_is_called_at_once() -> None:
    async def scene() -> list[int]:
        connection = ServerConnection()
        await connection.close()
        received: list[int] = []
        connection.on_lost(lambda: received.append(1))
        return received

    assert asyncio.run(scene()) == [1]


def test_only_the_faults_of_a_connection_are_no_news_in_the_background(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(error: Exception) -> None:
        asyncio.get_running_loop().set_exception_handler(fault_in_background)

        async def fail() -> None:
            raise error

        task = asyncio.create_task(fail())
        await asyncio.wait({task})
        del task  # nobody looks at how it ended

    asyncio.run(scene(ConnectionResetError("gone")))
    assert caplog.messages == []
    asyncio.run(scene(KeyError("ours")))
    assert any("never retrieved" in message for message in caplog.messages)
