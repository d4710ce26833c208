"""``mt4pump tail``: what is published, live."""

from __future__ import annotations

import argparse
import sys
import time

from rich.console import Console

from mt4pump.cli.arguments import add_stream_flags, endpoint_of, keys_in
from mt4pump.cli.format import human_event, json_event
from mt4pump.cli.stats import StreamStats
from mt4pump.cli.stream import Deadline, fault_of, listen, subscriber
from mt4pump.cli.topic_filter import HEARTBEAT_TOPIC, requested_topics
from mt4pump.cli.views import Lines, Screen
from mt4pump.log import one_line
from mt4pump.process.signals import asked_to_end

EXAMPLES = """\
TOPIC is a topic as it is (quote.EURUSD, trade.1001: that one alone), the beginning of topics up to a dot (quote.), or a
pattern in quotes ('trade.*', 'quote.EUR*'). Without any: everything.

  mt4pump tail                                    a live screen; lines when the output is no terminal
  mt4pump tail 'quote.EURUSD' --json              one JSON object per line
  mt4pump tail 'trade.*' --json --count 10        ten trades, then end
Alerts (gaps, silence, the daemon's state) and the closing summary are printed to standard error."""


def tail_arguments(parser: argparse.ArgumentParser) -> None:
    """Add topics and flags."""
    parser.epilog = EXAMPLES
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help="what to show; all if none is given")
    parser.add_argument(
        "--json",
        action="store_true",
        help='one JSON object per event: {"topic": …, "body": {…}}; NaN and infinity become null',
    )
    add_stream_flags(parser, "events")
    parser.add_argument("--no-heartbeat", action="store_true", help="do not show heartbeats as events")


def tail_command(args: argparse.Namespace) -> int:
    """Show events until Ctrl-C, ``--count`` or ``--for``. Returns 0, or 1 when fewer than ``--count`` events came."""
    endpoint = endpoint_of(args.endpoint)
    topics, keys = requested_topics("tail", args.topics), keys_in(args.keys)
    console = Console()
    as_lines = args.json or not sys.stdout.isatty() or console.is_dumb_terminal
    # The head of the screen shows the heartbeat already.
    with_heartbeat = not args.no_heartbeat and (as_lines or HEARTBEAT_TOPIC in args.topics)
    stats = StreamStats(topics, time.monotonic(), with_heartbeat=with_heartbeat)
    view: Lines | Screen = Screen(stats, endpoint, console)
    if as_lines:
        view = Lines(stats, endpoint, json_event if args.json else human_event, sys.stdout, sys.stderr)
    until_s = None if args.for_s is None else stats.started_s + args.for_s

    def handle(frames: list[bytes], now_s: float) -> bool:
        event = stats.handle(frames, now_s)
        if event is not None:
            view.event(event)
        return event is not None

    with asked_to_end() as asked, subscriber(endpoint, topics, keys) as source, view:
        end = Deadline(args.count, until_s, asked)

        def refresh(now_s: float) -> None:
            stats.connection_fault = fault_of(source, endpoint, now_s - stats.last_s)
            view.refresh(now_s)

        listen(source, end, handle, refresh)
    print(f"mt4pump tail: {one_line(stats.totals(time.monotonic()))}", file=sys.stderr)
    return 1 if end.has_too_few else 0
