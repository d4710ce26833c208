"""Log lines on standard error: one line per fact, for people or as JSON.

People's lines have local time; JSON has UTC. What is logged never breaks the program that logs: a line that cannot be
written is counted (`lost_lines`) and forgotten.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Literal

from mt4pump.escaping import one_line
from mt4pump.json_line import json_line

Format = Literal["human", "json"]
ROOT = "mt4pump."
MASK = "********"
SECRET_MIN_CHARS = 4
"""A shorter secret would hide half of every line and be no secret afterwards."""
FIELDS = "mt4pump_fields"
"""Attribute of a record that holds the fields of `fact`."""
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", FIELDS}
"""What every log record has; anything else was given as ``extra`` and is shown as a field."""


def configure(level: str = "info", format: Format = "human", secrets: Collection[str] = ()) -> None:  # noqa: A002
    """Send all logging, warnings included, to standard error; a further call replaces what the last one set up.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        format: ``human`` lines, or ``json``: one object per line.
        secrets: texts to blot out wherever they appear, as a second guard behind the settings' own masks.
    """
    handler = StderrHandler()
    handler.setFormatter((JsonFormatter if format == "json" else HumanFormatter)(secrets))
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, StderrHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)


def fact(logger: logging.Logger, level: int, message: str, /, **fields: object) -> None:
    """Log one fact: a sentence, and its values as fields (``key=value``, or keys of the JSON object)."""
    logger.log(level, message, extra={FIELDS: fields}, stacklevel=2)


def lost_lines() -> int:
    """Return how many lines could not be written since `configure`."""
    return sum(each.lost for each in logging.getLogger().handlers if isinstance(each, StderrHandler))


class StderrHandler(logging.Handler):
    """Writes to whatever ``sys.stderr`` is at the moment: none at all, closed or full included."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or count it as lost."""
        try:
            line = self.format(record) + "\n"
        except Exception as error:  # noqa: BLE001 - wrong arguments of a log call; the place must still be told
            line = f"log line lost: {record.name}:{record.lineno}: {type(error).__name__}\n"
        try:
            sys.stderr.write(line)
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):  # gone, closed, None as under pythonw and services
            self.lost += 1


class OneLineFormatter(logging.Formatter):
    """What both formats share: fields, tracebacks, and secrets blotted out."""

    def __init__(self, secrets: Collection[str] = ()) -> None:
        super().__init__()
        usable = {secret for secret in secrets if len(secret) >= SECRET_MIN_CHARS}
        # Also as JSON, repr and we ourselves write it: fields may hold it deep inside.
        spelled = usable | {json.dumps(each)[1:-1] for each in usable} | {repr(each)[1:-1] for each in usable}
        self._secrets = sorted(spelled | {one_line(each) for each in usable}, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        return self.blot(self.line(record))

    def blot(self, text: str) -> str:
        """Return ``text`` with the secrets masked, the longest first: one may contain another."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def line(self, record: logging.LogRecord) -> str:
        """Return the record as one line, secrets not yet looked for."""
        raise NotImplementedError

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return the record's own fields, then its traceback, if any."""
        found = {name: value for name, value in vars(record).items() if name not in STANDARD}
        found |= getattr(record, FIELDS, {})
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            found["stack"] = self.formatStack(record.stack_info)
        return found


class HumanFormatter(OneLineFormatter):
    """``2026-11-23 11:09:38.123 INFO    bridge.session  text key=value``, local time."""

    def line(self, record: logging.LogRecord) -> str:
        """Return the record as a line for people."""
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        head = f"{when}.{int(record.msecs):03d} {record.levelname:<7} {record.name.removeprefix(ROOT)}  "
        fields = "".join(f" {name}={_field_text(self.blot(str(value)))}" for name, value in self.fields(record).items())
        return head + one_line(self.blot(record.getMessage())) + fields


class JsonFormatter(OneLineFormatter):
    """One object: ``ts`` (ISO 8601, UTC, ms), ``level``, ``logger``, ``message``, then the fields."""

    def line(self, record: logging.LogRecord) -> str:
        """Return the record as one JSON object."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry: dict[str, Any] = {
            "ts": when.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.blot(record.getMessage()),
        }
        for name, value in self.fields(record).items():
            entry[f"{name}_" if name in entry else name] = value
        return json_line(entry)


def _field_text(text: str) -> str:
    """Return a field's value, in quotes where its end could not be seen otherwise."""
    text = one_line(text)
    if not text or any(each in text for each in ' ="'):
        return '"' + text.replace('"', "'") + '"'
    return text
