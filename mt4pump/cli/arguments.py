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
from mt4pump.settings import Settings, setting_as_written
from mt4pump.settings.loader import expected
from mt4pump.settings.schema import GROUPS, environment_name, flag_name, group_of, is_list, is_truth
from mt4pump.settings.validators import comma_separated, endpoint_host, none_or_text, size_text, suffix_text
from mt4pump.settings.validators import endpoint as checked_endpoint

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


SETTING_PREFIX = "setting "
"""Start of the parsed name of a setting's flag: no flag of a command's own can begin so."""

METAVARS = {"durable": "KIND", "pub_endpoint": "ADDRESS", "query_endpoint": "ADDRESS", "topic_suffix": "CHARACTER"}
"""What stands for the value of some settings in the help."""


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add ``--config`` and one flag per setting, in the schema's groups."""
    parser.usage = f"{parser.prog} [flags]"  # the list of all would fill a screen, and stands below with meanings
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="TOML file with settings [MT4PUMP_CONFIG; ./mt4pump.toml if it exists]",
    )
    for group in GROUPS:
        section = parser.add_argument_group(group)
        for name in Settings.model_fields:
            if group_of(name) == group:
                _add(section, name)


def given_settings(args: argparse.Namespace) -> dict[str, object]:
    """Return the settings that were given as flags; lists are split at commas."""
    found: dict[str, object] = {}
    for mark, value in vars(args).items():
        if mark.startswith(SETTING_PREFIX) and value is not None:
            parts = comma_separated(",".join(value)) if isinstance(value, list) else value
            found[mark.removeprefix(SETTING_PREFIX)] = parts
    return found


def _add(section: argparse._ArgumentGroup, name: str) -> None:
    # % would be taken for one of argparse's own marks
    text = f"{Settings.model_fields[name].description} [{environment_name(name)}{_default(name)}]".replace("%", "%%")
    flag, mark = flag_name(name), SETTING_PREFIX + name
    if is_truth(name):
        section.add_argument(flag, dest=mark, default=None, action=argparse.BooleanOptionalAction, help=text)
    elif is_list(name):
        section.add_argument(flag, dest=mark, action="extend", nargs="+", metavar=_metavar(name), help=text)
    else:
        section.add_argument(flag, dest=mark, metavar=_metavar(name), help=text)


def _default(name: str) -> str:
    """Return ``; default …`` for the help, or nothing where there is no default."""
    default = Settings.model_fields[name].get_default(call_default_factory=True)
    if default is None or default == ():
        return ""
    if isinstance(default, bool):
        return f"; default {'on' if default else 'off'}"
    if isinstance(default, tuple):
        default = ", ".join(default)  # a blank, so that the long ones can be wrapped
    if name == "topic_suffix":
        default = suffix_text(default)
    if name.endswith("_bytes"):
        default = size_text(default)
    return f"; default {default:g}" if isinstance(default, float) else f"; default {default}"


def _metavar(name: str) -> str:
    right = expected(name)
    if " or " in right and "max" not in right and not is_list(name):
        return right.replace(", ", "|").replace(" or ", "|")
    if name.endswith("_s"):
        return "SECONDS"
    if name.endswith("_bytes"):
        return "SIZE"
    if "number" in right:
        return "N"
    return "PATH" if "Path" in str(Settings.model_fields[name].annotation) else METAVARS.get(name, "TEXT")


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
