"""What `load` complains about, for the tests to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from mt4pump.errors import SettingsError
from mt4pump.settings import load

SIMULATOR = {"source": "simulator"}


def problems_of(
    flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None, config: Path | None = None
) -> list[str]:
    """Return the lines of the error that loading must raise, without its headline."""
    with pytest.raises(SettingsError) as caught:
        load(flags or {}, environ or {}, config)
    headline, *lines = str(caught.value).splitlines()
    assert headline == "settings are wrong:"
    return [line.strip() for line in lines]


def problem_of(name: str, value: object) -> str:
    """Return the one line about the setting ``name`` given as ``value`` by flag, without name and origin."""
    source = {} if name == "source" else SIMULATOR
    lines = problems_of({**source, name: value})
    assert len(lines) == 1, lines
    start = f"{name} (flag --{name.replace('_', '-')}): "
    assert lines[0].startswith(start)
    return lines[0].removeprefix(start)
