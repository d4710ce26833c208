"""The log of a consumer: lines for people, or one JSON object per line, on stderr."""

from __future__ import annotations

import logging
import sys
import time

from pythonjsonlogger.json import JsonFormatter

from mt4pump.client import one_line

HUMAN = "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s"


class HumanLine(logging.Formatter):
    """Makes a record one line, whatever the feed, a client or a token wrote into it; a traceback is in that line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text for people."""
        return one_line(super().format(record))


class JsonLine(JsonFormatter):
    """Makes a record one JSON object in plain ASCII, DEL escaped as well."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        return super().format(record).replace("\x7f", "\\u007f")


def configure(level: str, style: str) -> None:
    """Send the log of the whole program to stderr, in UTC."""
    formatter: logging.Formatter
    if style == "json":
        formatter = JsonLine(
            "%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields={"asctime": "time", "levelname": "level"}
        )
    else:
        formatter = HumanLine(HUMAN, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
