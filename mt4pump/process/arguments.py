"""Command lines of our programs: argparse with messages that name the nearest right flag, and flags from a schema."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mt4pump.errors import EXIT_SETTINGS, did_you_mean
from mt4pump.log import one_line
from mt4pump.process.settings import SettingsClass, expected, extra_of, is_boolean, is_list
from mt4pump.process.sources import flag_name
from mt4pump.process.values import size_text, text_list

SETTING_PREFIX = "setting "
"""Start of the parsed name of a setting's flag: no flag of a program's own can begin so."""


class ProgramParser(argparse.ArgumentParser):
    """Parser of one program's flags. Its messages never repeat a setting's value: it may be a password."""

    def __init__(self, program: str, description: str | None) -> None:
        super().__init__(
            prog=program,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # a shortened flag changes its meaning when a new one is added
        )

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return the parsed flags; ends the program with code 2 when there are some that are unknown."""
        namespace, extras = self.parse_known_args(arguments)
        flags = [extra.partition("=")[0] for extra in extras if extra.startswith("-")]
        for flag in flags:
            known = [name for name in self._option_string_actions if name.startswith("--")]
            self._print_error(f"there is no flag {flag}; {did_you_mean(flag, known, self._see_help())}")
        if extras and not flags:
            self._print_error(f"{len(extras)} word(s) too many; put a value that has spaces in quotes")
        if extras:
            self.exit(EXIT_SETTINGS)
        return namespace

    def error(self, message: str) -> NoReturn:
        """Print the error and end the program with code 2."""
        hint = ""
        if "expected" in message and "argument" in message:
            hint = " (a value that starts with - is written --flag=value)"
        self._print_error(f"{message}{hint}; {self._see_help()}")
        self.exit(EXIT_SETTINGS)

    def _see_help(self) -> str:
        return f"{self.prog} --help lists all"

    def _print_error(self, text: str) -> None:
        print(f"{self.prog}: {one_line(text)}", file=sys.stderr)  # noqa: T201 - no log yet


def add_settings(parser: argparse.ArgumentParser, schema: SettingsClass) -> None:
    """Add ``--config`` and one flag per setting, in the schema's groups."""
    naming = schema.naming()
    parser.usage = f"{parser.prog} [flags]"  # the list of all would fill a screen, and stands below with meanings
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help=f"TOML file with settings [{naming.config}; ./{naming.file} if it exists]",
    )
    groups = {name: extra_of(schema, name)["group"] for name in schema.model_fields}
    sections = {group: parser.add_argument_group(group) for group in dict.fromkeys(groups.values())}
    for name, group in groups.items():
        _add(sections[group], schema, name)


def given_settings(args: argparse.Namespace) -> dict[str, object]:
    """Return the settings that were given as flags; lists are split."""
    return {
        name.removeprefix(SETTING_PREFIX): _parts(value) if isinstance(value, list) else value
        for name, value in vars(args).items()
        if name.startswith(SETTING_PREFIX) and value is not None
    }


def _parts(words: list[str]) -> object:
    parts: list[object] = []
    for word in words:
        try:
            found = text_list(word)
        except ValueError:
            return word  # the schema reports it
        parts += found if isinstance(found, tuple) else [found]
    return tuple(parts)


def _add(section: argparse._ArgumentGroup, schema: SettingsClass, name: str) -> None:
    field = schema.model_fields[name]
    # argparse itself interprets %
    text = f"{field.description} [{schema.naming().variable(name)}{_default(schema, name)}]".replace("%", "%%")
    flag, key = flag_name(name), SETTING_PREFIX + name
    if is_boolean(schema, name):
        section.add_argument(flag, dest=key, default=None, action=argparse.BooleanOptionalAction, help=text)
    elif is_list(schema, name):
        section.add_argument(flag, dest=key, action="extend", nargs="+", metavar=_metavar(schema, name), help=text)
    else:
        section.add_argument(flag, dest=key, metavar=_metavar(schema, name), help=text)


def _default(schema: SettingsClass, name: str) -> str:
    """Return ``; default …`` for the help, or nothing where there is no default."""
    default = schema.model_fields[name].get_default(call_default_factory=True)
    default = extra_of(schema, name).get("shown", default)
    if default is None or default in {(), ""}:
        return ""
    if isinstance(default, bool):
        return f"; default {'on' if default else 'off'}"
    if isinstance(default, tuple):
        default = ", ".join(default)  # a blank, so that the long ones can be wrapped
    if name.endswith("_bytes"):
        default = size_text(default)
    return f"; default {default:g}" if isinstance(default, float) else f"; default {default}"


def _metavar(schema: SettingsClass, name: str) -> str:
    if given := extra_of(schema, name).get("metavar"):
        return str(given)
    right = expected(schema, name)
    if " or " in right and "max" not in right and not is_list(schema, name):
        return right.replace(", ", "|").replace(" or ", "|")
    if "of seconds" in right:
        return "SECONDS"
    if right.startswith("a size"):
        return "SIZE"
    if "number" in right:
        return "N"
    return "PATH" if "Path" in str(schema.model_fields[name].annotation) else "TEXT"
