"""One run of one path: start it, wait for its subscribers, feed it, and collect what they received."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple, Protocol

from mt4pump.bench.feed import quote_records
from mt4pump.bench.peers import BareLoop, NaivePipeline
from mt4pump.bench.receiver import Received, Receiver
from mt4pump.daemon import Daemon
from mt4pump.pump.quotes import QuoteStream
from mt4pump.settings import Settings, load
from mt4pump.wire import Encoder
from mt4pump.wiring import Source

READY_LIMIT_S = 20.0
RUN_LIMIT_S = 300.0
POLL_S = 0.0005
PROBE_EVERY_S = 0.02


class Case(NamedTuple):
    """What to run: ``path`` (mt4pump, bare, naive), ``kind`` (quote, trade), ``rate`` per second.

    ``journal`` says whether the daemon has one.
    """

    path: str
    kind: str
    rate: float
    subscribers: int
    events: int
    journal: bool = True


class Outcome(NamedTuple):
    """``sent_per_second`` until the socket had the last message, and what the slowest subscriber received."""

    case: Case
    sent_per_second: float
    received: Received
    note: str = ""


class Feed(Protocol):
    """A source of records for a daemon: `FeedManager` here, a native library in the tests."""

    source: Source

    def feed(self, kind: str, count: int, rate: float) -> None:
        """Start feeding and return."""

    def note(self) -> str:
        """Return what the source measured itself."""


class Frames:
    """Keeps the frames that it is to send."""

    full = BlockingIOError

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send_frame(self, data: bytes, _flags: int = 0, /) -> None:
        """Keep a frame."""
        self.frames.append(data)

    def resend(self, topic: bytes, body: bytes) -> None:
        """Do nothing: this is never full."""


def run_case(case: Case, make_feed: Callable[[], Feed]) -> Outcome:
    """Run ``case`` and return its outcome; ``received.messages`` shows a subscriber that missed some."""
    if case.path == "bare":
        loop = BareLoop(*_quote_message(), 2 * case.events)
        return _run_peer(case, loop, lambda: loop.run(case.events, case.rate))
    if case.path == "naive":
        pipeline, record = NaivePipeline(2 * case.events), quote_records()[0]
        return _run_peer(case, pipeline, lambda: pipeline.run(case.events, case.rate, record))
    return _run_daemon(case, make_feed())


def bench_settings(folder: str, count: int, *, journal: bool = True) -> Settings:
    """Return the default settings, but for free ports and queues that hold every message."""
    port = "tcp://127.0.0.1:*"
    flags = {"source": "simulator", "pub_endpoint": port, "query_endpoint": port, "sndhwm": 2 * count + 100_000}
    return load({**flags, "journal": journal, "data_dir": folder, "heartbeat_interval_s": 0.1}, environ={}, config=None)


def _run_daemon(case: Case, feed: Feed) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(bench_settings(folder, case.events, journal=case.journal), feed.source)
        daemon.start()
        try:
            with _subscribers(daemon.endpoint, case, lambda: None) as receivers:  # the heartbeat is probe enough
                until(lambda: daemon.published("session") > 0, READY_LIMIT_S)
                before, began_s = daemon.published(case.kind), time.perf_counter()
                feed.feed(case.kind, case.events, case.rate)
                until(lambda: daemon.published(case.kind) >= before + case.events, RUN_LIMIT_S)
                seconds = time.perf_counter() - began_s
                slowest = _slowest(receivers)
        finally:
            daemon.stop()
    return Outcome(case, case.events / seconds, slowest, feed.note())


def _run_peer(case: Case, peer: BareLoop | NaivePipeline, run: Callable[[], float]) -> Outcome:
    with _subscribers(peer.endpoint, case, peer.probe) as receivers:
        seconds = run()
        slowest = _slowest(receivers)
    peer.close()
    return Outcome(case, case.events / seconds, slowest)


def _quote_message() -> tuple[bytes, bytes]:
    outlet = Frames()
    QuoteStream(Encoder(1), "cp1252", lambda _topic: True).publish(quote_records()[0], time.time_ns(), outlet)
    topic, body = outlet.frames
    return topic, body


@contextmanager
def _subscribers(endpoint: str, case: Case, probe: Callable[[], None]) -> Iterator[list[Receiver]]:
    """Start the subscriber processes; yield them once each has received a message of the publisher."""
    topic = f"{case.kind}.".encode()
    with ExitStack() as stack:
        receivers = [stack.enter_context(Receiver(endpoint, topic, case.events)) for _ in range(case.subscribers)]
        deadline_s = time.monotonic() + READY_LIMIT_S
        for receiver in receivers:
            while not receiver.ready(PROBE_EVERY_S):
                probe()
                if time.monotonic() > deadline_s:
                    raise TimeoutError("a subscriber process received nothing from the publisher")
        yield receivers


def _slowest(receivers: list[Receiver]) -> Received:
    """Return the result of the subscriber that received least, or latest."""
    return min((receiver.result() for receiver in receivers), key=lambda got: (got.messages, got.per_second))


def until(condition: Callable[[], bool], limit_s: float) -> None:
    """Return when ``condition`` holds; raises TimeoutError after ``limit_s``."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not done within {limit_s} s")
        time.sleep(POLL_S)
