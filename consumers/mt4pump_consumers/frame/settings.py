"""Settings that all consumers have, and how they are read: flags, environment, TOML file, defaults."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from mt4pump_consumers.frame.toml_file import read_toml

Settings = TypeVar("Settings", bound="ConsumerSettings")


def settings_config(name: str) -> SettingsConfigDict:
    """Return the ``model_config`` of consumer ``name``: its prefix, its TOML file, its flags."""
    return SettingsConfigDict(
        env_prefix=f"MT4PUMP_{name.upper()}_",
        toml_file=f"mt4pump-{name}.toml",
        cli_prog_name=f"mt4pump-{name}",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        env_parse_none_str="none",
    )


class ConsumerSettings(BaseSettings):
    """Where the stream is, how to log. A consumer derives its own settings from this, with `settings_config`."""

    endpoint: str = Field("tcp://127.0.0.1:5556", description="address that mt4pump publishes on")
    query_endpoint: str | None = Field(
        None, description="address that mt4pump answers queries on; the next port after endpoint's if not set"
    )
    keys: Path | None = Field(None, description="file of CURVE keys that `mt4pump keygen client` made")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least important lines to log")
    log_format: Literal["human", "json"] = Field("human", description="lines for people, or one JSON object per line")
    config: Path | None = Field(None, description="TOML file with settings, in place of the one in the working folder")

    @property
    def query_address(self) -> str:
        """Return where questions go: as set, or the port after the stream's; raises ValueError where it has none."""
        if self.query_endpoint is not None:
            return self.query_endpoint
        host, _, port = self.endpoint.rpartition(":")
        if not port.isdecimal():
            raise ValueError(f"endpoint {self.endpoint} has no port to count on from: give query-endpoint")
        return f"{host}:{int(port) + 1}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings calls by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags and arguments first, then the environment, then the TOML file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def read(settings_class: type[Settings], arguments: list[str]) -> Settings:
    """Return the settings from ``arguments`` (flags) and the other sources; ends the program on ``--help``.

    Raises pydantic's ValidationError, pydantic-settings' SettingsError, or ValueError (a file or a name that is wrong).
    """
    name = str(settings_class.model_config["cli_prog_name"])
    prefix = str(settings_class.model_config["env_prefix"])
    _refuse_unknown_variables(settings_class, prefix)
    file = _config_file(arguments) or os.environ.get(f"{prefix}CONFIG")
    if file and not Path(file).is_file():
        raise ValueError(f"config: there is no file {file}; write one, or leave --config out")
    toml = file or settings_class.model_config.get("toml_file")
    if isinstance(toml, str) and Path(toml).is_file():
        read_toml(Path(toml), is_chosen=bool(file))  # for the words: pydantic-settings reads it once more
    config = SettingsConfigDict(toml_file=toml)
    placed = type(
        name, (settings_class,), {"model_config": config, "__module__": __name__, "__doc__": settings_class.__doc__}
    )
    return placed(_cli_parse_args=arguments, _cli_show_env_vars=True)  # type: ignore[no-any-return]


def _config_file(arguments: list[str]) -> str | None:
    """Return the value of ``--config``, which must be known before the other settings are read."""
    for position, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag == "--config":
            return value if equals else next(iter(arguments[position + 1 :]), None)
    return None


def _refuse_unknown_variables(settings_class: type[ConsumerSettings], prefix: str) -> None:
    """Stop at a mistyped variable: a setting that silently does nothing is worse than none."""
    known = {f"{prefix}{field}".upper() for field in settings_class.model_fields}
    for variable in os.environ:
        if variable.upper().startswith(prefix) and variable.upper() not in known:
            near = difflib.get_close_matches(variable.upper(), known, 1)
            cure = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise ValueError(f"{variable}: there is no such setting; {cure}")
