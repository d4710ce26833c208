"""``mt4pump tail``: what is published, live, as lines or on a screen that is redrawn in place."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mt4pump.cli import report
from mt4pump.cli.arguments import HEARTBEAT_TOPIC, add_stream_flags, endpoint_of, keys_in, requested_topics
from mt4pump.cli.format import age_text, human_event, json_event, plain_table, summary, text_cells
from mt4pump.cli.stream import (
    CHECK_INTERVAL_S,
    AlertTracker,
    ReceivedEvent,
    StreamAlert,
    StreamStats,
    TopicStats,
    listen,
    silence,
    subscriber,
)
from mt4pump.client.event import Frames
from mt4pump.log import one_line
from mt4pump.process.signals import asked_to_end
from mt4pump.wire import Body

EXAMPLES = """\
TOPIC is a topic as it is (quote.EURUSD, trade.1001: that one alone), the beginning of topics up to a dot (quote.), or a
pattern in quotes ('trade.*', 'quote.EUR*'). Without any: everything.

  mt4pump tail                                    a live screen; lines with --count, or if the output is no terminal
  mt4pump tail 'quote.EURUSD' --json              one JSON object per line
  mt4pump tail 'trade.*' --json --count 10        ten trades, then end
Alerts (gaps, silence, the daemon's state) and the closing summary are printed to standard error."""
REDRAW_INTERVAL_S = 0.25
HEAD_LINES = 5
"""Lines above and below the table's rows."""
ALARMS = frozenset({"connection", "nothing", "no heartbeat", "late"})
STATE_STYLES = {"pumping": "bold green", "lost": "bold red", "stopping": "bold red"}


def tail_arguments(parser: argparse.ArgumentParser) -> None:
    """Add topics and flags."""
    parser.epilog = EXAMPLES
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help="what to show; all if none is given")
    text = 'one JSON object per event: {"topic": …, "body": {…}}; NaN and infinity become null'
    parser.add_argument("--json", action="store_true", help=text)
    add_stream_flags(parser, "events")
    parser.add_argument("--no-heartbeat", action="store_true", help="do not show heartbeats as events")


def tail_command(args: argparse.Namespace) -> int:
    """Show events until Ctrl-C, ``--count`` or ``--for``. Returns 0, or 1 when fewer than ``--count`` events came."""
    endpoint = endpoint_of(args.endpoint)
    topics, keys = requested_topics("tail", args.topics), keys_in(args.keys)
    console = Console()
    # A screen ends with nothing on it: who asks for a number of events gets them.
    as_lines = args.json or math.isfinite(args.count) or not sys.stdout.isatty() or console.is_dumb_terminal
    # The head of the screen shows the heartbeat already.
    with_heartbeat = not args.no_heartbeat and (as_lines or HEARTBEAT_TOPIC in args.topics)
    stats = StreamStats(endpoint, topics, time.monotonic(), with_heartbeat=with_heartbeat)
    text_of = json_event if args.json else human_event
    view = Lines(stats, text_of) if as_lines else Screen(stats, console)

    def handle(frames: Frames, now_s: float) -> bool:
        event = stats.handle(frames, now_s)
        if event is not None:
            view.event(event)
        return event is not None

    with asked_to_end() as asked, subscriber(endpoint, topics, keys) as source, view:
        has_enough = listen(args, asked, source, stats, handle=handle, refresh=view.refresh)
    report("tail", stats.totals(time.monotonic()))
    return 0 if has_enough else 1


class Lines:
    """Writes one line per event to standard output, and alerts to standard error once a second."""

    def __init__(self, stats: StreamStats, text_of: Callable[[str, Body], str]) -> None:
        self._stats = stats
        self._text_of = text_of
        self._alerts = AlertTracker(stats)
        self._checked_s = stats.started_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stats.is_diagnosing = False  # nothing more will be known
        self._report_alerts(time.monotonic())

    def event(self, event: ReceivedEvent) -> None:
        """Write one line."""
        sys.stdout.write(self._text_of(event.topic, event.body) + "\n")

    def refresh(self, now_s: float) -> None:
        """Flush the lines; once a second report alerts."""
        sys.stdout.flush()
        if now_s - self._checked_s >= CHECK_INTERVAL_S:
            self._checked_s = now_s
            self._report_alerts(now_s)

    def _report_alerts(self, now_s: float) -> None:
        for alert in self._alerts.check(now_s):
            report("tail", alert.text)


class Screen:
    """A table that is redrawn in place."""

    def __init__(self, stats: StreamStats, console: Console) -> None:
        self._stats = stats
        self._console = console
        self._live = Live(console=console, screen=True, auto_refresh=False)
        self._drawn_s = 0.0

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def event(self, event: ReceivedEvent) -> None:
        """Do nothing: the next refresh draws what `StreamStats` counted."""

    def refresh(self, now_s: float) -> None:
        """Redraw, a few times a second."""
        if now_s - self._drawn_s < REDRAW_INTERVAL_S:
            return
        self._drawn_s = now_s
        self._stats.measure(now_s)
        self._live.update(screen(self._stats, now_s, self._console.size.height), refresh=True)


def screen(stats: StreamStats, now_s: float, height: int) -> Group:
    """Return the whole screen, at most ``height`` lines high."""
    rows = stats.most_active(height - HEAD_LINES)
    alert = _alert_line(silence(stats, now_s), hidden=len(stats.rows) - len(rows))
    return Group(_state_line(stats, now_s), _totals_line(stats), alert, _table(rows, now_s))


def _state_line(stats: StreamStats, now_s: float) -> Text:
    """Return the daemon's state by its heartbeat."""
    daemon = stats.daemon
    state = one_line(str(daemon.get("state", "unknown")))
    line = Text(f"{stats.endpoint}  daemon ", no_wrap=True, overflow="ellipsis")
    line.append(state, STATE_STYLES.get(state, "bold yellow"))
    if stats.heartbeat_s is None:
        return line.append("  heartbeat none yet")
    line.append(f"  server {one_line(str(daemon.get('server') or '-'))}  epoch {stats.epoch}")
    line.append(f"  heartbeat {age_text(now_s - stats.heartbeat_s)} ago")
    for name in ("dropped", "reconnects"):
        if count := daemon.get(name):
            line.append(f"  {name} {one_line(str(count))}", "bold red")
    return line


def _totals_line(stats: StreamStats) -> Text:
    """Return the reader's own counters; those that should be zero and are not are red."""
    found = stats.sequence
    faults = {"gaps": found.gaps, "missed": found.missed, "repeats": found.repeats}
    faults |= {"garbage": stats.garbage, "restarts": stats.restarts}
    line = Text(f"{stats.rate:.0f}/s  events {stats.events}  topics {len(stats.rows)}", no_wrap=True)
    for name, count in faults.items():
        line.append(f"  {name} {count}", "bold red" if count else "")
    return line


def _alert_line(alert: StreamAlert | None, hidden: int) -> Text:
    """Return the line above the table: the alert, else how many topics do not fit."""
    if alert is None:
        return Text(f"{hidden} quieter topics not shown" if hidden else "", "dim")
    style = "bold red" if alert.kind in ALARMS else "yellow"
    return Text(one_line(alert.text), style, no_wrap=True, overflow="ellipsis")


def _table(rows: list[TopicStats], now_s: float) -> Table:
    table = plain_table(expand=True)
    table.add_column("topic", no_wrap=True)
    table.add_column("last", no_wrap=True, ratio=1, overflow="ellipsis")
    for name in ("count", "rate/s", "gaps", "missed", "age"):
        table.add_column(name, no_wrap=True, justify="right")
    for row in rows:
        cells = (f"{row.count}", f"{row.rate:.1f}", f"{row.gaps}", f"{row.missed}", age_text(now_s - row.received_s))
        texts = text_cells(row.topic, summary(row.topic, row.body))
        table.add_row(*texts, *cells, style="red" if row.missed else "")
    return table
