"""``python -m tests.collector ENDPOINT TOPIC COUNT``: a plain pyzmq SUB in a process of its own.

Imports nothing of ours. Prints ``ready`` when it receives from the daemon, then one JSON line per message until COUNT
came.
"""

from __future__ import annotations

import json
import sys

import msgpack
import zmq

SILENCE_MS = 30_000


def main(endpoint: str, prefix: str, count: int) -> int:
    """Collect; return 0 when all came."""
    socket = zmq.Context().socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.RCVTIMEO, SILENCE_MS)
    socket.connect(endpoint)
    socket.subscribe(prefix)
    socket.subscribe("heartbeat")
    topic, _ = socket.recv_multipart()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    got = 0
    while got < count:
        topic, body = socket.recv_multipart()
        if topic != b"heartbeat":
            sys.stdout.write(json.dumps([topic.decode(), msgpack.unpackb(body)]) + "\n")
            got += 1
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
