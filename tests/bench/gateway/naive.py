"""The loop that one writes first: for every quote, ``gather(client.send(text) for client in clients)``.

With a rate it conflates as the gateway does, so that both send the same: the newest quote of every symbol, that many
times a second.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict
from contextlib import suppress
from typing import Any

import msgpack
import zmq
import zmq.asyncio
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

clients: dict[str, set[ServerConnection]] = defaultdict(set)


async def serve_client(client: ServerConnection) -> None:
    """Take subscriptions."""
    try:
        with suppress(ConnectionClosed):
            async for text in client:
                names = json.loads(text)["symbols"]
                for name in names:
                    clients[name].add(client)
                await client.send(json.dumps({"type": "subscription", "status": "success", "symbols": names}))
    finally:
        for found in clients.values():
            found.discard(client)


async def send(quote: dict[str, Any]) -> None:
    """Send one quote to everybody who wants it."""
    data = {name: quote[name] for name in ("symbol", "bid", "ask", "time")}
    data["spread"] = round((quote["ask"] - quote["bid"]) * 10_000, 1)
    text = json.dumps({"type": "quote", "data": data})
    await asyncio.gather(*(client.send(text) for client in clients[quote["symbol"]]), return_exceptions=True)


async def main(endpoint: str, per_s: float) -> None:
    """Read quotes for ever."""
    subscriber = zmq.asyncio.Context().socket(zmq.SUB)
    subscriber.connect(endpoint)
    subscriber.subscribe(b"quote.")
    newest: dict[str, dict[str, Any]] = {}

    async def tick() -> None:
        while True:
            await asyncio.sleep(1 / per_s)
            waiting = list(newest.values())
            newest.clear()
            for quote in waiting:
                await send(quote)

    async with serve(serve_client, "127.0.0.1", 0, compression=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        ticking = asyncio.create_task(tick()) if per_s else None
        while True:
            _topic, packed = await subscriber.recv_multipart()
            quote = msgpack.unpackb(packed)
            if ticking is None:
                await send(quote)
            else:
                newest[quote["symbol"]] = quote


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
