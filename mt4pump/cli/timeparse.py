"""Parses times as people write them: ``2026-11-23T11:00``, ``11:00``, ``10m`` (ago); pure, the caller passes now."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
EXAMPLE = "write 10m, 2h or 3d for so long ago, or a time as 2026-11-23T11:00 (local), …T11:00Z (UTC) or 11:00 (today)"
NS = 1_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time_ns(text: str, now: datetime) -> int:
    """Return the time as ns since 1970. ``now`` is aware and gives the local zone. Raises ValueError."""
    written = text.strip()
    if ago := re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([smhdw])", written):
        found = _before(now, float(ago[1]) * UNITS_S[ago[2]], text)
    elif clock := re.fullmatch(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?", written):
        found = _at(now, int(clock[1]), int(clock[2]), int(clock[3] or 0), text)
    else:
        found = _written(written, text)
    # In whole microseconds: a float of seconds cannot hold them.
    since = (found - EPOCH) // timedelta(microseconds=1)
    if since < 0:
        raise ValueError(f"{text!r} is before 1970; {EXAMPLE}")
    return since * 1000


def _before(now: datetime, seconds: float, text: str) -> datetime:
    try:
        return now - timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError(f"{text!r} is before 1970; {EXAMPLE}") from None


def _at(now: datetime, hour: int, minute: int, second: int, text: str) -> datetime:
    try:
        return _local(now.replace(hour=hour, minute=minute, second=second, microsecond=0, tzinfo=None))
    except ValueError:
        raise ValueError(f"{text!r} is no time of day; {EXAMPLE}") from None


def _written(written: str, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(written)
        return found if found.tzinfo else _local(found)
    except (ValueError, OverflowError, OSError):  # OSError: Windows, for a local time that its library cannot place
        raise ValueError(f"{text!r} is no time; {EXAMPLE}") from None


def _local(naive: datetime) -> datetime:
    """Return a local time as an aware one, by the rules that held at that time: summer's in summer."""
    return naive.astimezone()
