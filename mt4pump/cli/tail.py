"""``mt4pump tail``: what is published, live."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

import zmq
from rich.console import Console

from mt4pump.cli.alerts import totals
from mt4pump.cli.arguments import add_keys_flag, count, endpoint_of, keys_in, seconds
from mt4pump.cli.stats import StreamStats
from mt4pump.cli.topic_filter import HEARTBEAT_TOPIC, TopicFilter
from mt4pump.cli.views import Screen, View, line_view
from mt4pump.client import ClientKeys
from mt4pump.client.query_connection import Context
from mt4pump.client.sub_connection import SubConnection
from mt4pump.errors import SettingsError
from mt4pump.log import one_line
from mt4pump.process.signals import asked_to_end

POLL_MS = 200
"""Longest wait for a message: on Windows Ctrl-C is seen only between two waits."""
BATCH = 1_000
"""Messages taken before the view is brought up to date."""
RECEIVE_LIMIT = 100_000
"""Messages that may wait in our socket; a reader slower than that sees gaps."""
EXAMPLES = """\
TOPIC is a topic as it is (quote.EURUSD, trade.1001: that one alone), the beginning of topics up to a dot (quote.), or a
pattern in quotes ('trade.*', 'quote.EUR*'). Without any: everything.

  mt4pump tail                                    a live screen; lines when the output is no terminal
  mt4pump tail 'quote.EURUSD' --json              one JSON object per line
  mt4pump tail 'trade.*' --json --count 10        ten trades, then end
Notes (gaps, silence, the daemon's state) and the closing summary go to standard error."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add topics and flags."""
    parser.epilog = EXAMPLES
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help="what to show; all if none is given")
    parser.add_argument(
        "--endpoint", help="address that the daemon publishes on [its pub_endpoint, as MT4PUMP_PUB_ENDPOINT has it]"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help='one JSON object per event: {"topic": …, "body": {…}}; NaN and infinity become null',
    )
    parser.add_argument("--count", type=count, metavar="N", help="end after N events; code 1 if --for comes first")
    parser.add_argument("--for", type=seconds, metavar="SECONDS", dest="for_s", help="end after so many seconds")
    add_keys_flag(parser)
    parser.add_argument("--no-heartbeat", action="store_true", help="do not show heartbeats as events")


def command(args: argparse.Namespace) -> int:
    """Listen until Ctrl-C, ``--count`` or ``--for``. Returns 0, or 1 when fewer than ``--count`` events came."""
    endpoint = endpoint_of(args.endpoint)
    topics, keys = TopicFilter(args.topics), keys_in(args.keys)
    as_lines = args.json or not sys.stdout.isatty()
    # The screen's head shows the heartbeat already.
    with_heartbeat = not args.no_heartbeat and (as_lines or HEARTBEAT_TOPIC in args.topics)
    stats = StreamStats(topics, time.monotonic(), with_heartbeat=with_heartbeat)
    view = line_view(stats, endpoint, as_json=args.json) if as_lines else Screen(stats, endpoint, Console())
    until_s = None if args.for_s is None else stats.started_s + args.for_s
    with asked_to_end() as asked, subscriber(endpoint, topics, keys) as source, view:
        listen(source, stats, view, Deadline(args.count, until_s, asked))
    print(f"mt4pump tail: {one_line(totals(stats, time.monotonic()))}", file=sys.stderr)
    return 1 if args.count is not None and stats.events < args.count else 0


@contextmanager
def subscriber(endpoint: str, topics: TopicFilter, keys: ClientKeys | None = None) -> Iterator[SubConnection]:
    """Yield the client's connection, subscribed to ``topics`` and the heartbeat; it reconnects by itself."""
    context: Context = zmq.Context()
    try:
        try:
            connection = SubConnection(context, endpoint, keys, RECEIVE_LIMIT)
        except zmq.ZMQError as error:
            problem = f"settings are wrong:\n  endpoint: {endpoint} cannot be connected to: {error.strerror}"
            raise SettingsError(problem) from error
        connection.subscribe(set(topics.subscriptions))
        yield connection
    finally:
        context.destroy(linger=0)


class Deadline:
    """When to stop listening: after ``count`` events, at ``until_s`` (either may be None), or when ``asked`` is set."""

    def __init__(self, count: int | None, until_s: float | None, asked: Event) -> None:
        self.count = count
        self.until_s = until_s
        self.asked = asked

    def reached(self, events: int, now_s: float) -> bool:
        """Return whether to stop."""
        if self.asked.is_set():
            return True
        return (self.count is not None and events >= self.count) or (self.until_s is not None and now_s >= self.until_s)

    def wait_ms(self, now_s: float) -> int:
        """Return how long to wait for the next message."""
        if self.until_s is None:
            return POLL_MS
        return max(0, min(POLL_MS, int((self.until_s - now_s) * 1000) + 1))


def listen(
    source: SubConnection, stats: StreamStats, view: View, end: Deadline, clock: Callable[[], float] = time.monotonic
) -> None:
    """Receive messages and show them until the end is reached."""
    while not end.reached(stats.events, now_s := clock()):
        source.turns()  # the connection's monitor is bounded and has to be read
        if source.socket.poll(end.wait_ms(now_s)):
            _receive_batch(source.socket, stats, view, end, clock())
        view.refresh(clock())


def _receive_batch(socket: zmq.Socket[bytes], stats: StreamStats, view: View, end: Deadline, now_s: float) -> None:
    for _ in range(BATCH):
        try:
            frames = socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return
        event = stats.handle(frames, now_s)
        if event is not None:
            view.event(event)
            if end.reached(stats.events, now_s):
                return
