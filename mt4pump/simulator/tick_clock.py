"""The time of a tick as files contain it: text to milliseconds since 1970, UTC; pure.

A column of numbers is milliseconds since 1970. A column of dates is in the zone that the text itself names, else in the
one given. Anything else is refused with the reason: a wrong unit is never read as another moment.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

LAST_TIME_MS = (2**31 - 86_400) * 1000
"""The record's time is 32 bits wide."""
SECONDS_FROM, SECONDS_TO = 315_532_800, 4_102_444_800
"""1980 and 2100 in seconds. Read as milliseconds, it would be January 1970, when nobody recorded ticks."""
YEAR_FROM, YEAR_TO = 1980, 2038
MILLISECONDS = "milliseconds since 1970"
OTHER_UNITS = {
    10: ("seconds", "multiply by 1,000"),
    16: ("microseconds", "divide by 1,000"),
    19: ("nanoseconds", "divide by 1,000,000"),
}
"""What a whole number with so many digits counts, if it is a time of our days; 13 are milliseconds."""

DateOrder = Literal["dmy", "mdy"]
ZONE = r"(?:\s*(Z|(?:UTC|GMT)(?:[+-]\d\d:?\d\d)?|[+-]\d\d:?\d\d))?"
TIME = r"(\d\d):?(\d\d)(?::?(\d\d)(?:[.,](\d{1,9})|(\d{3}))?)?"
YEAR_FIRST = re.compile(rf"(?P<y>\d{{4}})(?P<sep>[-./]?)(?P<m>\d\d)(?P=sep)(?P<d>\d\d)[ T]?{TIME}{ZONE}")
YEAR_LAST = re.compile(rf"(?P<a>\d{{1,2}})(?P<sep>[-./])(?P<b>\d{{1,2}})(?P=sep)(?P<y>\d{{4}})[ T]{TIME}{ZONE}")
OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d\d):?(\d\d)")
SHOWN_MAX = 40


class TickClock:
    """Reads the times of one file. ``has_dates``: it read a date whose zone was taken from ``zone``.

    ``order`` says what ``02/03/2010`` means; None: unknown, unless a number above 12 or the German dots decide.
    """

    def __init__(self, zone: tzinfo, order: DateOrder | None) -> None:
        self.has_dates = False
        self._zone = zone
        self._order = order
        self._minute: tuple[object, ...] = ()
        self._minute_ms = 0

    def ms(self, text: str) -> int:
        """Return ``text`` as ms since 1970; raises ValueError with what is wrong and what would be right."""
        if text.isdecimal() and len(text) not in {14, 17}:
            return number_ms(text)
        if match := YEAR_FIRST.fullmatch(text):
            month, day = int(match["m"]), int(match["d"])
        elif match := YEAR_LAST.fullmatch(text):
            month, day = self._month_and_day(match["a"], match["b"], text, has_dots=match["sep"] == ".")
        elif re.fullmatch(r"\d{9,10}\.\d+", text):
            raise ValueError(_wrong_unit(text, *OTHER_UNITS[10]))
        else:
            shown = text[:SHOWN_MAX]
            raise ValueError(f"time {shown!r} is neither {MILLISECONDS} nor a date as 2022-11-10 15:00:00.017")
        hour, minute, second, dotted, plain, zone = match.groups()[-6:]
        self._set_minute((int(match["y"]), month, day, int(hour), int(minute)), zone, text)
        seconds = int(second or 0)
        if seconds > 60:  # 60: a leap second, as some feeds write it
            raise ValueError(f"time {text[:SHOWN_MAX]!r} has {seconds} seconds; write 00 to 59")
        return self._minute_ms + seconds * 1000 + int(f"{dotted or plain or '':0<3}"[:3])

    def _month_and_day(self, first: str, second: str, text: str, *, has_dots: bool) -> tuple[int, int]:
        one, other = int(first), int(second)
        order = self._order or ("dmy" if has_dots else None)
        if order is None and max(one, other) > 12:
            self._order = order = "dmy" if one > 12 else "mdy"  # for the rows that do not decide it themselves
        if order is None and one != other:
            cure = "set tick_dates to dmy or mdy, or write 2010-03-02"
            raise ValueError(f"date {text[:SHOWN_MAX]!r} may begin with the day or with the month; {cure}")
        return (other, one) if order == "dmy" else (one, other)

    def _set_minute(self, minute: tuple[int, int, int, int, int], zone: str | None, text: str) -> None:
        """Compute the start of the minute, unless the row above had the same."""
        if (*minute, zone) == self._minute:
            return
        try:
            when = datetime(*minute, tzinfo=self._zone if zone is None else zone_of(zone))
        except ValueError as error:
            raise ValueError(f"time {text[:SHOWN_MAX]!r} does not exist ({error}); correct it") from None
        if not YEAR_FROM <= when.year < YEAR_TO:
            raise ValueError(f"time {text[:SHOWN_MAX]!r} is not between {YEAR_FROM} and {YEAR_TO}; correct it")
        self.has_dates |= zone is None
        self._minute, self._minute_ms = (*minute, zone), int(when.timestamp()) * 1000


def number_ms(text: str) -> int:
    """Return a whole number as ms since 1970; raises ValueError for what counts something else."""
    if len(text) in OTHER_UNITS and text[0] != "0":
        raise ValueError(_wrong_unit(text, *OTHER_UNITS[len(text)]))
    value = int(text) if len(text) <= 13 else LAST_TIME_MS + 1
    if SECONDS_FROM <= value <= SECONDS_TO:
        raise ValueError(_wrong_unit(text, *OTHER_UNITS[10]))
    if value > LAST_TIME_MS:
        raise ValueError(f"time {text[:SHOWN_MAX]!r} is not UTC milliseconds between 1970 and 2038; correct it")
    return value


def _wrong_unit(text: str, unit: str, cure: str) -> str:
    return f"time {text[:SHOWN_MAX]!r} looks like {unit}, not {MILLISECONDS}; {cure}"


def zone_of(text: str) -> tzinfo:
    """Return the zone that ``text`` names: ``UTC``, ``+02:00``, ``Europe/Athens``; raises ValueError for another."""
    if text.upper() in {"UTC", "GMT", "Z"}:
        return UTC
    if match := OFFSET.fullmatch(text):
        offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
        if offset <= timedelta(hours=14) and int(match[3]) < 60:
            return timezone(-offset if match[1] == "-" else offset)
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        cure = "write UTC, an offset as +02:00, or a name as Europe/Athens (on Windows: pip install tzdata)"
        raise ValueError(f"{text!r} is no time zone; {cure}") from None
