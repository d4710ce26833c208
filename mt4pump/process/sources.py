"""Where settings come from: reads the sources, keeps the origin of every value, and notes what it cannot place.

Not pydantic-settings' sources: they keep no place of a value (a file and its line), expand ``$`` in ``.env`` and
accept a variable that names no setting. No problem's text contains a value: it may be a secret under a mistyped name.
"""

from __future__ import annotations

import io
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dotenv.parser import Binding, parse_stream

from mt4pump.errors import did_you_mean
from mt4pump.private_files import changeable_by_others

FILE_BYTES_MAX = 4 * 1024 * 1024
INTEGER_BITS_MAX = 64
PREFIX = "MT4PUMP_"
CONSUMERS = ("ARCHIVE", "GATEWAY", "METRICS", "MONITOR", "NATS")
"""Programs whose variables begin with the daemon's prefix, too."""
DOTENV = Path(".env")
WORKING_FOLDER = "working directory"
"""Who asked for a file that was just found there: nobody."""
KUBERNETES = re.compile(r"(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
"""What Kubernetes sets, after the prefix, for a service named mt4pump or mt4pump-…, beside an address as ``…PORT``."""
KUBERNETES_ADDRESS = re.compile(r"(tcp|udp|sctp)://\S+:\d+")
SourceKind = Literal["flag", "environment", ".env", "file", "default"]


def read_toml(path: Path, bytes_max: int = FILE_BYTES_MAX) -> dict[str, Any]:
    """Return what stands in the file; errors as of `toml_and_text`."""
    return toml_and_text(path, bytes_max)[0]


def toml_and_text(path: Path, bytes_max: int = FILE_BYTES_MAX, *, is_chosen: bool = True) -> tuple[dict[str, Any], str]:
    """Return what stands in the file, and its text; raises ValueError that names it, what is wrong and what to do.

    ``is_chosen`` is as of `_read_text`.
    """
    text = _read_text(path, bytes_max, is_chosen=is_chosen)
    try:
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not TOML {_place_and_cure(str(error), text)}") from None
    except (ValueError, RecursionError):  # tomllib's, which it does not document
        raise ValueError(f"{path} has a number too long or brackets too deep to be read; correct it") from None


def _read_text(path: Path, bytes_max: int, *, is_chosen: bool) -> str:
    """Return the text of a file; raises ValueError that names it, what is wrong and what to do.

    Refused are files that other users may change: they say where secrets go and who may read what. The error repeats
    nothing of the file, which may hold secrets. ``is_chosen``: somebody named it; False for one in the working folder.
    """
    if fault := changeable_by_others(path, is_chosen=is_chosen):
        raise ValueError(fault)
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}; correct the path") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error}); make it readable") from None
    if len(content) > bytes_max:
        raise ValueError(f"{path} has more than {bytes_max} bytes; is it the right file?")
    try:
        return content.decode("utf-8-sig")  # Windows' editors write a byte order mark
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text; save it as UTF-8") from None


def line_of(key: str, text: str) -> int:
    """Return the number of the line on which the TOML ``text`` sets the top-level ``key``, 0 if it is not found."""
    found = re.search(rf"^[ \t]*[\"']?{re.escape(key)}[\"']?[ \t]*=", text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else 0


def table_lines(name: str, text: str) -> list[int]:
    """Return the lines on which the TOML ``text`` begins the top-level table ``name``; several for an array of them."""
    header = rf"^[ \t]*\[{{1,2}}[ \t]*[\"']?{re.escape(name)}[\"']?[ \t]*\]{{1,2}}[ \t\r]*(#.*)?$"
    return [text.count("\n", 0, found.start()) + 1 for found in re.finditer(header, text, re.MULTILINE)]


def is_oversized(value: object) -> bool:
    """Return whether ``value`` holds a whole number that TOML does not have: Python reads it and cannot show it."""
    if isinstance(value, list):
        return any(map(is_oversized, value))
    return isinstance(value, int) and value.bit_length() > INTEGER_BITS_MAX


def _place_and_cure(message: str, text: str) -> str:
    """Return where TOML ends, by tomllib's ``message``, the rest of which may quote the file, and what to write."""
    place = re.search(r"at line (\d+), column \d+", message)
    if place is None:
        return "at its end; write name = value, text in quotes"
    line = text.splitlines()[int(place[1]) - 1 : int(place[1])]
    if line and "\\" in line[0]:
        return rf"{place[0]}; write a path in single quotes: 'C:\folder\file'"
    return f"{place[0]}; write name = value, text in quotes"


@dataclass(frozen=True, slots=True)
class Naming:
    """How a program's settings are named; ``program`` is ``mt4pump`` (the daemon), or ``mt4pump-gateway`` and so on."""

    program: str
    help_command: str
    settings: Collection[str]

    @property
    def prefix(self) -> str:
        """Return what its variables begin with."""
        return self.program.upper().replace("-", "_") + "_"

    @property
    def file(self) -> Path:
        """Return the TOML file that it reads if nobody names one."""
        return Path(f"{self.program}.toml")

    @property
    def config(self) -> str:
        """Return the variable that names the TOML file; no setting, as that file cannot contain it."""
        return self.prefix + "CONFIG"

    def variable(self, name: str) -> str:
        """Return the environment variable of the setting ``name``."""
        return self.prefix + name.upper()

    def cure(self, name: str, spelled: Callable[[str], str] = str) -> str:
        """Return what to do about ``name``, which is no setting; ``spelled`` makes a setting's name one of its kind."""
        setting = name.lower().replace("-", "_").removeprefix(self.prefix.lower())
        return did_you_mean(setting, self.settings, f"remove it ({self.help_command} --help lists all)", spelled)

    def is_foreign(self, variable: str, value: str) -> bool:
        """Return whether the variable belongs to another program of ours, or is Kubernetes' own."""
        rest = variable.upper().removeprefix(PREFIX)
        if KUBERNETES.fullmatch(rest) or (rest.endswith("PORT") and KUBERNETES_ADDRESS.fullmatch(value)):
            return True
        return not variable.upper().startswith(self.prefix) or (
            self.prefix == PREFIX and rest.startswith(tuple(f"{name}_" for name in CONSUMERS))
        )


def flag_name(name: str) -> str:
    """Return the command line flag of the setting ``name``."""
    return "--" + name.replace("_", "-")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was set, for people: ``environment variable MT4PUMP_LOGIN``; ``place`` has a file's line, too."""

    kind: SourceKind
    text: str
    place: str = ""


DEFAULT = Origin("default", "default")
Variable = tuple[str, str, Origin]
"""Name, value and place of one variable of ``.env``."""


@dataclass(slots=True)
class Sources:
    """What the sources say together: the strongest value of each setting, and the problems met on the way.

    ``values`` are as their sources have them, not checked yet; ``origins`` has the same keys.
    """

    naming: Naming
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def read(self, flags: Mapping[str, object], environ: Mapping[str, str], config: Path | None) -> None:
        """Read all sources, the weakest first so that stronger ones overwrite it. A flag that is None was not given.

        A file that ``config`` or the environment names is stronger than ``.env``, which lies in the working folder
        unasked.
        """
        dotenv = list(self._read_dotenv())
        file, asked_by = self._config_file(environ, dotenv, config)
        is_named = config is not None or bool(environ.get(self.naming.config))
        if file is not None and not is_named:
            self._read_toml(file, asked_by)
        for name, value, origin in dotenv:
            self._add_variable(name, value, origin)
        if file is not None and is_named:
            self._read_toml(file, asked_by)
        for name in sorted(environ, reverse=True):  # capitals last: the exact name beats the same in other letters
            if name.upper().startswith(self.naming.prefix):
                self._add_variable(name, environ[name], Origin("environment", f"environment variable {name}"))
        for name, flag in flags.items():
            if flag is not None:
                self._add_flag(name, flag)

    def settings_file(self, environ: Mapping[str, str], config: Path | None) -> Path:
        """Return the TOML file that `read` reads, or the one it would read if it existed."""
        file, _ = self._config_file(environ, list(self._read_dotenv()), config)
        try:
            return (file or self.naming.file).expanduser()
        except RuntimeError:  # no home folder to put for ~; reading the settings reports it
            return self.naming.file

    def _config_file(
        self, environ: Mapping[str, str], dotenv: list[Variable], config: Path | None
    ) -> tuple[Path | None, str]:
        """Return the TOML file to read, if any, as it was written, and who asked for it."""
        if config is not None:
            return config, "--config"
        if named := environ.get(self.naming.config):
            return Path(named), f"environment variable {self.naming.config}"
        for name, value, origin in dotenv:
            if name.upper() == self.naming.config and value:
                return Path(value), origin.text
        return (self.naming.file, WORKING_FOLDER) if self.naming.file.exists() else (None, "")

    def _set(self, name: str, value: object, origin: Origin) -> None:
        self.values[name], self.origins[name] = value, origin

    def _add_flag(self, name: str, value: object) -> None:
        if name in self.naming.settings:
            self._set(name, value, Origin("flag", f"flag {flag_name(name)}"))
        else:
            self.problems.append(f"{flag_name(name)} (flag): no such flag; {self.naming.cure(name, flag_name)}")

    def _add_variable(self, name: str, value: str, origin: Origin) -> None:
        """Add one variable of the environment or of ``.env``; an empty one was not given."""
        prefix = self.naming.prefix
        is_ours = name.upper().startswith(prefix)
        setting = name.upper().removeprefix(prefix).lower()
        if name.upper() == self.naming.config:
            return
        if name.upper().startswith(PREFIX) and self.naming.is_foreign(name, value):
            if setting in self.naming.settings and is_ours:
                self.notes.append(f"{name} is ignored: {value} is what Kubernetes sets for a service of that name")
        elif is_ours and setting in self.naming.settings:
            if value:
                self._set(setting, value, origin)
        elif is_ours or prefix == PREFIX:  # a name without prefix in .env is the daemon's, mistyped
            where = "environment" if origin.kind == "environment" else origin.text.partition(",")[0]
            self.problems.append(f"{name} ({where}): no such setting; {self.naming.cure(name, self.naming.variable)}")

    def _read_dotenv(self) -> Iterator[Variable]:
        """Yield the variables of ``.env``; values are taken literally, so that a ``$`` in a password stays.

        What is wrong with the file stops the daemon. A consumer only notes it: the file may be another program's.
        """
        problems = self.problems if self.naming.prefix == PREFIX else self.notes
        if not DOTENV.is_file():  # people call folders so, too
            return
        try:
            text = _read_text(DOTENV, FILE_BYTES_MAX, is_chosen=False)
        except ValueError as error:
            problems.append(str(error))
            return
        for binding in parse_stream(io.StringIO(text, newline=None)):  # a line may end in \r\n
            yield from _variables(binding, problems)

    def _read_toml(self, file: Path, asked_by: str) -> None:
        try:
            values, text = toml_and_text(file.expanduser(), is_chosen=asked_by != WORKING_FOLDER)
        except RuntimeError as error:  # no home folder to put for ~
            self.problems.append(f"config ({asked_by}): {file} cannot be expanded: {error}; write the whole path")
        except ValueError as error:
            self.problems.append(f"config ({asked_by}): {error}")
        else:
            for name, value in values.items():
                self._add_key(name, value, file.expanduser(), line_of(name, text))

    def _add_key(self, name: str, value: object, file: Path, line: int) -> None:
        where = f"{file} line {line}" if line else str(file)
        if is_oversized(value):  # TOML has 64 bits; Python reads on, and then cannot even show what it read
            self.problems.append(f"{name} ({where}): has a whole number of more than 64 bits; write a smaller one")
        elif name in self.naming.settings:
            self._set(name, value, Origin("file", f"{file}, key {name}", f"{where}, key {name}"))
        elif isinstance(value, dict):
            self.problems.append(f"{name} ({where}): is a table; write all settings at the top, without [{name}]")
        else:
            self.problems.append(f"{name} ({where}): no such setting; {self.naming.cure(name)}")


def _variables(binding: Binding, problems: list[str]) -> Iterator[Variable]:
    text = binding.original.string
    # The parser counts blank lines before a binding as a part of it.
    line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
    if binding.error or (binding.key is not None and binding.value is None):
        problems.append(f"{DOTENV} line {line}: is not NAME=value; write that, or # before a comment")
    elif binding.key is not None and binding.value is not None:
        yield binding.key, binding.value, Origin(".env", f"{DOTENV} line {line}, {binding.key}")
