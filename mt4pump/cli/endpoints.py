"""Which of the daemon's addresses a command connects to."""

from __future__ import annotations

from mt4pump.cli.topics import connectable
from mt4pump.errors import SettingsError
from mt4pump.settings import setting_as_written
from mt4pump.settings.values import endpoint as checked_endpoint
from mt4pump.settings.values import endpoint_host, none_or_text

ANY_PORT = frozenset({"*", "0"})


def endpoint_of(flag: str | None, setting: str = "pub_endpoint") -> str:
    """Return the address to connect to: the flag's, else the daemon's as this machine's settings have it.

    Raises SettingsError when it is none, or names no certain port.
    """
    written = none_or_text(flag or setting_as_written(setting))
    name = "--endpoint" if flag else setting
    if written is None:
        raise _wrong(name, "is none: this daemon answers no questions; set it, or --endpoint to another daemon's")
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
