"""One run of one path: start it, wait for its subscribers, feed it, and collect what arrived."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple, Protocol

from mt4pump.bench.feed import FeedManager, quote_records
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
    """What to run: ``path`` (mt4pump, bare, naive), ``kind`` (quote, trade), ``rate`` per second, ``events``.

    ``journal`` tells whether the daemon has one.
    """

    path: str
    kind: str
    rate: float
    subscribers: int
    events: int
    journal: bool = True


class Outcome(NamedTuple):
    """``sent_per_second`` until the last was handed to the socket, and what the slowest subscriber received."""

    case: Case
    sent_per_second: float
    received: Received
    note: str = ""


class Fed(Protocol):
    """A source of records with a daemon around it, that can be told to feed."""

    source: Source

    def feed(self, kind: str, count: int, rate: float) -> None:
        """Start feeding and return."""

    def note(self) -> str:
        """Return what the source measured itself, if anything."""


class MemoryFeed:
    """`FeedManager` as a `Fed`: runs anywhere, calls back from a Python thread."""

    def __init__(self) -> None:
        self._manager = FeedManager()
        self.source = Source(lambda: self._manager, dict, _nothing, _nothing)

    def feed(self, kind: str, count: int, rate: float) -> None:
        """Start feeding and return."""
        self._manager.feed(kind, count, rate)

    def note(self) -> str:
        """Return nothing: the callback is timed only where it comes from native code."""
        return ""


def _nothing() -> None:
    """Start and stop nothing."""


class Frames:
    """Takes the frames of messages and keeps them."""

    full = BlockingIOError

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send_frame(self, data: bytes, _flags: int = 0, /) -> None:
        """Keep a frame."""
        self.frames.append(data)

    def resend(self, topic: bytes, body: bytes) -> None:
        """Never needed: this takes everything."""


def run_case(case: Case, make_feed: Callable[[], Fed]) -> Outcome:
    """Run ``case`` and return its outcome; subscribers that did not get everything show in ``received.messages``."""
    if case.path == "bare":
        return _run_bare(case)
    if case.path == "naive":
        return _run_naive(case)
    return _run_pipeline(case, make_feed())


def bench_settings(folder: str, count: int, *, journal: bool = True) -> Settings:
    """Return the settings of the daemon under test: default but for a free port and room for every message."""
    port = "tcp://127.0.0.1:*"
    flags = {"source": "simulator", "pub_endpoint": port, "query_endpoint": port, "sndhwm": 2 * count + 100_000}
    return load({**flags, "journal": journal, "data_dir": folder, "heartbeat_interval_s": 0.1}, environ={}, config=None)


def _run_pipeline(case: Case, feed: Fed) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(bench_settings(folder, case.events, journal=case.journal), feed.source)
        daemon.start()
        try:
            with _subscribers(daemon.endpoint, case, _no_probe) as receivers:
                until(lambda: daemon.published("session") > 0, READY_LIMIT_S)
                before, began_s = daemon.published(case.kind), time.perf_counter()
                feed.feed(case.kind, case.events, case.rate)
                until(lambda: daemon.published(case.kind) >= before + case.events, RUN_LIMIT_S)
                seconds = time.perf_counter() - began_s
                slowest = _slowest(receivers)
        finally:
            daemon.stop()
    return Outcome(case, case.events / seconds, slowest, feed.note())


def _run_bare(case: Case) -> Outcome:
    stream = QuoteStream(Encoder(1), "cp1252", lambda _topic: True)
    outlet = Frames()
    stream.publish(quote_records()[0], time.time_ns(), outlet)
    topic, body = outlet.frames
    loop = BareLoop(topic, body, 2 * case.events)
    with _subscribers(loop.endpoint, case, loop.probe) as receivers:
        seconds = loop.run(case.events, case.rate)
        slowest = _slowest(receivers)
    loop.close()
    return Outcome(case, case.events / seconds, slowest)


def _run_naive(case: Case) -> Outcome:
    pipeline = NaivePipeline(2 * case.events)
    with _subscribers(pipeline.endpoint, case, pipeline.probe) as receivers:
        seconds = pipeline.run(case.events, case.rate, quote_records()[0])
        slowest = _slowest(receivers)
    pipeline.close()
    return Outcome(case, case.events / seconds, slowest)


def _no_probe() -> None:
    """The daemon's heartbeat is probe enough."""


@contextmanager
def _subscribers(endpoint: str, case: Case, probe: Callable[[], None]) -> Iterator[list[Receiver]]:
    """Start the case's subscriber processes and go on once each of them hears the publisher."""
    topic = f"{case.kind}.".encode()
    with ExitStack() as stack:
        receivers = [stack.enter_context(Receiver(endpoint, topic, case.events)) for _ in range(case.subscribers)]
        deadline_s = time.monotonic() + READY_LIMIT_S
        for receiver in receivers:
            while not receiver.ready(PROBE_EVERY_S):
                probe()
                if time.monotonic() > deadline_s:
                    raise TimeoutError("a subscriber process never heard the publisher")
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
