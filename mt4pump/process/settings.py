"""Settings of every program of ours: the base of their schemas, and `read`, which checks what the sources say.

Sources, strongest first: command line flags, environment (``MT4PUMP_…``), a TOML file that somebody named, ``.env`` in
the working directory, a TOML file that lies there, defaults. One error lists everything that is wrong.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic import model_validator as validates_model
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mt4pump.errors import SettingsError, did_you_mean
from mt4pump.log import one_line
from mt4pump.process.sources import DEFAULT, Naming, Origin, Sources
from mt4pump.process.values import is_loopback, size_text, text_list

NOT_SET = "not set"
SHOWN_MAX = 60
"""Characters of a wrong value that a message repeats."""
DISAGREEMENT = "disagreement"
"""Type of the pydantic error for settings that contradict each other."""
NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Disagreement:
    """``text`` says what is wrong with the first of ``names`` in view of the others, and what would be right."""

    names: tuple[str, ...]
    text: str


def setting(group: str, description: str, default: Any = None, **more: Any) -> Any:
    """Return a field of a schema, shown in ``group`` of the help.

    ``more``: ``metavar`` and ``shown`` (how the help shows value and default), ``or_max`` (for a number that may also
    be ``max``), and what pydantic's Field takes.
    """
    own: Any = {key: more.pop(key) for key in ("metavar", "shown", "or_max") if key in more}
    if "default_factory" not in more:
        more["default"] = default
    return Field(description=description, json_schema_extra={"group": group, **own}, **more)


def both_or_none(settings: ProgramSettings, name: str, other: str) -> Iterator[Disagreement]:
    """Yield a disagreement if one of two settings is set and the other is not."""
    given = (getattr(settings, name) is not None, getattr(settings, other) is not None)
    if given[0] != given[1]:
        names = (name, other) if given[0] else (other, name)
        first, second = (each.replace("_", "-") for each in (name, other))
        yield Disagreement(names, f"{first} and {second} go together: give both, or none")


def tls_disagreements(settings: Any) -> Iterator[Disagreement]:
    """Yield what is unsafe for a program that serves on ``host``, with ``tls_certificate`` and ``tls_key``."""
    yield from both_or_none(settings, "tls_certificate", "tls_key")
    if not is_loopback(settings.host) and settings.tls_certificate is None and not settings.allow_plaintext:
        text = f"{settings.host} is open to other machines: give tls-certificate, or allow-plaintext"
        yield Disagreement(("host", "tls_certificate", "allow_plaintext"), text)


class ProgramSettings(BaseSettings):
    """Base of a program's settings: a frozen field per setting, made by `setting`.

    ``program`` names all else: ``mt4pump-gateway`` has variables ``MT4PUMP_GATEWAY_…`` and a file
    ``mt4pump-gateway.toml``. Made directly, it takes its arguments and defaults, never the environment.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=False)
    program: ClassVar[str]
    help_command: ClassVar[str]

    @classmethod
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the caller only: `Sources` reads the rest, with the origin of each value."""
        return (sources["init_settings"],)

    def disagreements(self) -> Iterator[Disagreement]:
        """Yield the settings that are right one by one and wrong together."""
        yield from ()

    @classmethod
    def naming(cls) -> Naming:
        """Return how the settings are named in each source."""
        return Naming(cls.program, cls.help_command, cls.model_fields)

    @validates_model(mode="after")
    def _agree(self) -> Self:
        if found := list(self.disagreements()):
            text = "; ".join(f"{each.names[0]} {each.text}" for each in found)
            raise PydanticCustomError(DISAGREEMENT, "{text}", {"text": text, "found": found})
        return self

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: Any, info: ValidationInfo) -> Any:
        """Split lists, and refuse ``login = true``, which pydantic would take for 1."""
        name = str(info.field_name)
        if isinstance(value, bool) and not is_boolean(cls, name):
            raise PydanticCustomError("boolean", "true and false are no numbers")
        return text_list(value) if is_list(cls, name) else value


SettingsClass = type[ProgramSettings]
S = TypeVar("S", bound=ProgramSettings)


def is_secret(schema: SettingsClass, name: str) -> bool:
    """Return whether the setting's value must never be shown."""
    return "SecretStr" in str(schema.model_fields[name].annotation)


def is_list(schema: SettingsClass, name: str) -> bool:
    """Return whether the setting holds several values."""
    return isinstance(schema.model_fields[name].default, tuple)


def is_boolean(schema: SettingsClass, name: str) -> bool:
    """Return whether the setting is yes or no."""
    return schema.model_fields[name].annotation is bool


def extra_of(schema: SettingsClass, name: str) -> dict[str, Any]:
    """Return what `setting` was given beside pydantic's own."""
    extra = schema.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)  # noqa: S101 - every field is made by `setting`
    return extra


def secrets_in(settings: ProgramSettings) -> list[str]:
    """Return the texts that the log must mask."""
    values = (getattr(settings, name) for name in type(settings).model_fields)
    return [value.get_secret_value() for value in values if isinstance(value, SecretStr)]


@dataclass(frozen=True, slots=True)
class Loaded(Generic[S]):
    """Checked settings, and where each of them came from (every name of the schema is a key of ``origins``).

    ``notes`` are sentences for the log: what was found and not used, or should be given in another way.
    """

    settings: S
    origins: Mapping[str, Origin]
    notes: tuple[str, ...] = ()


def read(
    schema: type[S],
    flags: Mapping[str, object] = NOTHING,
    environ: Mapping[str, str] = os.environ,
    config: Path | None = None,
) -> Loaded[S]:
    """Return the settings and their origins; raises SettingsError.

    ``flags`` are values by setting, as text or as the right type; None means not given. ``config`` is the TOML file; if
    None, the one that the program's ``…_CONFIG`` variable names, or the one with the program's name in the working
    directory. The error's text has one line per problem: setting, origin, what is wrong, what would be right. It and
    its causes never contain the value of a secret.
    """
    sources = Sources(schema.naming())
    sources.read(flags, environ, config)
    settings, wrong = _validated(schema, sources)
    problems = sources.problems + wrong
    if settings is None or problems:
        raise SettingsError("\n  ".join(["settings are wrong:", *map(one_line, problems)]))
    origins = {name: sources.origins.get(name, DEFAULT) for name in schema.model_fields}
    notes = [*sources.notes, *_notes_on_secrets(schema, origins)]
    return Loaded(settings, MappingProxyType(origins), tuple(notes))


def _notes_on_secrets(schema: SettingsClass, origins: Mapping[str, Origin]) -> Iterator[str]:
    for name, origin in origins.items():
        if origin.kind == "flag" and is_secret(schema, name):
            cure = f"set {schema.naming().variable(name)} in the environment or in .env"
            yield f"{name} was given as a flag, which other users see in the list of processes: {cure}"


def _validated(schema: type[S], sources: Sources, without: Collection[str] = frozenset()) -> tuple[S | None, list[str]]:
    """Return the settings, or what is wrong with the values; those named in ``without`` are left out.

    The error of pydantic holds the values, secrets too: nothing is raised while it is the current exception, so that it
    cannot become anybody's context.
    """
    try:
        return schema(**{name: value for name, value in sources.values.items() if name not in without}), []
    except ValidationError as error:
        errors = error.errors()
    lines = _problem_lines(schema, errors, sources.origins, without)
    # Contradictions show only when every value is right by itself: look for them among the right ones.
    wrong = {str(each["loc"][0]) for each in errors if each["loc"]}
    if wrong and not without:
        lines += _validated(schema, sources, wrong)[1]
    return None, lines


def _problem_lines(
    schema: SettingsClass, errors: list[ErrorDetails], origins: Mapping[str, Origin], without: Collection[str]
) -> list[str]:
    """Return the lines of ``errors``, leaving out contradictions that involve settings named in ``without``."""
    lines = []
    with_wrong_parts = {each["loc"][0] for each in errors if len(each["loc"]) > 1}
    for each in errors:
        if len(each["loc"]) == 1 and each["loc"][0] in with_wrong_parts:
            continue  # pydantic takes a list whose parts are wrong for an empty one
        if each["type"] == DISAGREEMENT:
            found: list[Disagreement] = each["ctx"]["found"]
            lines += [_line(d.names[0], origins, d.text) for d in found if set(d.names).isdisjoint(without)]
        else:
            name = str(each["loc"][0])
            lines.append(_line(name, origins, _wrong(schema, name, each)))
    return lines


def _line(name: str, origins: Mapping[str, Origin], text: str) -> str:
    origin = origins.get(name)
    return f"{name} ({origin.place or origin.text if origin else NOT_SET}): {text}"


def _wrong(schema: SettingsClass, name: str, error: ErrorDetails) -> str:
    """Return what is wrong and what would be right."""
    if error["type"] == "value_error":  # raised by a validator of ours, which never repeats a secret
        return str(error["ctx"]["error"])
    if is_secret(schema, name):
        return "the value (not shown) is empty or not text; write text, in a file within quotes"
    if error["input"] == ():
        return f"is empty; write {expected(schema, name)}"
    shown = repr(error["input"])
    shown = shown if len(shown) <= SHOWN_MAX else shown[: SHOWN_MAX - 1] + "…"
    cure = did_you_mean(str(error["input"]).lower(), _json_schemas(schema)[name].get("enum", ()))
    return f"{shown} is not {expected(schema, name, item=len(error['loc']) > 1)}{cure and f'; {cure}'}"


def expected(schema: SettingsClass, name: str, *, item: bool = False) -> str:
    """Return what a right value is: ``a number of seconds from 0.01 to 3600``. ``item``: of one part of a list."""
    found = _json_schemas(schema)[name]
    if item:
        found = found.get("items", {})
    if choices := found.get("enum"):
        return " or ".join([", ".join(choices[:-1]), choices[-1]])
    noun = {
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "array": f"a list{' that is not empty' * bool(found.get('minItems'))}: text with commas, or an array of texts",
    }.get(found.get("type", ""), "text")
    shown: Callable[[float], str] = _plain
    if name.endswith("_s") and not name.endswith("_per_s"):
        noun += " of seconds"
    if name.endswith("_bytes") and found.get("minimum", 0) >= 0:
        noun, shown = "a size", size_text
    return noun + _bounds(found, shown) + (", or max" if extra_of(schema, name).get("or_max") else "")


def _bounds(schema: Mapping[str, Any], shown: Callable[[float], str]) -> str:
    parts = []
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high = schema.get("maximum")
    if above is not None:
        parts.append(f"above {above:g}" + (f" and at most {shown(high)}" if high is not None else ""))
    elif low is not None:
        parts.append(f"from {shown(low)} to {shown(high)}" if high is not None else f"of at least {shown(low)}")
    if "multipleOf" in schema:
        parts.append(f"in steps of {shown(schema['multipleOf'])}")
    if schema.get("minLength"):
        parts.append("that is not empty")
    return "".join(f" {part}" for part in parts)


def _plain(number: float) -> str:
    """Return a number without an exponent or a useless ``.0``."""
    return f"{number:.6f}".rstrip("0").rstrip(".")


@functools.cache
def _json_schemas(schema: SettingsClass) -> dict[str, dict[str, Any]]:
    """Return each setting's JSON schema, ``or null`` left out."""
    found = {}
    for name, whole in schema.model_json_schema()["properties"].items():
        parts = [part for part in whole.get("anyOf", [whole]) if part.get("type") != "null"]
        found[name] = parts[0]
    return found
