"""``mt4pump snapshot``: the last values of topics, consistent between two events."""

from __future__ import annotations

import argparse
import sys

from rich.table import Table
from rich.text import Text

from mt4pump.cli.arguments import add_query_flags, open_query, report_errors
from mt4pump.cli.format import clock_text, json_event, summary
from mt4pump.cli.stats import ReceivedEvent
from mt4pump.cli.stdio import StdoutConsole
from mt4pump.cli.topic_filter import TopicFilter
from mt4pump.log import one_line

EXAMPLES = """\
TOPIC is as for mt4pump tail: quote.EURUSD, quote. or 'trade.10*'. Without any: everything.

  mt4pump snapshot quote                     the last quote of every symbol
  mt4pump snapshot 'trade.1001' --json       the open orders of one account, one JSON object per line
A line on standard error says of which moment it is: epoch and offset join it with the live stream."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add topics and flags."""
    parser.epilog = EXAMPLES
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help="what to show; all if none is given")
    parser.add_argument("--json", action="store_true", help='one JSON object per value: {"topic": …, "body": {…}}')
    add_query_flags(parser)


@report_errors("snapshot")
def command(args: argparse.Namespace) -> int:
    """Query and print. Returns 0, or 1 when there is no answer."""
    topics = TopicFilter(args.topics)
    with open_query(args) as query:
        snapshot = query.snapshot(topics.names)
    events = [ReceivedEvent(event.topic, event.body) for event in snapshot.events if topics.wants(event.topic)]
    if args.json:
        for event in events:
            print(json_event(event))
    elif events:
        console = StdoutConsole()
        console.print(table(events))
    count = len({event.topic for event in events})
    where = f"epoch {snapshot.epoch}, offset {snapshot.offset}, log {snapshot.log or 'none: no journal'}"
    print(f"mt4pump snapshot: {len(events)} values of {count} topics, {one_line(where)}", file=sys.stderr)
    return 0


def table(events: list[ReceivedEvent]) -> Table:
    """Return the values, one line each."""
    made = Table("topic", "seq", "time", "value", box=None, pad_edge=False, header_style="bold")
    made.columns[0].no_wrap = made.columns[1].no_wrap = made.columns[2].no_wrap = True
    made.columns[3].no_wrap, made.columns[3].overflow = True, "ellipsis"
    for topic, body in events:
        cells = (one_line(topic), one_line(str(body.get("seq"))), clock_text(body.get("ts")), summary(topic, body))
        made.add_row(*map(Text, cells))
    return made
