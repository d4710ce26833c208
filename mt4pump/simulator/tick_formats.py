"""Formats of tick files: which one a file has, by its first line, and how one row becomes a tick; pure.

A file without a column of symbols is of one symbol: the one given, else the one in its name. A zone that neither the
file nor its vendor names is the one given, else UTC, and the log says so.

A column of numbers is milliseconds since 1970. A column of dates is in the zone that the text itself names, else in the
one given. Anything else is refused with the reason: a wrong unit is never read as another moment.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal, InvalidOperation
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mt4pump.errors import CONSTRAINTS_PLACE
from mt4pump.simulator.market import USD_PER

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
        cure = "write UTC, an offset as +02:00, or a name as Europe/Athens"
        if sys.platform == "win32" and find_spec("tzdata") is None:
            cure += f"; names need: pip install -c deploy/constraints.txt tzdata ({CONSTRAINTS_PLACE})"
        raise ValueError(f"{text!r} is no time zone; {cure}") from None


HEADER = "time_ms,symbol,bid,ask"
DELIMITERS = "\t;,|"
SYMBOL = r"[!-+\--~]{1,11}"
SYMBOL_CHARS_MAX = 11
OTHER_CURRENCIES = "XAU XAG XPT XPD BTC ETH TRY CNH RUB HUF CZK THB INR ILS RON"
CURRENCIES = frozenset((*USD_PER, *OTHER_CURRENCIES.split()))
LINE_SHOWN_MAX = 80
LONGEST_NUMBER = 16
"""Characters: fifteen digits and the point, what a double holds exactly."""
DECIMALS_MAX = 8
PRICE_RATIO_MAX = 10
"""Ask over bid, or bid over ask: beyond this the row is no quote."""
YEAR_2001_MS = 978_307_200_000
"""Numbers below it, in a column that does not name its unit, are refused: they may count anything."""

Tick = tuple[int, int, str, float, float, int]
"""``(time_ms, file number, symbol, bid, ask, decimals)``."""


@dataclass(frozen=True, slots=True)
class TickOptions:
    """What files do not contain. ``zone`` and ``dates``: see `TickClock`; "": not given."""

    symbol: str = ""
    zone: str = ""
    dates: DateOrder | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table: known by a ``header`` or by the ``shape`` of its first line.

    ``columns`` are those of a file without header, as a header would name them. ``zone`` is what its vendor says.
    ``carries``: an empty bid or ask is as in the row above. ``pads``: prices end in zeros that are no decimals.
    """

    name: str
    header: str = ""
    shape: str = ""
    columns: str = ""
    zone: str = ""
    carries: bool = False
    pads: bool = False


PRICE = r"\d+(?:[.,]\d+)?"
FORMATS = (
    Format("mt4pump", HEADER, zone="UTC"),
    Format("MT5 export", "date,time,bid,ask,last,volume,flags", carries=True),
    Format("dukascopy-node", "timestamp,askprice,bidprice", zone="UTC"),
    Format("JForex", "gmt time,ask,bid", zone="UTC"),
    Format("JForex", "time (utc),ask,bid", zone="UTC"),
    Format("duka", "time,ask,bid,ask_volume,bid_volume"),
    Format("backtrader", "timestamp,bid,ask"),
    Format(
        "HistData ASCII ticks",
        shape=rf"\d{{8}} \d{{9}},{PRICE},{PRICE},\d+",
        columns="time,bid,ask,volume",
        zone="-05:00",
        pads=True,
    ),
    Format("TrueFX", shape=rf"[A-Z]{{3}}/[A-Z]{{3}},\d{{8}} [\d:.]+,{PRICE},{PRICE}", columns="symbol,time,bid,ask"),
)
"""Formats that are known by name. A file of another with a header that names time, bid and ask is read as well."""

TIMES = ("time_ms", "gmt time", "time (utc)", "utc", "local time", "timestamp", "datetime", "date_time", "time", "date")
SYMBOLS = ("symbol", "pair", "instrument", "ticker", "ccy_pair")
BIDS = ("bid", "bidprice", "bid_price", "bid price", "ratebid")
ASKS = ("ask", "askprice", "ask_price", "ask price", "rateask", "offer")
BARS = frozenset({"open", "high", "low", "close"})
BAR_SHAPES = (rf"\d{{4}}\.\d\d\.\d\d,\d\d:\d\d(?:,{PRICE}){{4}},.*", rf"\d{{8}} \d{{6}}[;,](?:{PRICE}[;,]){{4}}\d+")
NO_BARS = "holds bars (open, high, low, close) and no ticks: they have no ask; export ticks, as MT5 and HistData do"


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns of a row: those that form the time, joined by a space; ``symbol`` is -1 for none.

    ``is_plain``: rows are just as our own format has them.
    """

    format: Format
    delimiter: str
    time: tuple[int, ...]
    symbol: int
    bid: int
    ask: int
    has_header: bool
    is_plain: bool


def layout_of(line: str) -> Layout:
    """Return the layout of a file whose first line is ``line``; raises ValueError with what it is and the cure."""
    text = line.strip()
    if not text:
        raise ValueError(f"is empty; it should begin with the line {HEADER}")
    for known in FORMATS:
        if known.shape and re.fullmatch(known.shape, text):
            return _layout(known, ",", known.columns.split(","), has_header=False)
    delimiter = max(DELIMITERS, key=text.count)
    names = [cell.strip().strip("\"'<>").strip().lower() for cell in text.split(delimiter)]
    if set(names) >= BARS or any(re.fullmatch(shape, text) for shape in BAR_SHAPES):
        raise ValueError(NO_BARS)
    if not all(set(wanted) & set(names) for wanted in (BIDS, ASKS, TIMES)):
        known_names = ", ".join(dict.fromkeys(each.name for each in FORMATS[1:]))
        raise ValueError(
            f"line 1 is {text[:LINE_SHOWN_MAX]!r}; it should be {HEADER}, or name the columns time, bid and ask, "
            f"or be of a known format: {known_names}"
        )
    found = (known for known in FORMATS if known.header and set(known.header.split(",")) <= set(names))
    return _layout(next(found, Format("columns by their names")), delimiter, names, has_header=True)


def _layout(known: Format, delimiter: str, names: list[str], *, has_header: bool) -> Layout:
    def first(wanted: tuple[str, ...]) -> int:
        return next((names.index(name) for name in wanted if name in names), -1)

    time = (names.index("date"), names.index("time")) if {"date", "time"} <= set(names) else (first(TIMES),)
    columns = (time, first(SYMBOLS), first(BIDS), first(ASKS))
    is_plain = known.name == "mt4pump" and delimiter == "," and columns == ((0,), 1, 2, 3)
    return Layout(known, delimiter, *columns, has_header, is_plain)


def symbol_of_file(path: Path) -> str:
    """Return the symbol in a file's name: a pair of currencies, else its first word; empty: none."""
    stem = path.name.partition(".")[0]
    for found in re.findall(r"(?<![A-Za-z])[A-Za-z]{3}[-_]?[A-Za-z]{3}(?![A-Za-z])", stem):
        pair = re.sub(r"[-_]", "", found).upper()
        if pair[:3] in CURRENCIES and pair[3:] in CURRENCIES:
            return pair
    word = re.split(r"[_\-\s]", re.sub(r"^DAT_(ASCII|NT|MT)_", "", stem))[0]
    return word if re.fullmatch(SYMBOL, word) else ""


PLAIN_PRICE = re.compile(r"-?\d{1,12}(?:\.(\d{1,8}))?")


def are_odd(bid: float, ask: float) -> bool:
    """Return whether two numbers are no bid and ask: 0 means none, and both are close to each other."""
    if not bid or not ask:
        return True
    return bid * ask > 0 and not 1 / PRICE_RATIO_MAX <= abs(ask / bid) <= PRICE_RATIO_MAX


class RowReader:
    """Reads the rows of one file in order."""

    def __init__(self, layout: Layout, options: TickOptions, symbol: str, number: int) -> None:
        self._layout = layout
        self._is_ours = layout.format.name == "mt4pump"
        self._number = number
        self._symbol = symbol
        self.clock = TickClock(zone_of(options.zone or layout.format.zone or "UTC"), options.dates)
        self._bid = self._ask = ""
        self._width = max(*layout.time, layout.symbol, layout.bid, layout.ask) + 1

    def read(self, line: str) -> Tick | None:
        """Return the tick of a row, or None where none is to be played; raises ValueError with what is wrong."""
        layout = self._layout
        if not line.strip():
            return None
        cells = [cell.strip().strip('"') for cell in line.rstrip("\r\n").split(layout.delimiter)]
        if len(cells) < self._width or (layout.is_plain and len(cells) != self._width):
            wanted = (
                f"4 of {HEADER}" if layout.is_plain else f"{self._width} or more of the format {layout.format.name}"
            )
            raise ValueError(f"{len(cells)} columns, not the {wanted}")
        time_ms = self._time(" ".join(cells[column] for column in layout.time))
        symbol = self._symbol_of(cells[layout.symbol]) if layout.symbol >= 0 else self._symbol
        bid_text, ask_text = cells[layout.bid], cells[layout.ask]
        if layout.format.carries:
            self._bid, self._ask = bid_text, ask_text = bid_text or self._bid, ask_text or self._ask
            if not bid_text or not ask_text:
                return None  # one of the first rows of a file that contains changes only
        bid, bid_decimals = self._price("bid", bid_text)
        ask, ask_decimals = self._price("ask", ask_text)
        if are_odd(bid, ask):
            raise ValueError(f"bid {bid_text!r} and ask {ask_text!r} are no quote: 0, or far apart; remove the row")
        return time_ms, self._number, symbol, bid, ask, max(bid_decimals, ask_decimals)

    def _time(self, text: str) -> int:
        if self._is_ours and text.isdecimal():
            return number_ms(text)
        if self._is_ours and re.fullmatch(r"[-+]?[\d.eE+]+", text):
            raise ValueError(f"time_ms {text[:SHOWN_MAX]!r} is not whole UTC milliseconds between 1970 and 2038")
        time_ms = self.clock.ms(text)
        if text.isdecimal() and len(text) < 14 and time_ms < YEAR_2001_MS:
            raise ValueError(f"time {text!r} has an unknown unit; write milliseconds since 1970, or a date")
        return time_ms

    def _symbol_of(self, symbol: str) -> str:
        if not self._is_ours and re.fullmatch(r"[A-Z]{3}/[A-Z]{3}", symbol):
            symbol = symbol.replace("/", "")
        if not re.fullmatch(SYMBOL, symbol):
            what = f"symbol {symbol[:SHOWN_MAX]!r} is not 1 to {SYMBOL_CHARS_MAX} ASCII characters without spaces"
            raise ValueError(f"{what}, as MT4 has them; rename it in the file")
        return symbol

    def _price(self, name: str, text: str) -> tuple[float, int]:
        """Return a price and its decimals; a decimal comma where commas do not separate columns; e-notation, too."""
        plain = text.replace(",", ".") if self._layout.delimiter != "," else text
        if "e" in plain.lower():
            plain = _without_exponent(plain)
        match = PLAIN_PRICE.fullmatch(plain)
        if match is None or len(plain) > LONGEST_NUMBER:
            what = f"{name} {text[:SHOWN_MAX]!r}"
            if re.fullmatch(rf"-?\d{{1,12}}\.\d{{{DECIMALS_MAX + 1},}}", plain):
                raise ValueError(f"{what} has more than {DECIMALS_MAX} decimals; round it")
            raise ValueError(f"{what} is not a price of up to 15 digits, {DECIMALS_MAX} of them decimals")
        decimals = match[1] or ""
        return float(plain), len(decimals.rstrip("0") if self._layout.format.pads else decimals)


def _without_exponent(text: str) -> str:
    """Return ``8.1e-06`` as ``0.0000081``; what is no such number, or is too large, as it is."""
    try:
        number = Decimal(text) if len(text) <= 2 * LONGEST_NUMBER else Decimal("NaN")
    except InvalidOperation:
        return text
    return f"{number:f}" if number.is_finite() and abs(number.adjusted()) < LONGEST_NUMBER else text
