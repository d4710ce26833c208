"""A subscriber in Python without our SDK: pip install pyzmq msgpack; python subscriber.py [EVENTS [QUERY [PREFIX ...]]]."""
# ruff: noqa: D101, D102, D103, D107, INP001, T201 - a script that prints

import json
import sys
from typing import Any

import msgpack
import zmq

decode = msgpack.unpackb


class Reader:
    def __init__(self, query: str, prefixes: tuple[str, ...]) -> None:
        self.query, self.prefixes = query, prefixes
        self.epoch = self.joined = 0  # of the stream; of the snapshot
        self.seqs: dict[str, int] = {}  # last number by topic

    def take(self, topic: str, body: dict[str, Any]) -> None:
        if body["epoch"] != self.epoch:
            print("# epoch", body["epoch"])
            self.epoch, self.seqs = body["epoch"], {}
        seq, before = body["seq"], self.seqs.get(topic, 0)
        if seq <= before:
            return print("# known", topic, seq)  # sent twice, or in the snapshot already
        if seq > before + 1 and (before or self.joined == self.epoch):
            print("# gap", topic, seq - before - 1)
        self.seqs[topic] = seq
        print(topic, json.dumps(body))
        if topic.startswith("heartbeat") and self.joined != self.epoch:
            self.snapshot()  # all subscriptions work now; again after a restart of the daemon
        return None

    def snapshot(self) -> None:
        rows, cursor = 0, None
        with zmq.Context.instance().socket(zmq.REQ, rcvtimeo=5_000, linger=0) as socket:
            socket.connect(self.query)
            while True:
                socket.send(msgpack.packb({"op": "snapshot", "topics": self.prefixes, "cursor": cursor}))
                head, *frames = [decode(b"\xc0")] if not socket.poll(5_000) else socket.recv_multipart()
