"""Where settings come from: reads the sources, keeps the origin of every value, and notes what it cannot place.

No problem's text contains a value: it may be a secret under a mistyped name.
"""

from __future__ import annotations

import io
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dotenv.parser import Binding, parse_stream

from mt4pump.private_files import changeable_by_others
from mt4pump.settings.schema import PREFIX, SettingFields, environment_name, flag_name
from mt4pump.settings.validators import nearest

CONFIG = PREFIX + "CONFIG"
"""The variable that names the TOML file; no setting, as that file cannot contain it."""
DEFAULT_FILE = Path("mt4pump.toml")
DOTENV = Path(".env")
WORKING_FOLDER = "working directory"
"""Who asked for a file that was just found there: nobody."""
FILE_BYTES_MAX = 1024 * 1024
"""A larger file is none of settings."""
INTEGER_BITS_MAX = 64
SEE_HELP = "mt4pump run --help lists all"

Kind = Literal["flag", "environment", ".env", "file", "default"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was set; ``text`` is for people: ``environment variable MT4PUMP_LOGIN``."""

    kind: Kind
    text: str


DEFAULT = Origin("default", "default")


@dataclass(frozen=True, slots=True)
class Given:
    """A value as its source has it, not checked yet."""

    value: Any
    origin: Origin


@dataclass(slots=True)
class Gathered:
    """What the sources say together: the strongest value of each setting, and the problems met on the way."""

    given: dict[str, Given] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def gather(flags: Mapping[str, object], environ: Mapping[str, str], config: Path | None) -> Gathered:
    """Read all sources, the weakest first so that stronger ones overwrite it. A flag that is None was not given.

    A file that ``config`` or the environment names is stronger than ``.env``, which lies in the working folder unasked.
    """
    gathered = Gathered()
    dotenv = list(_dotenv(gathered))
    file, asked_by = _config_file(environ, dotenv, config)
    is_named = config is not None or bool(environ.get(CONFIG))
    if file is not None and not is_named:
        _take_toml(gathered, file, asked_by, is_chosen=asked_by != WORKING_FOLDER)
    for line, name, value in dotenv:
        _take_variable(gathered, name, value, Origin(".env", f"{DOTENV} line {line}, {name}"))
    if file is not None and is_named:
        _take_toml(gathered, file, asked_by, is_chosen=True)
    for name in sorted(environ, reverse=True):  # capitals last: the exact name beats the same in other letters
        if name.upper().startswith(PREFIX):
            _take_variable(gathered, name, environ[name], Origin("environment", f"environment variable {name}"))
    for name, flag in flags.items():
        if flag is not None:
            _take_flag(gathered, name, flag)
    return gathered


def settings_file(environ: Mapping[str, str], config: Path | None) -> Path:
    """Return the TOML file that `gather` reads, or the one it would read if it existed."""
    file, _ = _config_file(environ, list(_dotenv(Gathered())), config)
    try:
        return (file or DEFAULT_FILE).expanduser()
    except RuntimeError:  # no home folder to put for ~; reading the settings reports it
        return DEFAULT_FILE


def _config_file(
    environ: Mapping[str, str], dotenv: list[tuple[int, str, str]], config: Path | None
) -> tuple[Path | None, str]:
    """Return the TOML file to read, if any, as it was written, and who asked for it."""
    if config is not None:
        return config, "--config"
    if named := environ.get(CONFIG):
        return Path(named), f"environment variable {CONFIG}"
    for line, name, value in dotenv:
        if name.upper() == CONFIG and value:
            return Path(value), f"{DOTENV} line {line}, {name}"
    return (DEFAULT_FILE, WORKING_FOLDER) if DEFAULT_FILE.exists() else (None, "")


def _take_flag(gathered: Gathered, name: str, value: object) -> None:
    if name in SettingFields.model_fields:
        gathered.given[name] = Given(value, Origin("flag", f"flag {flag_name(name)}"))
        return
    near = _near_setting(name)
    gathered.problems.append(f"{flag_name(name)} (flag): no such flag; {_did_you_mean(near and flag_name(near))}")


def _take_variable(gathered: Gathered, name: str, value: str, origin: Origin) -> None:
    """Take one variable of the environment or of ``.env``; an empty one was not given."""
    setting = name.upper().removeprefix(PREFIX).lower()
    if name.upper() == CONFIG:
        return
    if name.upper().startswith(PREFIX) and setting in SettingFields.model_fields:
        if value:
            gathered.given[setting] = Given(value, origin)
        return
    where = "environment" if origin.kind == "environment" else origin.text.partition(",")[0]
    near = _near_setting(name)
    cure = _did_you_mean(near and environment_name(near))
    gathered.problems.append(f"{name} ({where}): no such setting; {cure}")


def _dotenv(gathered: Gathered) -> Iterator[tuple[int, str, str]]:
    """Yield line, name and value of ``.env``; values are taken literally, so that a ``$`` in a password stays."""
    if not DOTENV.is_file():  # people call folders so, too
        return
    if fault := changeable_by_others(DOTENV, is_chosen=False):
        gathered.problems.append(f"{DOTENV}: {fault}")
        return
    try:
        # utf-8-sig: Windows' editors put a mark at the start, which would become part of the first name.
        with DOTENV.open(encoding="utf-8-sig") as stream:
            text = stream.read(FILE_BYTES_MAX + 1)
    except UnicodeDecodeError:
        gathered.problems.append(f"{DOTENV}: is not UTF-8 text; save it as UTF-8")
        return
    except OSError as error:
        gathered.problems.append(f"{DOTENV}: cannot be read ({error.strerror}); make it readable, or remove it")
        return
    if len(text) > FILE_BYTES_MAX:
        gathered.problems.append(f"{DOTENV}: has more than {FILE_BYTES_MAX} characters; keep settings alone in it")
        return
    for binding in parse_stream(io.StringIO(text)):
        yield from _bound(gathered, binding)


def _bound(gathered: Gathered, binding: Binding) -> Iterator[tuple[int, str, str]]:
    text = binding.original.string
    # The parser counts blank lines before a binding as a part of it.
    line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
    if binding.error or (binding.key is not None and binding.value is None):
        gathered.problems.append(f"{DOTENV} line {line}: is not NAME=value; write that, or # before a comment")
    elif binding.key is not None and binding.value is not None:
        yield line, binding.key, binding.value


def _take_toml(gathered: Gathered, file: Path, asked_by: str, *, is_chosen: bool) -> None:
    try:
        file = file.expanduser()
    except RuntimeError as error:  # no home folder to put for ~
        gathered.problems.append(f"config ({asked_by}): {file} cannot be expanded: {error}; write the whole path")
        return
    if fault := changeable_by_others(file, is_chosen=is_chosen):
        gathered.problems.append(f"config ({asked_by}): {fault}")
        return
    try:
        with file.open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
        values = tomllib.loads(content.decode("utf-8-sig")) if len(content) <= FILE_BYTES_MAX else None
    except FileNotFoundError:
        gathered.problems.append(f"config ({asked_by}): there is no file {file}; correct the path")
    except OSError as error:
        gathered.problems.append(f"config ({asked_by}): {file} cannot be read ({error.strerror}); make it readable")
    except UnicodeDecodeError:
        gathered.problems.append(f"config ({asked_by}): {file} is not UTF-8 text; save it as UTF-8")
    except tomllib.TOMLDecodeError as error:
        where = str(error).rpartition("(")[2].rstrip(")")  # the rest of the message may quote the file
        gathered.problems.append(f"config ({asked_by}): {file} is not TOML {where}; write name = value, text in quotes")
    except (ValueError, RecursionError):  # tomllib's, which it does not say
        text = "has a number too long or brackets too deep to be read; correct it"
        gathered.problems.append(f"config ({asked_by}): {file} {text}")
    else:
        if values is None:
            text = f"has more than {FILE_BYTES_MAX} bytes; keep settings alone in it"
            gathered.problems.append(f"config ({asked_by}): {file} {text}")
        for name, value in (values or {}).items():
            _take_key(gathered, name, value, file)


def _take_key(gathered: Gathered, name: str, value: object, file: Path) -> None:
    if _is_oversized(value):  # TOML has 64 bits; Python reads on, and then cannot even show what it read
        gathered.problems.append(f"{name} ({file}): has a whole number of more than 64 bits; write a smaller one")
    elif name in SettingFields.model_fields:
        gathered.given[name] = Given(value, Origin("file", f"{file}, key {name}"))
    elif isinstance(value, dict):
        gathered.problems.append(f"{name} ({file}): is a table; write all settings at the top, without [{name}]")
    else:
        near = _near_setting(name)
        gathered.problems.append(f"{name} ({file}): no such setting; {_did_you_mean(near)}")


def _is_oversized(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_is_oversized, value))
    return isinstance(value, int) and value.bit_length() > INTEGER_BITS_MAX


def _near_setting(name: str) -> str | None:
    plain = name.lower().replace("-", "_").removeprefix(PREFIX.lower())
    return nearest(plain, SettingFields.model_fields)


def _did_you_mean(near: str | None) -> str:
    return f"did you mean {near}?" if near else f"remove it ({SEE_HELP})"
