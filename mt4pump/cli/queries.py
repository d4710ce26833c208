"""Commands that query a daemon: ``mt4pump describe``, ``snapshot`` and ``replay``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Group
from rich.progress import MofNCompleteColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mt4pump.cli import report
from mt4pump.cli.arguments import TIME_EXAMPLE, add_query_flags, count, offset, open_query, requested_topics, time_ns
from mt4pump.cli.format import (
    StdoutConsole,
    clock_text,
    human_event,
    json_event,
    plain_table,
    progress_bar,
    summary,
    text_cells,
)
from mt4pump.client import Event, Query
from mt4pump.errors import SettingsError, did_you_mean
from mt4pump.log import json_line
from mt4pump.process.values import size_text
from mt4pump.protocol.documents import asyncapi, json_schema
from mt4pump.settings.validators import suffix_text
from mt4pump.wire import Body

DESCRIBE_EXAMPLES = """\
  mt4pump describe                 the daemon, and a table of its kinds of event
  mt4pump describe trade margin    the fields of these kinds: type, unit, meaning
  mt4pump describe --json          the whole reply as one JSON object
  mt4pump describe --asyncapi      topics, queries and gateway as an AsyncAPI document; needs no daemon"""
SNAPSHOT_EXAMPLES = """\
TOPIC is as for mt4pump tail: quote.EURUSD, quote. or 'trade.10*'. Without any: everything.

  mt4pump snapshot quote                     the last quote of every symbol
  mt4pump snapshot 'trade.1001' --json       the open orders of one account, one JSON object per line
A line on standard error names the moment: epoch and offset join the snapshot with the live stream."""
REPLAY_EXAMPLES = f"""\
TOPIC is as for mt4pump tail: trade.1001, trade. or 'trade.10*'. Without any: everything that is stored.
TIME: {TIME_EXAMPLE}.

  mt4pump replay trade --since 10m               the trades of the last ten minutes
  mt4pump replay --after 0 --json > all.jsonl    everything that is still stored, one JSON object per line
The offset in a body identifies the event: --after N continues after it. The exit code is 1 when events are missing
between those shown, because they were deleted by age or size, or not stored."""


def describe_arguments(parser: argparse.ArgumentParser) -> None:
    """Add kinds and flags."""
    parser.epilog = DESCRIBE_EXAMPLES
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="show the fields of these kinds, as quote or trade")
    parser.add_argument("--json", action="store_true", help="print the reply as one JSON object")
    for flag, document in (("--asyncapi", "AsyncAPI document"), ("--json-schema", "JSON Schema")):
        parser.add_argument(flag, action="store_true", help=f"print the {document} of this version; needs no daemon")
    add_query_flags(parser)


def describe_command(args: argparse.Namespace) -> int:
    """Print a document, or query and print. Raises SettingsError for a kind that the daemon does not know."""
    if args.asyncapi or args.json_schema:
        print(json.dumps(asyncapi() if args.asyncapi else json_schema(), indent=1))
        return 0
    with open_query(args) as query:
        reply = query.describe()
    kinds = _map(reply.get("kinds"))
    for name in args.kinds:
        if name not in kinds:
            cure = did_you_mean(name, map(str, kinds), f"it knows {', '.join(map(str, kinds))}")
            raise SettingsError(f"the daemon knows no kind of event {name!r}; {cure}")
    if args.json:
        print(json_line({**reply, "kinds": {name: kinds[name] for name in args.kinds or kinds}}))
    elif args.kinds:
        StdoutConsole().print(Group(*(kind_table(name, _map(kinds[name])) for name in args.kinds)))
    else:
        StdoutConsole().print(Group(daemon_table(reply), Text(), kinds_table(kinds)))
    return 0


def daemon_table(reply: Body) -> Table:
    """Return the daemon's description of itself."""
    offset_s = reply.get("server_utc_offset_s")
    rows = {
        "version": f"{reply.get('version')}, protocol {reply.get('protocol')}",
        "server code": reply.get("server_code") or "none",
        "publishes on": reply.get("pub_endpoint"),
        "epoch": reply.get("epoch"),
        "journal": _journal(reply),
        "topic suffix": suffix_text(str(reply.get("topic_suffix") or "")[:1]),
        "encoding": reply.get("encoding"),
        "server UTC offset": f"{offset_s / 3600:+g} h" if isinstance(offset_s, int | float) else "not known yet",
        "heartbeat": f"every {reply.get('heartbeat_interval_s')} s",
    }
    table = plain_table("", "", show_header=False)
    for name, value in rows.items():
        table.add_row(Text(name, "bold"), *text_cells(value))
    return table


def kinds_table(kinds: Mapping[Any, Any]) -> Table:
    """Return the kinds, one line each."""
    table = plain_table("topic", "stored", "snapshot", "fields", "meaning")
    for name, value in kinds.items():
        kind = _map(value)
        topic = f"{name}.<{kind['key']}>" if kind.get("key") else str(name)
        flags = ("yes" if kind.get(flag) else "-" for flag in ("durable", "snapshot"))
        table.add_row(*text_cells(topic, *flags, len(_map(kind.get("fields"))), kind.get("meaning", "")))
    return table


def kind_table(name: str, kind: Mapping[Any, Any]) -> Table:
    """Return the fields of one kind."""
    (title,) = text_cells(f"{name}: {kind.get('meaning', '')}")
    table = plain_table("field", "type", "unit", "meaning", title=title, title_justify="left")
    for field, value in _map(kind.get("fields")).items():
        row = _map(value)
        table.add_row(*text_cells(field, row.get("type", ""), row.get("unit") or "", row.get("meaning", "")))
    return table


def _journal(reply: Body) -> str:
    if reply.get("log") is None:
        return "none: nothing can be replayed"
    if not reply["log"]:
        return "could not be opened yet: the daemon's log says why, and it tries again"
    retention = _map(reply.get("retention"))
    age_s, size = retention.get("max_age_s"), retention.get("max_bytes")
    kept = [f"{age_s / 86_400:g} days"] if isinstance(age_s, int | float) and age_s else []
    kept += [size_text(size)] if isinstance(size, int) else []
    return f"{reply['log']}, last offset {reply.get('offset')}, keeps {' or '.join(kept) or 'everything'}"


def _map(value: object) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def snapshot_arguments(parser: argparse.ArgumentParser) -> None:
    """Add topics and flags."""
    parser.epilog = SNAPSHOT_EXAMPLES
    _add_topics(parser, "value")


def _add_topics(parser: argparse.ArgumentParser, row: str) -> None:
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help="what to show; all if none is given")
    parser.add_argument("--json", action="store_true", help=f'one JSON object per {row}: {{"topic": …, "body": {{…}}}}')
    add_query_flags(parser)


def snapshot_command(args: argparse.Namespace) -> int:
    """Query and print."""
    topics = requested_topics("snapshot", args.topics)
    with open_query(args) as query:
        snapshot = query.snapshot(topics.names)
    events = snapshot.events
    if args.json:
        for event in events:
            print(json_event(event.topic, event.body))
    elif events:
        StdoutConsole().print(snapshot_table(events))
    moment = f"epoch {snapshot.epoch}, offset {snapshot.offset}, log {snapshot.log or 'none: no journal'}"
    count = len({event.topic for event in events})
    report("snapshot", f"{len(events)} values of {count} topics, {moment}")
    return 0


def snapshot_table(events: list[Event]) -> Table:
    """Return the values, one line each."""
    table = plain_table()
    for name in ("topic", "seq", "time"):
        table.add_column(name, no_wrap=True)
    table.add_column("value", no_wrap=True, overflow="ellipsis")
    for event in events:
        seq, time = event.body.get("seq"), clock_text(event.body.get("ts"))
        table.add_row(*text_cells(event.topic, seq, time, summary(event.topic, event.body)))
    return table


def replay_arguments(parser: argparse.ArgumentParser) -> None:
    """Add topics and flags."""
    parser.epilog = REPLAY_EXAMPLES
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--after", type=offset, metavar="N", help="begin with the first event after this offset")
    start.add_argument("--since", type=time_ns, metavar="TIME", dest="since_ns", help="begin at this time")
    end = "end with the last event of this time or an earlier one"
    parser.add_argument("--until", type=time_ns, metavar="TIME", dest="until_ns", help=end)
    parser.add_argument("--limit", type=count, metavar="N", help="end after N events")
    _add_topics(parser, "event")


def replay_command(args: argparse.Namespace) -> int:
    """Query and print. Returns 0, or 1 when events are missing."""
    topics = requested_topics("replay", args.topics)
    text_of = json_event if args.json else human_event
    first = last = None
    shown = 0
    with open_query(args) as query, _progress(query, args.after) as advance:
        events = query.replay(topics.names, after=args.after, since=args.since_ns, until=args.until_ns)
        for event in events:
            sys.stdout.write(text_of(event.topic, event.body) + "\n")
            first, last, shown = first or event.offset, event.offset, shown + 1
            advance(event.offset or 0)  # a stored event has one
            if shown == args.limit:
                break
        sys.stdout.flush()
    span = f"offsets {first} to {last}" if shown else "nothing is stored there"
    report("replay", f"{shown} events, {span}")
    if shown == args.limit or events.whole:
        return 0
    missing = "events are missing between them: deleted by age or size, or published while nothing could be stored"
    report("replay", f"not whole: {missing}")
    return 1


@contextmanager
def _progress(query: Query, after: int | None) -> Iterator[Callable[[int], None]]:
    """Yield a callback for each offset; it draws a bar on a terminal that shows nothing else.

    Progress is by offsets, because the number of matching events is known only at the end.
    """
    if sys.stdout.isatty() or not sys.stderr.isatty():
        yield lambda _offset: None
        return
    first, last = after, query.describe()["offset"]

    def advance(offset: int) -> None:
        nonlocal first
        first = offset if first is None else first
        draw(offset - first, max(0, last - first))

    with progress_bar("replay", MofNCompleteColumn(), TimeRemainingColumn()) as draw:
        yield advance
