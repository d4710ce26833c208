"""Waiting for one message among many."""

from __future__ import annotations

import time
from collections.abc import Callable

import zmq

from tests.bus import Message, decode_frames

LIMIT_S = 60.0


def received(reader: zmq.Socket[bytes], wanted: Callable[[Message], object]) -> Message:
    """Return the next message that is ``wanted``; fail when none comes in time."""
    deadline_s = time.monotonic() + LIMIT_S
    while (left_s := deadline_s - time.monotonic()) > 0:
        if reader.poll(int(left_s * 1000)):
            topic, body = decode_frames(reader.recv_multipart())
            message = Message(topic.decode(), body)
            if wanted(message):
                return message
    raise AssertionError("the message never came")
