"""``mt4pump check``: the effective settings, and whether a start would work."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from mt4pump.cli.checks import Finding, run_checks
from mt4pump.cli.stdio import StdoutConsole
from mt4pump.errors import SettingsError
from mt4pump.log import MASK, json_line, one_line
from mt4pump.process.arguments import add_settings, given_settings
from mt4pump.process.settings import Loaded, is_secret
from mt4pump.process.values import NONE, size_text
from mt4pump.settings import Settings, read
from mt4pump.settings.validators import suffix_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--json`` and the settings."""
    parser.add_argument("--json", action="store_true", help="one JSON object in place of table and lines")
    add_settings(parser, Settings)


def command(args: argparse.Namespace) -> int:
    """Show and try. Returns 0 when all is well, 2 when settings are wrong, 3 when anything else is."""
    try:
        loaded = read(given_settings(args), config=args.config)
    except SettingsError as error:
        _, *problems = str(error).splitlines()
        _show(None, [Finding("settings", ok=False, text=problem.strip()) for problem in problems], as_json=args.json)
        return 2
    findings = [Finding("settings", ok=True, text="valid"), *run_checks(loaded.settings)]
    _show(loaded, findings, as_json=args.json)
    return 0 if all(finding.ok for finding in findings) else 3


def plain_value(name: str, settings: Settings) -> Any:
    """Return a setting's value as JSON has it: paths as text, endless pace as ``max``, a secret as a mask."""
    value = getattr(settings, name)
    if value is not None and is_secret(Settings, name):
        return MASK
    if isinstance(value, tuple):
        return [str(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    return "max" if value == math.inf else value


def value_text(name: str, settings: Settings) -> str:
    """Return a setting's value as one would write it."""
    value = plain_value(name, settings)
    if name == "topic_suffix":
        return suffix_text(settings.topic_suffix)
    if value is None or value == []:
        return NONE if name == "query_endpoint" else "-"
    if name.endswith("_bytes"):
        return size_text(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(value) if isinstance(value, list) else str(value)


def _show(loaded: Loaded[Settings] | None, findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        print(json_line(report(loaded, findings)))
        return
    console = StdoutConsole()
    if loaded is not None:
        console.print(table(loaded))
    for finding in findings:
        console.print(line(finding), soft_wrap=True)


def report(loaded: Loaded[Settings] | None, findings: list[Finding]) -> dict[str, object]:
    """Return what ``--json`` prints; ``settings`` is null when they are wrong."""
    settings = None
    if loaded is not None:
        settings = {
            name: {"value": plain_value(name, loaded.settings), "from": origin.text}
            for name, origin in loaded.origins.items()
        }
    return {
        "ok": all(finding.ok for finding in findings),
        "settings": settings,
        "checks": [{"what": finding.what, "ok": finding.ok, "text": finding.text} for finding in findings],
    }


def table(loaded: Loaded[Settings]) -> Table:
    """Return the settings as a table; what is not a default stands out."""
    made = Table("setting", "value", "from", box=None, pad_edge=False, header_style="bold")
    for name, origin in loaded.origins.items():
        value = Text(one_line(value_text(name, loaded.settings)))
        made.add_row(Text(name), value, Text(one_line(origin.text)), style="dim" if origin.kind == "default" else "")
    return made


def line(finding: Finding) -> Text:
    """Return one finding as a line: ``ok      data_dir  …``."""
    status = Text("ok      ", "green") if finding.ok else Text("not ok  ", "bold red")
    return status + Text(f"{finding.what:<17} {one_line(finding.text)}")
