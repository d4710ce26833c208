"""``mt4pump describe``: what the daemon publishes, as it says itself: kinds, fields, units, limits."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from mt4pump.cli.arguments import add_query_flags, open_query, report_errors
from mt4pump.cli.stdio import StdoutConsole
from mt4pump.errors import SettingsError
from mt4pump.log import json_line, one_line
from mt4pump.process.values import nearest, size_text
from mt4pump.protocol.asyncapi import asyncapi
from mt4pump.protocol.json_schema import json_schema
from mt4pump.settings.validators import suffix_text
from mt4pump.wire import Body

EXAMPLES = """\
  mt4pump describe                 the daemon, and a table of its kinds of event
  mt4pump describe trade margin    the fields of these kinds: type, unit, meaning
  mt4pump describe --json          the whole answer as one JSON object
  mt4pump describe --asyncapi      topics, queries and gateway as an AsyncAPI document; needs no daemon"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add kinds and flags."""
    parser.epilog = EXAMPLES
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="show the fields of these kinds, as quote or trade")
    parser.add_argument("--json", action="store_true", help="the answer as it came, as one JSON object")
    parser.add_argument(
        "--asyncapi", action="store_true", help="print the AsyncAPI document of this version; asks no daemon"
    )
    parser.add_argument(
        "--json-schema",
        action="store_true",
        help="print the JSON Schema of this version; asks no daemon",
    )
    add_query_flags(parser)


def command(args: argparse.Namespace) -> int:
    """Print a document, or query and print. Returns 0, 2 for a kind that is not known, 1 when there is no answer."""
    if args.asyncapi or args.json_schema:
        document = asyncapi() if args.asyncapi else json_schema()
        print(json.dumps(document, indent=1))
        return 0
    return described(args)


@report_errors("describe")
def described(args: argparse.Namespace) -> int:
    """Query and print. Returns 0, 2 for a kind that the daemon does not know, 1 when there is no answer."""
    with open_query(args) as query:
        answer = query.describe()
    kinds = _map(answer.get("kinds"))
    for name in args.kinds:
        if name not in kinds:
            near = nearest(name, [str(each) for each in kinds])
            cure = f"did you mean {near}?" if near else f"it knows {', '.join(map(str, kinds))}"
            raise SettingsError(f"the daemon knows no kind of event {name!r}; {cure}")
    if args.json:
        kept = {name: kinds[name] for name in args.kinds} if args.kinds else kinds
        print(json_line({**answer, "kinds": kept}))
        return 0
    console = StdoutConsole()
    if args.kinds:
        console.print(Group(*(fields(name, _map(kinds[name])) for name in args.kinds)))
    else:
        console.print(Group(facts(answer), Text(), overview(kinds)))
    return 0


def facts(answer: Body) -> Table:
    """Return what the daemon says about itself."""
    retention = _map(answer.get("retention"))
    made = Table("", "", box=None, pad_edge=False, show_header=False)
    rows = {
        "version": f"{answer.get('version')}, protocol {answer.get('protocol')}",
        "server code": answer.get("server_code") or "none",
        "publishes on": answer.get("pub_endpoint"),
        "epoch": answer.get("epoch"),
        "journal": _journal(answer, retention),
        "topic suffix": suffix_text(str(answer.get("topic_suffix") or "")[:1]),
        "encoding": answer.get("encoding"),
        "server UTC offset": _offset(answer.get("server_utc_offset_s")),
        "heartbeat": f"every {answer.get('heartbeat_interval_s')} s",
    }
    for name, value in rows.items():
        made.add_row(Text(name, "bold"), Text(one_line(str(value))))
    return made


def overview(kinds: Mapping[Any, Any]) -> Table:
    """Return the kinds, one line each."""
    made = Table("topic", "stored", "snapshot", "fields", "meaning", box=None, pad_edge=False, header_style="bold")
    for name, kind in kinds.items():
        about = _map(kind)
        topic = f"{name}.<{about['key']}>" if about.get("key") else str(name)
        made.add_row(
            Text(one_line(topic)),
            _tick(about.get("durable")),
            _tick(about.get("snapshot")),
            str(len(_map(about.get("fields")))),
            Text(one_line(str(about.get("meaning", "")))),
        )
    return made


def fields(name: str, kind: Mapping[Any, Any]) -> Table:
    """Return the fields of one kind."""
    made = Table(
        "field",
        "type",
        "unit",
        "meaning",
        box=None,
        pad_edge=False,
        header_style="bold",
        title=Text(one_line(f"{name}: {kind.get('meaning', '')}")),
        title_justify="left",
    )
    for field, about in _map(kind.get("fields")).items():
        row = _map(about)
        cells = (field, row.get("type", ""), row.get("unit") or "", row.get("meaning", ""))
        made.add_row(*(Text(one_line(str(cell))) for cell in cells))
    return made


def _journal(answer: Body, retention: Mapping[Any, Any]) -> str:
    if answer.get("log") is None:
        return "none: nothing can be replayed"
    if not answer["log"]:
        return "could not be opened yet: the daemon's log says why, and it tries again"
    age_s, size = retention.get("max_age_s"), retention.get("max_bytes")
    kept = [f"{age_s / 86_400:g} days"] if isinstance(age_s, int | float) and age_s else []
    kept += [size_text(size)] if isinstance(size, int) else []
    return f"{answer['log']}, last offset {answer.get('offset')}, keeps {' or '.join(kept) or 'everything'}"


def _offset(seconds: object) -> str:
    return f"{seconds / 3600:+g} h" if isinstance(seconds, int | float) else "not known yet"


def _tick(value: object) -> str:
    return "yes" if value else "-"


def _map(value: object) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}
