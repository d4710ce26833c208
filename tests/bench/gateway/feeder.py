"""Makes quotes at an even pace: on ZeroMQ as mt4pump publishes them, or as JSON lines for a peer without ZeroMQ."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import msgpack
import zmq

PAUSE_S = 0.002
HEARTBEAT_S = 0.5


def symbols(count: int) -> list[str]:
    """Return names as long as real ones."""
    return [f"SYM{number:03d}" for number in range(count)]


def body(symbol: str, seq: int, epoch: int) -> dict[str, object]:
    """Return the body of one quote."""
    bid = 1.1 + (seq % 1000) * 0.00001
    prices = {"bid": round(bid, 5), "ask": round(bid + 0.00012, 5), "spread": 12}
    rest = {"time": 1_577_916_000 + seq // 10, "digits": 5, "high": 1.2, "low": 1.0, "direction": seq % 2}
    return {"symbol": symbol, **prices, **rest, "epoch": epoch, "seq": seq, "ts": time.time_ns()}


def heartbeat(seq: int, epoch: int) -> dict[str, object]:
    """Return the smallest heartbeat that a subscriber accepts."""
    facts = {
        "state": "pumping",
        "server": "bench",
        "version": "0",
        "protocol": 1,
        "log": None,
        "offset": 0,
        "offsets": {},
    }
    slow = {
        "slow_readers": {"messages": 0, "moments": 0},
        "interval_s": HEARTBEAT_S,
        "durable": False,
        "last_quote_ts": 0,
    }
    return {**facts, **slow, "epoch": epoch, "seq": seq, "ts": time.time_ns()}


class Answers:
    """Answers queries as a daemon without a journal would.

    A subscriber holds what it receives until its first snapshot is there: without an answer it would release seconds of
    quotes at once, in the midst of the measurement.
    """

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._router: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        self._router.bind("tcp://127.0.0.1:*")
        self.endpoint: str = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
        self.seqs: dict[str, int] = {}

    def give(self) -> None:
        """Answer what was asked meanwhile."""
        while self._router.poll(0):
            *envelope, payload = self._router.recv_multipart()
            request = msgpack.unpackb(payload)
            head = {"ok": True, "id": request.get("id"), "epoch": self._epoch, "log": None, "offset": 0, "offsets": {}}
            if request["op"] == "snapshot":
                head |= {"ts": time.time_ns(), "seqs": self.seqs, "cursor": None}
            elif request["op"] == "describe":
                head |= {"protocol": 1, "version": "0", "topic_suffix": "", "kinds": {"quote": {"durable": False}}}
            else:
                head = {"ok": False, "id": request.get("id"), "code": "no_journal", "error": "a benchmark has none"}
            self._router.send_multipart([*envelope, msgpack.packb(head)])


def paced(
    names: list[str],
    rate: float,
    send: Callable[[str, int], None],
    send_heartbeat: Callable[[int], None],
    answer: Callable[[], None],
) -> None:
    """Send one quote of each symbol after the other, ``rate`` per second and symbol, for ever."""
    total, began_s, sent, heartbeats = rate * len(names), time.perf_counter(), 0, 0
    while True:
        now_s = time.perf_counter() - began_s
        if now_s >= heartbeats * HEARTBEAT_S:
            heartbeats += 1
            send_heartbeat(heartbeats)
        due = int(now_s * total)
        while sent < due:
            send(names[sent % len(names)], sent // len(names) + 1)
            sent += 1
        answer()
        time.sleep(PAUSE_S)


def over_zmq(count: int, rate: float) -> None:
    """Publish on a free port and answer on another; both are printed."""
    publisher: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
    publisher.bind("tcp://127.0.0.1:*")
    epoch, pack = int(time.time() * 1000), msgpack.Packer().pack
    answers = Answers(epoch)
    print(publisher.getsockopt_string(zmq.LAST_ENDPOINT), answers.endpoint, flush=True)

    def send(symbol: str, seq: int) -> None:
        publisher.send(f"quote.{symbol}".encode(), zmq.SNDMORE)
        publisher.send(pack(body(symbol, seq, epoch)))
        answers.seqs[f"quote.{symbol}"] = seq

    def send_heartbeat(seq: int) -> None:
        publisher.send_multipart([b"heartbeat", pack(heartbeat(seq, epoch))])

    paced(symbols(count), rate, send, send_heartbeat, answers.give)


def over_tcp(count: int, rate: float) -> None:
    """Send JSON lines to the first who connects to a free port, which is printed."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    peer, _ = listener.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(symbol: str, seq: int) -> None:
        peer.sendall(json.dumps(body(symbol, seq, 1)).encode() + b"\n")

    with suppress(ConnectionError):  # the peer has ended: so has the measurement
        paced(symbols(count), rate, send, lambda _seq: None, lambda: None)


if __name__ == "__main__":
    {"zmq": over_zmq, "tcp": over_tcp}[sys.argv[1]](int(sys.argv[2]), float(sys.argv[3]))
