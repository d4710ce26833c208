"""What the commands that ask the daemon have in common: flags, the connection, and words for what goes wrong."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mt4pump.cli.endpoints import endpoint_of
from mt4pump.cli.keys import add_keys_flag, keys_in
from mt4pump.cli.numbers import seconds
from mt4pump.client import Query
from mt4pump.errors import PumpError, SettingsError, StartError
from mt4pump.escaping import one_line

TIMEOUT_S = 5.0
Command = Callable[[argparse.Namespace], int]


def add_asking_flags(parser: argparse.ArgumentParser) -> None:
    """Add where to ask, with which keys, and how long to wait."""
    parser.add_argument(
        "--endpoint",
        metavar="ADDRESS",
        help="address that answers [the daemon's query_endpoint, as MT4PUMP_QUERY_ENDPOINT has it]",
    )
    add_keys_flag(parser)
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=TIMEOUT_S,
        metavar="SECONDS",
        dest="timeout_s",
        help=f"longest wait for one answer (default {TIMEOUT_S:g})",
    )


@contextmanager
def asking(args: argparse.Namespace) -> Iterator[Query]:
    """Give a connection to the daemon that the flags name."""
    endpoint = endpoint_of(args.endpoint, "query_endpoint")
    with Query(endpoint, keys_in(args.keys), args.timeout_s) as query:
        yield query


def telling(name: str) -> Callable[[Command], Command]:
    """Make a command print what the daemon or the way to it refused, and return 1; ``name`` is the command's."""

    def wrap(command: Command) -> Command:
        @functools.wraps(command)
        def told(args: argparse.Namespace) -> int:
            try:
                return command(args)
            except (SettingsError, StartError):
                raise
            except PumpError as error:
                print(f"mt4pump {name}: {one_line(str(error))}", file=sys.stderr)
                return 1

        return told

    return wrap
