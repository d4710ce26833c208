"""Flags of a command that takes the settings: made from the schema, so that they cannot differ from it."""

from __future__ import annotations

import argparse
from pathlib import Path

from mt4pump.settings.problems import expected
from mt4pump.settings.schema import (
    GROUPS,
    Settings,
    environment_name,
    flag_name,
    group_of,
    is_list,
    is_truth,
)
from mt4pump.settings.sizes import size_text
from mt4pump.settings.suffix import suffix_text
from mt4pump.settings.values import comma_separated

MARK = "setting "
"""Start of the parsed name of a setting's flag: no flag of a command's own can begin so."""

WORDS = {"durable": "KIND", "pub_endpoint": "ADDRESS", "query_endpoint": "ADDRESS", "topic_suffix": "CHARACTER"}
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
        if mark.startswith(MARK) and value is not None:
            parts = comma_separated(",".join(value)) if isinstance(value, list) else value
            found[mark.removeprefix(MARK)] = parts
    return found


def _add(section: argparse._ArgumentGroup, name: str) -> None:
    # % would be taken for one of argparse's own marks
    text = f"{Settings.model_fields[name].description} [{environment_name(name)}{_default(name)}]".replace("%", "%%")
    flag, mark = flag_name(name), MARK + name
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
    return "PATH" if "Path" in str(Settings.model_fields[name].annotation) else WORDS.get(name, "TEXT")
