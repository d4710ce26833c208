"""Python without our SDK: python -u subscriber.py [EVENTS [QUERY [PREFIX ...]]]; libraries: see README.md."""
# ruff: noqa: D101, D102, D103, INP001, RET503, T201 - a script that prints

import json
import os
import sys
import tomllib
from pathlib import Path

import msgpack
import zmq

decode = msgpack.unpackb


def connected(kind: int, endpoint: str) -> zmq.Socket:
    socket = zmq.Context.instance().socket(kind)
    if path := os.environ.get("MT4PUMP_KEYS"):  # NAME.client, as mt4pump keygen client writes it
        keys = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        socket.curve_serverkey = keys["server_key"].encode()
        socket.curve_publickey, socket.curve_secretkey = keys["public_key"].encode(), keys["secret_key"].encode()
    socket.connect(endpoint)
    return socket


class Reader:
    def __init__(self, query: str, prefixes: tuple[str, ...]) -> None:
        self.query, self.prefixes = query, prefixes
        self.epoch, self.joined, self.seqs = 0, 0, {}  # of the stream, of the snapshot; last number by topic

    def receive(self, topic: str, body: dict) -> None:
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
            self.snapshot()  # all subscriptions are active; again after a restart of the daemon

    def snapshot(self) -> None:
        rows, cursor = 0, None
        with connected(zmq.REQ, self.query) as socket:
            socket.linger = 0
            while self.joined != self.epoch:
                socket.send(msgpack.packb({"op": "snapshot", "topics": self.prefixes, "cursor": cursor}))
                if not socket.poll(5_000):
                    return print("# no snapshot: no answer")  # the next heartbeat asks again
                head, *frames = socket.recv_multipart()
                reply = decode(head)
                if not reply["ok"] or reply["epoch"] != self.epoch:
                    return print("# no snapshot:", reply.get("error", "of another epoch"))
                for topic, body in zip(frames[::2], frames[1::2], strict=True):
                    print(topic.decode(), json.dumps(decode(body)))
                self.seqs |= reply["seqs"]
                rows, cursor = rows + len(frames) // 2, reply["cursor"]
                self.joined = self.epoch if cursor is None else 0
        print("# snapshot", rows)


def main(events: str = "tcp://127.0.0.1:5556", query: str = "tcp://127.0.0.1:5557", *prefixes: str) -> None:
    reader, socket = Reader(query, prefixes), connected(zmq.SUB, events)
    for prefix in (*(prefixes or ("",)), "heartbeat"):  # the heartbeat last: when it arrives, all are active
        socket.subscribe(prefix)
    while True:
        while not socket.poll(3_000):
            print("# silence 3 s")
        topic, body = socket.recv_multipart()
        reader.receive(topic.decode(), decode(body))


if __name__ == "__main__":
    main(*sys.argv[1:])
