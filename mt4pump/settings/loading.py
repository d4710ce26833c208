"""Sources to Settings, or one error that lists everything that is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from mt4pump.errors import SettingsError
from mt4pump.escaping import one_line
from mt4pump.settings.problems import named, problem_lines
from mt4pump.settings.schema import Settings
from mt4pump.settings.sources import DEFAULT, Gathered, Origin, gather

NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Loaded:
    """Checked settings, and where each of them came from (every name of the schema is a key of ``origins``)."""

    settings: Settings
    origins: Mapping[str, Origin]


def load(
    flags: Mapping[str, object] = NOTHING, environ: Mapping[str, str] = os.environ, config: Path | None = None
) -> Settings:
    """Return the settings; see `read`."""
    return read(flags, environ, config).settings


def read(
    flags: Mapping[str, object] = NOTHING, environ: Mapping[str, str] = os.environ, config: Path | None = None
) -> Loaded:
    """Return the settings and their origins.

    Args:
        flags: setting name to value, as text or as the right type; None means not given.
        environ: the environment; names that start with ``MT4PUMP_`` are ours.
        config: TOML file; if None, ``MT4PUMP_CONFIG``, or ``mt4pump.toml`` in the working directory if it exists.

    Raises:
        SettingsError: the text has one line per problem: setting, origin, what is wrong, what would be right. It and
            its causes never contain the value of a secret.
    """
    gathered = gather(flags, environ, config)
    settings, wrong = _validated(gathered)
    problems = gathered.problems + wrong
    if settings is None or problems:
        raise SettingsError(_summary(problems))
    origins = {
        name: gathered.given[name].origin if name in gathered.given else DEFAULT for name in Settings.model_fields
    }
    return Loaded(settings, MappingProxyType(origins))


def setting_as_written(name: str, environ: Mapping[str, str] = os.environ, config: Path | None = None) -> Any:
    """Return the setting ``name`` before checking, whatever else is wrong: for programs that need that one alone."""
    given = gather(NOTHING, environ, config).given.get(name)
    return Settings.model_fields[name].get_default(call_default_factory=True) if given is None else given.value


def _summary(problems: Iterable[str]) -> str:
    return "\n  ".join(["settings are wrong:", *map(one_line, problems)])


def _validated(gathered: Gathered) -> tuple[Settings | None, list[str]]:
    """Return the settings, or what is wrong with the values.

    The error of pydantic holds the values, secrets too: nothing is raised while it is the current exception, so that it
    cannot become anybody's context.
    """
    values = {name: given.value for name, given in gathered.given.items()}
    origins = {name: given.origin for name, given in gathered.given.items()}
    try:
        return Settings(**values), []
    except ValidationError as error:
        wrong = named(error)
        lines = problem_lines(error, origins)
    if not wrong:
        return None, lines
    # Contradictions show only when every value is right by itself: look for them among the right ones.
    try:
        Settings(**{name: value for name, value in values.items() if name not in wrong})
    except ValidationError as error:
        lines += problem_lines(error, origins, without=wrong)
    return None, lines
