"""Flags that commands share, the query connection, and the report of its errors."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mt4pump.cli.topic_filter import connectable
from mt4pump.client import Query
from mt4pump.errors import PumpError, SettingsError, StartError
from mt4pump.log import one_line
from mt4pump.process.values import none_or_text
from mt4pump.settings import setting_as_written
from mt4pump.settings.validators import endpoint as checked_endpoint
from mt4pump.settings.validators import endpoint_host

PORT_MAX = 65_535


def seconds(text: str) -> float:
    """Return a flag's seconds."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return found


def count(text: str) -> int:
    """Return a flag's count."""
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def port(text: str) -> int:
    """Return a flag's port."""
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= PORT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to {PORT_MAX}")
    return int(text)


if TYPE_CHECKING:
    from mt4pump.client import ClientKeys


def add_keys_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--keys``."""
    parser.add_argument(
        "--keys",
        type=Path,
        metavar="FILE",
        help="keys of a client, where the daemon wants them (mt4pump keygen)",
    )


def keys_in(path: Path | None) -> ClientKeys | None:
    """Return the keys of the file; raises SettingsError when it cannot be used."""
    if path is None:
        return None
    from mt4pump.client import ClientKeys  # noqa: PLC0415 - the whole client, for those who have keys

    try:
        return ClientKeys.load(path.expanduser())
    except (PumpError, OSError, ValueError, RuntimeError) as error:
        raise SettingsError(f"settings are wrong:\n  --keys: {error}") from error


ANY_PORT = frozenset({"*", "0"})


def endpoint_of(flag: str | None, setting: str = "pub_endpoint") -> str:
    """Return the address to connect to: the flag's, else the daemon's as this machine's settings have it.

    Raises SettingsError when it is none, or names no certain port.
    """
    written = none_or_text(flag or setting_as_written(setting))
    name = "--endpoint" if flag else setting
    if written is None:
        raise _wrong(name, "is none: this daemon answers no queries; set it, or --endpoint to another daemon's")
    try:
        endpoint = connectable(checked_endpoint(str(written)))
    except ValueError as error:
        raise _wrong(name, str(error)) from error
    if endpoint_host(endpoint) is not None and endpoint.rpartition(":")[2] in ANY_PORT:
        at_start = "set --endpoint to the address that the daemon logged at its start"
        raise _wrong(name, f"{written!r} names no certain port; {at_start}")
    return endpoint


def _wrong(name: str, problem: str) -> SettingsError:
    return SettingsError(f"settings are wrong:\n  {name}: {problem}")


TIMEOUT_S = 5.0
Command = Callable[[argparse.Namespace], int]


def add_query_flags(parser: argparse.ArgumentParser) -> None:
    """Add the query endpoint, the keys and the timeout."""
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
def open_query(args: argparse.Namespace) -> Iterator[Query]:
    """Yield a query connection to the daemon that the flags name."""
    endpoint = endpoint_of(args.endpoint, "query_endpoint")
    with Query(endpoint, keys_in(args.keys), args.timeout_s) as query:
        yield query


def report_errors(name: str) -> Callable[[Command], Command]:
    """Make a command print the error of a query and return 1; ``name`` is the command's."""

    def wrap(command: Command) -> Command:
        @functools.wraps(command)
        def wrapper(args: argparse.Namespace) -> int:
            try:
                return command(args)
            except (SettingsError, StartError):
                raise
            except PumpError as error:
                print(f"mt4pump {name}: {one_line(str(error))}", file=sys.stderr)
                return 1

        return wrapper

    return wrap
