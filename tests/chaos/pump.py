"""``python -m tests.chaos.pump JSON``: a daemon on the simulator, with faults on command, one per line of stdin.

``drop 0.5``, ``skip 5``, ``null 3``, ``mute``, ``burst 100`` are the simulator's; ``storm N`` sends STOP_PUMPING;
``calm`` stops the market and answers once the daemon's state is the simulator's, or never became so; ``stop`` ends
cleanly. Each answer is one JSON line.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from threading import Thread
from typing import Any

import msgpack
import zmq

from mt4pump.daemon import Daemon
from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import MARGIN_LEVEL, ONLINE_RECORD, TRADE_RECORD, USER_RECORD
from mt4pump.mt4.record import Decoder
from mt4pump.publisher import binding, publisher
from mt4pump.pump.lifecycle import COMPUTED_LOCALLY
from mt4pump.pump.snapshot import SnapshotRequest
from mt4pump.session_source import source_of
from mt4pump.settings import Settings, load
from mt4pump.simulator.server import Simulator

SMALL_BUFFER_BYTES = 8_192
CALM_S = 30.0
PAUSE_S = 0.1
CRASHED = 3

log = logging.getLogger(__name__)
STORM_DROPS = 5
TABLES = {
    "trade": ("trades", TRADE_RECORD, "order"),
    "user": ("users", USER_RECORD, "login"),
    "online": ("online", ONLINE_RECORD, "login"),
}


def small_buffers() -> None:
    """Have the publisher's sockets buffer little in the system, which would hide a tiny high-water mark."""
    apply = binding.apply

    def applied(socket: zmq.Socket[bytes], settings: Settings) -> None:
        apply(socket, settings)
        socket.setsockopt(zmq.SNDBUF, SMALL_BUFFER_BYTES)

    publisher.__dict__["apply"] = applied


class RunningDaemon:
    """The daemon and the simulator that it receives from."""

    def __init__(self, flags: dict[str, Any]) -> None:
        settings = load(flags, environ={}, config=None)
        source = source_of(settings)
        simulator = getattr(source.factory, "__self__", None)  # the factory is its method
        assert isinstance(simulator, Simulator)
        self.simulator = simulator
        self.daemon = Daemon(settings, source)

    def differences(self) -> list[str] | None:
        """Return what is in one of daemon and simulator only; None when the daemon did not answer in time."""
        with self.simulator.registry.lock:  # nothing changes meanwhile
            request = SnapshotRequest((b"",))
            self.daemon.request_snapshot(request)
            snapshot = request.wait(2.0)
            if snapshot is None:
                request.cancel()
                return None
            rows: dict[str, dict[int, Any]] = {}
            for topic, packed in snapshot.rows:
                kind = topic.partition(b".")[0].decode()
                if kind not in TABLES and kind != "margin":
                    continue
                fields = msgpack.unpackb(packed) if isinstance(packed, bytes) else packed
                rows.setdefault(kind, {})[fields["order" if kind == "trade" else "login"]] = fields
            broker = self.simulator.broker
            found = []
            for kind, (name, record, key) in TABLES.items():
                theirs = {row[key]: row for row in Decoder(record, "cp1252").many(broker.tables[name]())}
                found += compared(kind, theirs, rows.get(kind, {}))
            levels = Decoder(MARGIN_LEVEL, "cp1252").many(broker.tables["margins"]())
            theirs = {row["login"]: {"level_type": row["level_type"]} for row in levels if row["level_type"]}
            found += compared("margin", theirs, rows.get("margin", {}))
        return found

    def calm(self) -> dict[str, Any]:
        """Stop the market; return what differs when it differed all the time."""
        self.simulator.feed.advance = lambda *_: 0  # type: ignore[method-assign]
        self.simulator.feed.wait_s = lambda *_: math.inf  # type: ignore[method-assign]  # or its thread never sleeps
        deadline_s = time.monotonic() + CALM_S
        found: list[str] | None = None
        while time.monotonic() < deadline_s:
            found = self.differences()
            if found == []:
                break
            time.sleep(PAUSE_S)
        rows = {name: len(self.simulator.broker.tables[name]()) for name in ("trades", "users")}
        return {"differences": ["no snapshot was made"] if found is None else found[:20], "bytes": rows}

    def storm(self, count: int) -> None:
        """Send STOP_PUMPING again and again, as a session that ends may, and lose the next ones."""
        for _ in range(count):
            self.daemon.inbox.notify(PumpCode.STOP_PUMPING, 0, b"")
        for _ in range(STORM_DROPS):
            self.simulator.inject("drop", 0)
            time.sleep(PAUSE_S)
            self.daemon.inbox.notify(PumpCode.STOP_PUMPING, 0, b"")


def compared(kind: str, theirs: dict[int, Any], ours: dict[int, Any]) -> list[str]:
    """Return the differences of two tables; fields that move with every tick, or are not published, do not count."""
    found = [f"{kind} {key}: not in the daemon" for key in theirs.keys() - ours.keys()]
    found += [f"{kind} {key}: not in the simulator" for key in ours.keys() - theirs.keys()]
    for key in theirs.keys() & ours.keys():
        names = (theirs[key].keys() & ours[key].keys()) - COMPUTED_LOCALLY
        unlike = {name: (theirs[key][name], ours[key][name]) for name in names if theirs[key][name] != ours[key][name]}
        if unlike:
            found.append(f"{kind} {key}: {unlike}")
    return found


def reply(**answer: Any) -> None:
    """Answer one line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def exit_on_crash(daemon: Daemon) -> None:
    """End the process when a thread of the daemon crashed, as `mt4pump run` does."""
    while daemon.crash is None:
        time.sleep(PAUSE_S)
    log.error("a thread of the daemon crashed: %r", daemon.crash)
    os._exit(CRASHED)


def main(text: str) -> int:
    """Run until ``stop`` or the end of stdin."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    small_buffers()
    running = RunningDaemon(json.loads(text))
    running.daemon.start()
    Thread(target=exit_on_crash, args=(running.daemon,), daemon=True).start()
    reply(epoch=running.daemon.epoch, endpoint=running.daemon.endpoint, query_endpoint=running.daemon.query_endpoint)
    for line in sys.stdin:
        command, *amount = line.split()
        if command == "stop":
            break
        if command == "calm":
            reply(**running.calm())
        elif command == "storm":
            running.storm(int(amount[0]))
        else:
            running.simulator.inject(command, float(amount[0]) if amount else None)
    clean = running.daemon.stop()
    reply(clean=clean, crash=repr(running.daemon.crash))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
