"""Python without our SDK: pip install pyzmq msgpack; python -u subscriber.py [EVENTS [QUERY [PREFIX ...]]]."""
# ruff: noqa: D101, D102, D103, INP001, RET503, T201 - a script that prints

import json
import sys

import msgpack
import zmq

decode = msgpack.unpackb


class Reader:
    def __init__(self, query: str, prefixes: tuple[str, ...]) -> None:
        self.query, self.prefixes = query, prefixes
        self.epoch, self.joined, self.seqs = 0, 0, {}  # of the stream, of the snapshot; last number by topic

    def take(self, topic: str, body: dict) -> None:
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

    def snapshot(self) -> None:
        rows, cursor = 0, None
        with zmq.Context.instance().socket(zmq.REQ) as socket, socket.connect(self.query):
            socket.linger = 0
            while self.joined != self.epoch:
                socket.send(msgpack.packb({"op": "snapshot", "topics": self.prefixes, "cursor": cursor}))
                if not socket.poll(5_000):
                    return print("# no snapshot: no answer")  # the next heartbeat asks again
                head, *frames = socket.recv_multipart()
                told = decode(head)
                if not told["ok"] or told["epoch"] != self.epoch:
                    return print("# no snapshot:", told.get("error", "of another epoch"))
                for topic, body in zip(frames[::2], frames[1::2], strict=True):
                    print(topic.decode(), json.dumps(decode(body)))
                self.seqs |= told["seqs"]
                rows, cursor = rows + len(frames) // 2, told["cursor"]
                self.joined = self.epoch if cursor is None else 0
        print("# snapshot", rows)


def main(events: str = "tcp://127.0.0.1:5556", query: str = "tcp://127.0.0.1:5557", *prefixes: str) -> None:
    reader, socket = Reader(query, prefixes), zmq.Context.instance().socket(zmq.SUB)
    socket.connect(events)
    for prefix in (*(prefixes or ("",)), "heartbeat"):  # the heartbeat last: when it comes, all work
        socket.subscribe(prefix)
    while True:
        while not socket.poll(3_000):
            print("# silence 3 s")
        topic, body = socket.recv_multipart()
        reader.take(topic.decode(), decode(body))


if __name__ == "__main__":
    main(*sys.argv[1:])
