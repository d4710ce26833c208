"""A publisher in a process of its own, whose memory shows what stalled subscribers cost. Run by `test_slow_readers`."""

from __future__ import annotations

import sys
import time

import psutil
import zmq

from mt4pump.publisher.publisher import Publisher
from tests.bus import wire_settings

SEND_BUFFER_BYTES = 4_096
"""Small, so that the messages wait in this process, where they are measured, and not in the system's buffers."""


def say(*arguments: object) -> None:
    """Print one line for the test."""
    sys.stdout.write(" ".join(map(str, arguments)) + "\n")
    sys.stdout.flush()


def main(subscribers: int, sndhwm: int, body_bytes: int, messages: int) -> None:
    """Print the endpoint; once all subscribed, print the growth of this process after so many messages, in bytes."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.setsockopt(zmq.SNDBUF, SEND_BUFFER_BYTES)  # of every socket that it makes
    publisher = Publisher(context, wire_settings(sndhwm=sndhwm))
    say(publisher.endpoint)
    deadline_s = time.monotonic() + 90
    while publisher.subscriptions.total.count <= subscribers:  # one each, and the last one's second
        publisher.read_subscriptions()
        assert time.monotonic() < deadline_s, "not all subscribed"
    process = psutil.Process()
    before = process.memory_info().rss
    for number in range(messages):
        publisher.send(b"quote.A", b"%08d" % number + b"x" * (body_bytes - 8))
        if not number % 100:
            publisher.read_subscriptions()
    say(process.memory_info().rss - before, publisher.slow.messages)
    sys.stdin.read()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
