"""Text on the standard streams: log lines on standard error, and streams that are missing, closed or full.

A log line has one fact, for people or as JSON: people's lines have local time, JSON has UTC. What is logged never
breaks the program that logs: a line that cannot be written is dropped.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import math
import os
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any, Literal

SHOWN_SEPARATOR = "Zs"
"""Category of spaces: ``isprintable`` refuses all but U+0020, and the others are harmless."""


class _Escapes(dict[int, str]):
    """Code point to what stands for it; filled as characters come."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if char.isprintable() or unicodedata.category(char) == SHOWN_SEPARATOR:
            return char  # not kept: the table has only what is escaped, some thousand code points at most
        self[code] = text = char.encode("unicode_escape").decode()
        return text


_ESCAPES = _Escapes()


def one_line(text: str) -> str:
    r"""Return ``text`` with all that is not printable escaped, as ``\x1b``.

    That is: control characters (C0, DEL, C1), line and paragraph separators, characters of format (bidirectional
    marks, embeddings, overrides and isolates, zero-width ones, tags), lone surrogates, what is private or unassigned.
    """
    return text if text.isprintable() else text.translate(_ESCAPES)


_encode = json.JSONEncoder(separators=(", ", ": "), allow_nan=False).encode
DEPTH_MAX = 64
"""Levels of lists and maps; what lies deeper is replaced by a text, so that no value can exhaust the stack."""
TOO_DEEP = "(too deep)"


def json_line(value: object) -> str:
    """Return ``value`` as one line of JSON, without the line's end."""
    try:
        line = _encode(value)  # most values are plain already, and looking first would take longer
    except (ValueError, TypeError, RecursionError):
        line = _encode(_plain(value, 0))
    return line.replace("\x7f", "\\u007f")  # JSON takes DEL as it is; it can stand in a text only


def _plain(value: object, depth: int) -> Any:
    """Return ``value`` as JSON has it; ``depth`` is how many lists and maps contain it."""
    if value is None or isinstance(value, str | bool | int | float):
        return None if isinstance(value, float) and not math.isfinite(value) else value
    if not isinstance(value, dict | list | tuple | set | frozenset):
        return _text(value)
    if depth >= DEPTH_MAX:
        return TOO_DEEP
    if isinstance(value, dict):
        return {_text(key): _plain(each, depth + 1) for key, each in value.items()}
    return [_plain(each, depth + 1) for each in value]


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


QUIET_S = 60.0


class FaultCounters:
    """Counters of faults; ``counts`` is what the heartbeat shows. Names are few and fixed."""

    def __init__(self, log: logging.Logger, now_s: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        self._log = log
        self._now_s = now_s
        self._quiet_until_s: dict[str, float] = {}
        self._logged: Counter[str] = Counter()

    def count(self, name: str) -> None:
        """Count a fault of kind ``name`` that the caller logs."""
        self.counts[name] += 1

    def record(self, name: str, text: object, error: Exception | None = None) -> None:
        """Count a fault of kind ``name``; log ``text`` unless the same kind was logged within the last minute.

        ``error`` is a fault of our own, whose traceback is logged with it.
        """
        self.counts[name] += 1
        now_s = self._now_s()
        if now_s < self._quiet_until_s.get(name, 0.0):
            return
        self._quiet_until_s[name] = now_s + QUIET_S
        unseen = self.counts[name] - self._logged[name] - 1
        self._logged[name] = self.counts[name]
        more = f" ({unseen} more since the last such line)" if unseen else ""
        self._log.warning("%s: %s%s", name, text, more, exc_info=error)


LineFormat = Literal["human", "json"]
ROOT = "mt4pump."
MASK = "********"
SECRET_MIN_CHARS = 4
"""A shorter secret would hide half of every line and be no secret afterwards."""
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every log record has; anything else was given as ``extra`` and is shown as a field."""


def configure(level: str = "info", format: LineFormat = "human", secrets: Collection[str] = ()) -> None:  # noqa: A002
    """Send all logging, warnings included, to standard error; a further call replaces what the last one set up.

    ``level`` is ``debug``, ``info``, ``warning`` or ``error``; ``format`` is ``human`` or ``json`` (one object per
    line). ``secrets`` are masked wherever they appear, also where the settings' own masks do not reach.
    """
    handler = StderrHandler()
    handler.setFormatter(OneLineFormatter(secrets, as_json=format == "json"))
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, StderrHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)


class StderrHandler(logging.Handler):
    """Writes to whatever ``sys.stderr`` is at the moment: none at all, closed or full included."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, if that is possible."""
        try:
            line = self.format(record) + "\n"
        except Exception as error:  # noqa: BLE001 - wrong arguments of a log call; the place must still be logged
            line = f"log line lost: {record.name}:{record.lineno}: {type(error).__name__}\n"
        with contextlib.suppress(OSError, ValueError, AttributeError):  # gone, closed, None as under pythonw
            sys.stderr.write(line)
            sys.stderr.flush()


class OneLineFormatter(logging.Formatter):
    """One line per record, secrets masked.

    For people: ``2026-11-23 11:09:38.123 INFO    bridge.session  text key=value``, local time. With ``as_json`` one
    object: ``ts`` (ISO 8601, UTC, ms), ``level``, ``logger``, ``message``, then the fields.
    """

    def __init__(self, secrets: Collection[str], *, as_json: bool) -> None:
        super().__init__()
        usable = {secret for secret in secrets if len(secret) >= SECRET_MIN_CHARS}
        # Also as JSON, repr and we ourselves write it: fields may hold it deep inside.
        spelled = usable | {json.dumps(each)[1:-1] for each in usable} | {repr(each)[1:-1] for each in usable}
        self._secrets = sorted(spelled | {one_line(each) for each in usable}, key=len, reverse=True)
        self._line = self._json if as_json else self._human

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        fields = {name: value for name, value in vars(record).items() if name not in STANDARD}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        return self._mask(self._line(record, fields))

    def _mask(self, text: str) -> str:
        for secret in self._secrets:  # the longest first: one may contain another
            text = text.replace(secret, MASK)
        return text

    def _human(self, record: logging.LogRecord, fields: dict[str, Any]) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        head = f"{when}.{int(record.msecs):03d} {record.levelname:<7} {record.name.removeprefix(ROOT)}  "
        text = "".join(f" {name}={_field_text(self._mask(str(value)))}" for name, value in fields.items())
        return head + one_line(self._mask(record.getMessage())) + text

    def _json(self, record: logging.LogRecord, fields: dict[str, Any]) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry: dict[str, Any] = {
            "ts": when.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._mask(record.getMessage()),
        }
        for name, value in fields.items():
            entry[f"{name}_" if name in entry else name] = value
        return json_line(entry)


def _field_text(text: str) -> str:
    """Return a field's value, in quotes where its end could not be seen otherwise."""
    text = one_line(text)
    if not text or any(each in text for each in ' ="'):
        return '"' + text.replace('"', "'") + '"'
    return text


class NullStream(io.TextIOWrapper):
    """Accepts text and discards it."""

    def __init__(self) -> None:
        super().__init__(open(os.devnull, "wb"), "utf-8", "backslashreplace")  # noqa: SIM115, PTH123 - open to the end

    def isatty(self) -> bool:
        """Return False, also on Windows, which takes its null device for a terminal."""
        return False


def mend_streams() -> None:
    """Replace a missing standard output or error of this process (``>&-``, pythonw.exe).

    Neither ends the program for a character that it cannot show.
    """
    if sys.stdout is None:
        sys.stdout = NullStream()
    if sys.stderr is None:
        sys.stderr = NullStream()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def output_fault(error: OSError) -> OSError | None:
    """Return what keeps standard output from taking more, if it ended the command; BrokenPipeError: enough was read.

    ``error``, which did end it, does not show whether it is of standard output: another write does.
    """
    if isinstance(error, BrokenPipeError):
        return error
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError as fault:
        # Windows calls a pipe that nobody reads any more an invalid argument.
        return BrokenPipeError() if fault.errno == errno.EINVAL else fault
    return None


def drop_output() -> None:
    """Point standard output at nothing, so that Python's last flush does not fail loudly."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
