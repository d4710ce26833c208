"""A subscriber in Python without our SDK: pip install pyzmq msgpack.

python subscriber.py [EVENTS [QUERY [PREFIX ...]]]   python subscriber.py --vectors   (bodies in hex in, JSON out)
"""
# ruff: noqa: INP001, T201 - a script that prints

from __future__ import annotations

import json
import math
import sys
from typing import Any

import msgpack
import zmq


def plain(value: Any) -> Any:
    """Return ``value`` as JSON can write it: it has no NaN and no infinity."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    return value


def say(*words: object) -> None:
    """Print one line at once."""
    print(*words, flush=True)


class Reader:
    """Numbers of each topic, and what they prove (PROTOCOL.md, section 8)."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], query: str, prefixes: list[str]) -> None:
        self.context, self.query, self.prefixes = context, query, prefixes
        self.epoch = self.joined = 0  # of the stream; of the snapshot
        self.seqs: dict[str, int] = {}

    def take(self, topic: str, body: dict[str, Any]) -> None:
        """Check the number of an event, and print it if it is new."""
        if body["epoch"] != self.epoch:
            say("# epoch", body["epoch"])
            self.epoch, self.seqs = body["epoch"], {}
        seq, before = body["seq"], self.seqs.get(topic, 0)
        if seq <= before:
            return say("# known", topic, seq)  # sent twice, or in the snapshot already
        if seq > before + 1 and (before or self.joined == self.epoch):
            say("# gap", topic, seq - before - 1)
        self.seqs[topic] = seq
        say(topic, json.dumps(plain(body)))
        if topic.startswith("heartbeat") and self.joined != self.epoch:
            self.snapshot()  # all subscriptions work now; again after a restart of the daemon
        return None

    def snapshot(self) -> None:
        """Print the present state, and know from it the last number of every topic."""
        rows, cursor, socket = 0, None, self.context.socket(zmq.REQ)
        socket.setsockopt(zmq.RCVTIMEO, 5_000)
        socket.connect(self.query)
        try:
            while True:
                socket.send(msgpack.packb({"op": "snapshot", "topics": self.prefixes, "cursor": cursor}))
                packed, *frames = socket.recv_multipart()
                head = msgpack.unpackb(packed)
                if not head["ok"] or head["epoch"] != self.epoch:
                    return say("# no snapshot", head.get("error", "of another epoch"))
                for topic, body in zip(frames[::2], frames[1::2], strict=True):
                    say(topic.decode(), json.dumps(plain(msgpack.unpackb(body))))
                self.seqs |= head["seqs"]
                rows, cursor = rows + len(frames) // 2, head["cursor"]
                if cursor is None:
                    self.joined = self.epoch
                    return say("# snapshot", rows)
        except zmq.Again:  # the next heartbeat asks again
            return say("# no snapshot", "no answer")
        finally:
            socket.close(linger=0)


def main(events: str = "tcp://127.0.0.1:5556", query: str = "tcp://127.0.0.1:5557", *prefixes: str) -> None:
    """Read for ever."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket, reader = context.socket(zmq.SUB), Reader(context, query, list(prefixes))
    socket.setsockopt(zmq.RCVTIMEO, 3_000)
    socket.connect(events)
    for prefix in (*(prefixes or ("",)), "heartbeat"):  # the heartbeat last: when it comes, all work
        socket.subscribe(prefix)
    while True:
        try:
            topic, body, *_ = socket.recv_multipart()
            reader.take(topic.decode(), msgpack.unpackb(body))
        except zmq.Again:
            say("# silence 3 s")


if __name__ == "__main__":
    if sys.argv[1:] == ["--vectors"]:
        for line in sys.stdin:
            say(json.dumps(plain(msgpack.unpackb(bytes.fromhex(line)))))
    else:
        main(*sys.argv[1:])
