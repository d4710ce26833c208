"""The end of a connection."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from mt4pump_consumers.gateway import connection as connection_module
from mt4pump_consumers.gateway.connection import GatewayConnection, connection_factory
from mt4pump_consumers.gateway.http import TrustedProxies
from mt4pump_consumers.gateway.limits import ConnectionLimiter
from mt4pump_consumers.gateway.session import ClientSession
from mt4pump_consumers.gateway.settings import GatewaySettings
from mt4pump_consumers.gateway.subscriber_groups import SubscriberGroups
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.bus import LIMIT_S
from tests.consumers.gateway.test_abuse import frame

UPGRADE = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
UPGRADE += b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"


def test_a_client_that_takes_the_rest_only_after_the_close_leaves_no_traceback() -> None:
    errors: list[dict[str, Any]] = []
    asyncio.run(asyncio.wait_for(take_the_rest(errors), LIMIT_S))
    assert not errors


async def take_the_rest(errors: list[dict[str, Any]]) -> None:
    """Serve one client that reads what is buffered once its connection is closed; collect errors of the loop."""
    loop, settings, ended = asyncio.get_running_loop(), GatewaySettings(anonymous=True), asyncio.Event()
    loop.set_exception_handler(lambda _loop, context: errors.append(context))

    async def welcome(connection: ServerConnection) -> None:
        assert isinstance(connection, GatewayConnection)
        connection.transport.write(bytes(2**24))
        connection.transport.close()
        assert connection.transport.get_write_buffer_size()
        await asyncio.shield(connection.connection_lost_waiter)
        connection.abort()
        ended.set()

    factory = connection_factory(ConnectionLimiter(settings, loop.time), TrustedProxies(()), settings)
    async with serve(welcome, "127.0.0.1", 0, create_connection=factory, compression=None) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(UPGRADE)
        while await reader.read(2**16):
            pass
        await ended.wait()
        writer.close()
    await asyncio.sleep(0)


def test_a_flooding_client_has_its_time_to_read_the_close_whatever_the_library_s_ping_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "ENDING_S", 1.0)
    open_s, code = asyncio.run(asyncio.wait_for(flood_and_wait(), LIMIT_S))
    assert open_s >= 0.99
    assert code == 4429


async def flood_and_wait() -> tuple[float, int]:
    """Serve one client that floods and does not read: return how long it was connected, and the code it then reads."""
    loop, settings, ended = asyncio.get_running_loop(), GatewaySettings(anonymous=True), asyncio.Event()

    async def welcome(connection: ServerConnection) -> None:
        await asyncio.shield(connection.connection_lost_waiter)
        ended.set()

    factory = connection_factory(ConnectionLimiter(settings, loop.time), TrustedProxies(()), settings)
    options: dict[str, Any] = {"create_connection": factory, "compression": None}
    async with serve(welcome, "127.0.0.1", 0, ping_interval=0.05, close_timeout=0.1, **options) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(frame(10) * 1_000)
        began_s = loop.time()
        await ended.wait()
        open_s = loop.time() - began_s
        rest = await reader.read()
        writer.close()
    close = rest.rindex(b"\x88")  # not index: a ping may hold that byte
    return open_s, int.from_bytes(rest[close + 2 : close + 4], "big")


@pytest.mark.parametrize(
    ("http", "data"),
    [
        (UPGRADE, frame(8, b"\x03\xe8")),
        (UPGRADE, frame(10) * 1_000),
        (UPGRADE, frame(1, b"\xff")),
        (UPGRADE.replace(b"Version: 13", b"Version: 9"), b""),
        (UPGRADE.replace(b"AAAA", b"?"), b""),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    ],
    ids=["close", "flood", "no UTF-8", "other version", "wrong key", "no key"],
)
def test_a_connection_that_ended_is_freed_without_the_garbage_collector(http: bytes, data: bytes) -> None:
    """Floods would fill the memory before it ran: over TLS each holds half a megabyte of buffers."""
    gc.disable()
    try:
        assert asyncio.run(asyncio.wait_for(connect_and_send(http, data), LIMIT_S))() is None
    finally:
        gc.enable()


async def connect_and_send(http: bytes, data: bytes) -> Callable[[], ServerConnection | None]:
    """Serve one client that sends these and reads to the end; return a weak reference to its connection."""
    loop, settings, ended = asyncio.get_running_loop(), GatewaySettings(anonymous=True), asyncio.Event()
    made: list[weakref.ref[ServerConnection]] = []
    factory = connection_factory(ConnectionLimiter(settings, loop.time), TrustedProxies(()), settings)

    def make(*arguments: Any, **options: Any) -> ServerConnection:
        connection: ServerConnection = factory(*arguments, **options)
        made.append(weakref.ref(connection, lambda _gone: ended.set()))
        return connection

    async def welcome(connection: ServerConnection) -> None:
        assert isinstance(connection, GatewayConnection)
        connection.writer = ClientSession(connection, SubscriberGroups(lambda _group: None), settings).writer
        with suppress(ConnectionClosed):
            await connection.recv()

    options: dict[str, Any] = {"create_connection": make, "compression": None}
    async with serve(welcome, "127.0.0.1", 0, **options) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(http)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await reader.read()
        writer.close()
        await ended.wait()
    return made[0]
