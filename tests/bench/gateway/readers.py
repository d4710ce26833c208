"""Many clients in one process that only count: raw sockets, no parsing. ``PORT CLIENTS SYMBOLS WINDOW_S``.

It prints ``ready`` when all have subscribed, then, for every line on its input, how many quotes have come.
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import socket
import sys

from tests.bench.gateway.feeder import symbols

MARK = b'"bid"'
"""Stands once in every quote, batched or not."""


def masked(text: bytes) -> bytes:
    """Return a client's text frame (masked with zeros)."""
    size = len(text)
    head = bytes([0x81, 0x80 | size]) if size < 126 else bytes([0x81, 0xFE]) + size.to_bytes(2, "big")
    return head + bytes(4) + text


def connect(port: int, messages: list[bytes]) -> socket.socket:
    """Return a WebSocket that has sent ``messages`` and had an answer to each."""
    link = socket.create_connection(("127.0.0.1", port), 30)
    key = base64.b64encode(os.urandom(16)).decode()
    link.sendall(
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    for awaited, message in zip([b"\r\n\r\n", *[b'"status"'] * len(messages)], [*messages, b""], strict=True):
        data = b""
        while awaited not in data:
            part = link.recv(65536)
            if not part:
                raise ConnectionError(f"the server ended the connection after {data!r}")
            data += part
        if message:
            link.sendall(message)
    link.setblocking(False)  # noqa: FBT003 - so it is called
    return link


def run(port: int, clients: int, symbol_count: int, window_s: float) -> None:
    """Connect all and count."""
    messages: list[dict[str, object]] = [{"action": "subscribe", "symbols": symbols(symbol_count)}]
    if window_s:
        messages.insert(0, {"action": "batch", "window_s": window_s})
    frames = [masked(json.dumps(message).encode()) for message in messages]
    selector = selectors.DefaultSelector()
    for _ in range(clients):
        link = connect(port, frames)
        selector.register(link, selectors.EVENT_READ, [b""])
    selector.register(sys.stdin, selectors.EVENT_READ, None)
    print("ready", flush=True)
    count, keep = 0, len(MARK) - 1
    while True:
        for key, _ in selector.select():
            if key.data is None:
                if not sys.stdin.readline():
                    return
                print(count, flush=True)
                continue
            data = key.fileobj.recv(262_144)  # type: ignore[union-attr]
            if not data:
                raise ConnectionError("the server ended a connection")
            data = key.data[0] + data
            count += data.count(MARK)
            key.data[0] = data[-keep:]


if __name__ == "__main__":
    run(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
