"""The archive's commands and their flags; needs none of the archive's libraries."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mt4pump.process.arguments import ProgramParser
from mt4pump_consumers.archive.settings import SERVER_CODE, database_url

WIDTHS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
PRICES = {"bid": "bid", "ask": "ask", "mid": "(bid + ask) / 2"}
SOURCES = ("quote", "tick")
ENDPOINT, QUERY_ENDPOINT = "tcp://127.0.0.1:5556", "tcp://127.0.0.1:5557"


class ArchiveCommand(NamedTuple):
    """One command: what adds its flags, its line in the help, and an example."""

    add: Callable[[argparse.ArgumentParser], None]
    help: str
    example: str


def parser_of(name: str) -> ProgramParser:
    """Return the parser of the flags of a command of `COMMANDS`; it sets ``command`` to the name."""
    entry = COMMANDS[name]
    parser = ProgramParser(f"mt4pump-archive {name}", entry.help)
    parser.epilog = f"example: mt4pump-archive {entry.example}"
    parser.set_defaults(command=name)
    entry.add(parser)
    return parser


def bar_width(text: str) -> int:
    """Return a width such as ``1m`` in ns."""
    match = re.fullmatch(r"([1-9]\d{0,5})([smhd])", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no width of a bar; write 10s, 1m, 4h or 1d")
    return int(match[1]) * WIDTHS_S[match[2]] * 1_000_000_000


def store_url(text: str) -> str:
    """Return the address of a database, checked as the setting is."""
    try:
        return database_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def server_code(text: str) -> str:
    """Check a server code, which is a part of paths."""
    if not SERVER_CODE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 to 64 letters, digits, - and _")
    return text


def _query_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sql", help="as: select symbol, count(*) from quote group by symbol")
    _reading_arguments(parser)


def _bars_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("symbol")
    parser.add_argument("width", type=bar_width, help="10s, 1m, 4h, 1d")
    parser.add_argument("--price", choices=PRICES, default="bid")
    parser.add_argument("--source", choices=SOURCES, default="quote", help="live quotes, or imported ticks")
    parser.add_argument("--server-code", default="", help="server_code of the daemon; empty by default")
    _reading_arguments(parser)


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    where = f"address that the daemon publishes on; it answers queries on the next port (default {ENDPOINT})"
    parser.add_argument("--endpoint", metavar="ADDRESS", help=where)
    where = "address that answers queries, where it is another"
    parser.add_argument("--query-endpoint", metavar="ADDRESS", help=where)
    parser.add_argument("--keys", type=Path, metavar="FILE", help="keys of a client, where the daemon requires them")
    parser.add_argument("--topics", default="*", help="topics and patterns, if the archive stores only some: a,b")
    text = "database to compare, as postgresql://user@host/database or clickhouse://..."
    _reading_arguments(parser, store_help=text)


def _reading_arguments(parser: argparse.ArgumentParser, store_help: str = argparse.SUPPRESS) -> None:
    """Add what all commands but `import` share; those that read files alone take ``--store`` to refuse it."""
    parser.add_argument("--path", type=Path, default=Path("archive"), help="folder of the archive")
    parser.add_argument("--store", type=store_url, metavar="URL", help=store_help)
    parser.add_argument("--format", choices=("table", "csv", "json", "parquet"), default="table")
    parser.add_argument("--output", type=Path, help="file to write; without it standard output")


def _import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="text or gzip; a file is imported once")
    parser.add_argument("--symbol", default="", help="symbol of files that have none; else the one in the file's name")
    parser.add_argument("--timezone", default="", help="zone of dates, as UTC, +02:00 or Europe/Athens")
    parser.add_argument("--dates", choices=("dmy", "mdy"), help="whether 02/03/2010 begins with the day or the month")
    parser.add_argument("--format", default="", help="the format that the files must have, as 'MT5 export' or TrueFX")
    parser.add_argument("--server-code", type=server_code, default="", help="code under which they are stored")
    parser.add_argument("--path", type=Path, default=Path("archive"), help="folder of the archive, never a database")


COMMANDS = {
    "query": ArchiveCommand(
        _query_arguments,
        "run SQL; each kind of event is a table, and so is gaps",
        "query 'select symbol, avg(spread) from quote group by symbol' --format csv",
    ),
    "bars": ArchiveCommand(
        _bars_arguments,
        "open, high, low, close of a symbol, spread and count of its quotes",
        "bars EURUSD 1m --price mid --format csv --output bars.csv",
    ),
    "gaps": ArchiveCommand(
        _reading_arguments, "holes: events that are provably missing, and why", "gaps --format json"
    ),
    "verify": ArchiveCommand(
        _verify_arguments,
        "compare with the daemon's journal: exit code 1 if events are missing",
        "verify --topics 'trade.*'",
    ),
    "import": ArchiveCommand(
        _import_arguments,
        "store tick files in the dataset `tick`; stop the archive meanwhile",
        "import eurusd.csv --symbol EURUSD --timezone Europe/Athens",
    ),
}
