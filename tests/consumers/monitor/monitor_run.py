"""The daemon, the monitor and a webhook as tests need them: each on a free port, every wait with an end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import msgpack
from mt4pump_consumers.monitor.execution import EXECUTIONS, Execution, execution_of
from mt4pump_consumers.monitor.rules import RuleEngine, RuleMemory, load_rules
from mt4pump_consumers.monitor.store import MonitorStore

from mt4pump.client import Margin, Query, Trade
from mt4pump.client.event import HEALED, LIVE, SNAPSHOT, TopicName
from tests.programs import Program, program

LIMIT_S = 60.0
NS = 1_000_000_000
CAME = {"live": LIVE, "healed": HEALED, "snapshot": SNAPSHOT}


def until(is_so: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait until something is so; fail with ``what`` when it never is."""
    deadline_s = time.monotonic() + limit_s
    pause = Event()
    while not is_so():
        assert time.monotonic() < deadline_s, what
        pause.wait(0.02)


# ---- events ----


def trade(seq: int = 1, *, login: int = 1001, came: str = "live", offset: int | None = None, **fields: Any) -> Trade:
    """Return a trade event: by default 1.00 lots of EURUSD bought."""
    body: dict[str, Any] = {"epoch": 1, "seq": seq, "ts": seq * NS, "login": login, "order": 7, "symbol": "EURUSD"}
    body |= {"digits": 5, "cmd": 0, "volume": 100, "open_time": 1000, "open_price": 1.1, "close_time": 0}
    body |= {"close_price": 1.1, "sl": 0.0, "tp": 0.0, "profit": 0.0, "storage": 0.0, "commission": 0.0, "taxes": 0.0}
    body |= {"magic": 0, "comment": "", "reason": 0, "state": 0, "timestamp": 1000 + seq, "change": "opened"}
    body |= {"action": "add", **fields}
    if offset is not None:
        body["offset"] = offset
    topic = f"trade.{login}"
    return Trade(TopicName(topic), body, (topic.encode(), msgpack.packb(body)), CAME[came])


def execution(seq: int = 1, **fields: Any) -> Execution:
    """Return the execution of `trade`."""
    return execution_of(trade(seq, **fields))


def margin(
    seq: int = 1, *, login: int = 1001, level_type: int = 1, action: str | None = "add", came: str = "live"
) -> Margin:
    """Return a margin event."""
    body = {"epoch": 1, "seq": seq, "ts": seq * NS, "login": login, "group": "g", "leverage": 100, "balance": 100.0}
    body |= {"equity": 50.0, "volume": 100, "margin": 60.0, "margin_free": -10.0, "margin_level": 83.3}
    body |= {"margin_type": 0, "level_type": level_type}
    if action:
        body["action"] = action
    topic = f"margin.{login}"
    return Margin(TopicName(topic), body, (topic.encode(), msgpack.packb(body)), CAME[came])


# ---- programs ----


class Daemon:
    """``pub`` and ``query`` are where it is."""

    def __init__(self, started: Program) -> None:
        self.program = started
        self.pub = started.endpoint()
        self.query = started.endpoint("queries are answered on ")
        started.line("session pumping")

    def last_offset(self) -> int:
        """Return the offset of its last durable event."""
        with Query(self.query) as query:
            offset: int = query.describe()["offset"]
            return offset


@contextmanager
def daemon(
    folder: Path, *flags: str, pub: str = "tcp://127.0.0.1:0", query: str = "tcp://127.0.0.1:0"
) -> Iterator[Daemon]:
    """Run a daemon with the simulator; its journal is in ``folder``."""
    command = [sys.executable, "-m", "mt4pump", "run", "--source", "simulator", "--data-dir", str(folder)]
    command += ["--pub-endpoint", pub, "--query-endpoint", query, "--log-format", "json", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder.parent)
    with program(process) as made:
        yield Daemon(made)


@contextmanager
def monitor(*flags: str | Path, cwd: Path) -> Iterator[Program]:
    """Run the monitor; what it prints and logs are its lines."""
    command = [sys.executable, "-m", "mt4pump_consumers.monitor", *(str(flag) for flag in flags)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd)
    with program(process) as made:
        yield made


def end(of: Program) -> None:
    """Ask a program to end, and check that it does so cleanly."""
    of.process.terminate()
    assert of.end() == 0, of.text


# ---- a webhook ----


class Receiver:
    """A web server that takes alerts. ``answers`` are the next codes to answer with; then 200."""

    def __init__(self) -> None:
        self.ids: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[int] = []
        self.answer_of: Callable[[str], int] = lambda _id: 200
        self._lock = Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else each answer waits for the delayed ACK of its head

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                code = receiver.take(dict(self.headers), body)
                self.send_response(code)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_args: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_args: object) -> None:
                """A sender that was killed in the midst of a request is what the tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook/SECRET"

    def take(self, headers: dict[str, str], body: dict[str, Any]) -> int:
        """Take one request; return the code to answer with."""
        with self._lock:
            name = headers["Idempotency-Key"]
            code = self.answers.pop(0) if self.answers else self.answer_of(name)
            if code == 200:
                self.ids[name] += 1
                self.bodies.append(body)
                self.headers.append(headers)
            return code

    def close(self) -> None:
        """Close the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Run a webhook."""
    made = Receiver()
    try:
        yield made
    finally:
        made.close()


# ---- the truth, from the daemon's journal ----


class Truth:
    """What a monitor at ``position`` must have: ``executions`` by (epoch, topic, seq), ``alerts`` by id."""

    def __init__(self, query_endpoint: str, position: dict[str, Any], rules: Path) -> None:
        self.executions: dict[tuple[int, str, int], Execution] = {}
        engine = RuleEngine(load_rules(rules), RuleMemory())
        ahead, confirmed = position["ahead"], position["confirmed"]
        with Query(query_endpoint) as query:
            replay = query.replay(["trade.*", "margin.*"], after=0)
            for event in replay:
                assert event.offset is not None
                if event.offset > max(confirmed, ahead.get(event.topic, 0)):
                    continue
                if isinstance(event, Trade):
                    done = execution_of(event)
                    engine.trade(done)
                    if done.change in EXECUTIONS:
                        self.executions[done.epoch, done.topic, done.seq] = done
                elif isinstance(event, Margin):
                    engine.margin(event)
            assert replay.whole
        self.alerts = {alert.id: alert for alert in engine.alerts}
        assert len(self.alerts) == len(engine.alerts)


def kept(store: Path) -> tuple[list[Execution], dict[str, Any]]:
    """Return the executions in a store and its position."""
    opened = MonitorStore(store, webhook=False, backlog=1)
    try:
        position = opened.position()
        assert position is not None
        return [done for _, done in opened.executions_after(0, 10**9)], position
    finally:
        opened.close()
