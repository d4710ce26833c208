"""``mt4pump replay``: stored events again, as they were published."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mt4pump.cli.arguments import add_query_flags, count, open_query, report_errors
from mt4pump.cli.format import human_event, json_event
from mt4pump.cli.stats import ReceivedEvent
from mt4pump.cli.timeparse import parse_time_ns
from mt4pump.cli.topic_filter import TopicFilter
from mt4pump.client import Query
from mt4pump.process.streams import pipe_error

PROGRESS_AFTER_S = 1.0
"""A replay shorter than this shows no progress."""
PROGRESS_INTERVAL_S = 0.2
OFFSET_DIGITS = 18
Advance = Callable[[int | None], None]
EXAMPLES = """\
TOPIC is as for mt4pump tail: trade.1001, trade. or 'trade.10*'. Without any: everything that is stored.
TIME is 10m, 2h, 3d (so long ago), 2026-11-23T11:00 (local), 2026-11-23T11:00Z (UTC) or 11:00 (today).

  mt4pump replay trade --since 10m               the trades of the last ten minutes
  mt4pump replay --after 0 --json > all.jsonl    everything that is still stored, one JSON object per line
The offset in a body names the event: --after N goes on behind it. Ends with code 1 when events are missing between
those shown, since they were deleted by age or size, or not stored."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add topics and flags."""
    parser.epilog = EXAMPLES
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help="what to show; all if none is given")
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--after", type=offset, metavar="N", help="begin with the first event after this offset")
    start.add_argument("--since", type=time_ns, metavar="TIME", dest="since_ns", help="begin with this moment")
    parser.add_argument("--until", type=time_ns, metavar="TIME", dest="until_ns", help="end before this moment")
    parser.add_argument("--limit", type=count, metavar="N", help="end after N events")
    parser.add_argument("--json", action="store_true", help='one JSON object per event: {"topic": …, "body": {…}}')
    add_query_flags(parser)


@report_errors("replay")
def command(args: argparse.Namespace) -> int:
    """Query and print. Returns 0, or 1 when there is no answer or events are missing."""
    topics = TopicFilter(args.topics)
    text_of = json_event if args.json else human_event
    first = last = None
    shown = 0
    with open_query(args) as query, progress_of(query, args) as advance:
        events = query.replay(
            topics.names,
            after=args.after,
            since=args.since_ns,
            until=args.until_ns,
        )
        for event in events:
            if topics.wants(event.topic):
                write(text_of(ReceivedEvent(event.topic, event.body)))
                first, last, shown = first or event.offset, event.offset, shown + 1
                advance(event.offset)
                if shown == args.limit:
                    break
        flush()
    span = f"offsets {first} to {last}" if shown else "nothing stored there"
    print(f"mt4pump replay: {shown} events, {span}", file=sys.stderr)
    if shown == args.limit or events.whole:
        return 0
    missing = "events are missing between them: deleted by age or size, or published while nothing could be stored"
    print(f"mt4pump replay: not whole: {missing}", file=sys.stderr)
    return 1


@contextmanager
def progress_of(query: Query, args: argparse.Namespace) -> Iterator[Advance]:
    """Yield a callback for each offset; it draws a bar on a terminal that shows nothing else."""
    if sys.stdout.isatty() or not sys.stderr.isatty():
        yield lambda _offset: None
        return
    last = query.describe().get("offset")
    columns = (TextColumn("replay"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as shown:
        yield ReplayProgress(shown, last if isinstance(last, int) else None, args.after).advance


class ReplayProgress:
    """Progress by offsets: how many events match is known only at the end. Drawn after `PROGRESS_AFTER_S`."""

    def __init__(
        self, shown: Progress, last: int | None, after: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shown = shown
        self._last = last
        self._first = after
        self._task: TaskID | None = None
        self._clock = clock
        self._draw_at_s = clock() + PROGRESS_AFTER_S

    def advance(self, offset: int | None) -> None:
        """Note the offset of an event, and draw when it is due."""
        if self._first is None:
            self._first = offset
        now_s = self._clock()
        if now_s < self._draw_at_s or offset is None or self._first is None:
            return
        self._draw_at_s = now_s + PROGRESS_INTERVAL_S
        if self._task is None:
            total = None if self._last is None else max(0, self._last - self._first)
            self._task = self._shown.add_task("replay", total=total)
        self._shown.update(self._task, completed=offset - self._first, refresh=True)


def write(line: str) -> None:
    """Write one line of output."""
    try:
        sys.stdout.write(line + "\n")
    except OSError as error:
        raise pipe_error(error) from error


def flush() -> None:
    """Flush the lines before the summary."""
    try:
        sys.stdout.flush()
    except OSError as error:
        raise pipe_error(error) from error


def offset(text: str) -> int:
    """Return a flag's offset."""
    if not (text.isascii() and text.isdigit()) or len(text) > OFFSET_DIGITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def time_ns(text: str) -> int:
    """Return a flag's time as ns since 1970."""
    try:
        return parse_time_ns(text, datetime.now(UTC).astimezone())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
