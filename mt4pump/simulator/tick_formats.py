"""Formats of tick files: which one a file has, by its first lines, and how one row becomes a tick; pure.

A file without a column of symbols is of one symbol: the one given, else the one that its name names. A zone that
neither the file nor its vendor names is the one given, else UTC, and the log says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from mt4pump.simulator.market import USD_PER
from mt4pump.simulator.tick_clock import (
    LAST_TIME_MS,
    SECONDS_FROM,
    SECONDS_TO,
    DateOrder,
    TickClock,
    number_ms,
    zone_of,
)

HEADER = "time_ms,symbol,bid,ask"
DELIMITERS = "\t;,|"
NOT_SAID = ""
SYMBOL = r"[!-+\--~]{1,11}"
SYMBOL_CHARS_MAX = 11
OTHER_CURRENCIES = (
    "XAU",
    "XAG",
    "XPT",
    "XPD",
    "BTC",
    "ETH",
    "TRY",
    "CNH",
    "RUB",
    "HUF",
    "CZK",
    "THB",
    "INR",
    "ILS",
    "RON",
)
CURRENCIES = frozenset((*USD_PER, *OTHER_CURRENCIES))
LINE_SHOWN_MAX = 80


@dataclass(frozen=True, slots=True)
class TickOptions:
    """What files do not tell themselves. ``zone`` and ``dates``: see `mt4pump.simulator.tick_clock`; "": not given."""

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
    zone: str = NOT_SAID
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
MAGICS = {
    b"PK\x03\x04": "a zip archive or a workbook: unpack it, or save it as CSV",
    b"BZh": "compressed with bzip2: unpack it, or use gzip",
    b"\xfd7zXZ": "compressed with xz: unpack it, or use gzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it, or use gzip",
    b"]\x00\x00": "compressed with LZMA, as Dukascopy's .bi5: fetch it as CSV, with dukascopy-node for example",
    b"SQLite format 3": "a database: write its ticks as CSV",
    b"\x89PNG": "a picture",
    b"%PDF": "a document",
}
"""First bytes of what people hand over instead of text."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a row has what. ``time`` are the columns that make it, joined by a space; ``symbol`` is -1 for none."""

    format: Format
    delimiter: str
    time: tuple[int, ...]
    symbol: int
    bid: int
    ask: int
    has_header: bool

    @property
    def is_plain(self) -> bool:
        """Return whether rows are just as our own format has them."""
        return (self.delimiter, self.time, self.symbol, self.bid, self.ask) == (",", (0,), 1, 2, 3) and (
            self.format.name == "mt4pump"
        )


def layout_of(line: str) -> Layout:
    """Return the layout of a file whose first line is ``line``; raises ValueError with what it is and the cure."""
    text = line.strip()
    if not text:
        raise ValueError(f"is empty; it should begin with the line {HEADER}")
    for known in FORMATS:
        if known.shape and re.fullmatch(known.shape, text):
            return _layout(known, ",", known.columns.split(","), has_header=False)
    if any(re.fullmatch(shape, text) for shape in BAR_SHAPES):
        raise ValueError(NO_BARS)
    delimiter = max(DELIMITERS, key=text.count)
    names = [_name(cell) for cell in text.split(delimiter)]
    if set(names) >= BARS:
        raise ValueError(NO_BARS)
    if not (set(BIDS) & set(names) and set(ASKS) & set(names) and set(TIMES) & set(names)):
        known_names = ", ".join(dict.fromkeys(each.name for each in FORMATS[1:]))
        raise ValueError(
            f"line 1 is {text[:LINE_SHOWN_MAX]!r}; it should be {HEADER}, or name the columns time, bid and ask, "
            f"or be of a known format: {known_names}"
        )
    return _layout(_known_by_header(names), delimiter, names, has_header=True)


def _known_by_header(names: list[str]) -> Format:
    for known in FORMATS:
        if known.header and set(known.header.split(",")) <= set(names):
            return known
    return Format("columns by their names")


def _layout(known: Format, delimiter: str, names: list[str], *, has_header: bool) -> Layout:
    time = (names.index("date"), names.index("time")) if {"date", "time"} <= set(names) else (_first(TIMES, names),)
    symbol = _first(SYMBOLS, names) if set(SYMBOLS) & set(names) else -1
    return Layout(known, delimiter, time, symbol, _first(BIDS, names), _first(ASKS, names), has_header)


def _first(wanted: tuple[str, ...], names: list[str]) -> int:
    return next(names.index(name) for name in wanted if name in names)


def _name(cell: str) -> str:
    return cell.strip().strip("\"'<>").strip().lower()


def symbol_of_file(path: Path) -> str:
    """Return the symbol that a file's name tells: a pair of currencies in it, else its first word; empty: none."""
    stem = path.name.partition(".")[0]
    for found in re.findall(r"(?<![A-Za-z])[A-Za-z]{3}[-_]?[A-Za-z]{3}(?![A-Za-z])", stem):
        pair = re.sub(r"[-_]", "", found).upper()
        if pair[:3] in CURRENCIES and pair[3:] in CURRENCIES:
            return pair
    stem = re.sub(r"^DAT_(ASCII|NT|MT)_", "", stem)
    word = re.split(r"[_\-\s]", stem)[0]
    return word if re.fullmatch(SYMBOL, word) else ""


LONGEST_NUMBER = 16
"""Characters: fifteen digits and the point, what a double holds exactly."""
DECIMALS_MAX = 8
APART_MAX = 10
"""Ask over bid, or bid over ask: beyond this the row is no quote."""
YEAR_2001_MS = 978_307_200_000
"""A column that does not say that it is in ms has to look like it."""
VALUE_SHOWN_MAX = 40

SIGNED_PRICE = r"-?\d{1,12}(?:\.(\d{1,8}))?"
PLAIN_PRICE = re.compile(SIGNED_PRICE)
ROW = re.compile(rf"(\d{{1,13}}),({SYMBOL}),({SIGNED_PRICE}),({SIGNED_PRICE})\s*")

Tick = tuple[int, int, str, float, float, int]
"""``(time_ms, file number, symbol, bid, ask, decimals)``."""


def parse_row(line: str, number: int) -> Tick | None:
    """Return the tick that ``line`` of file ``number``, in our own format, holds; None when it cannot be used."""
    match = ROW.fullmatch(line)
    if match is None:
        return None
    time_text, symbol, bid, bid_decimals, ask, ask_decimals = match.groups("")
    time_ms = int(time_text)
    if time_ms > LAST_TIME_MS or SECONDS_FROM <= time_ms <= SECONDS_TO:
        return None
    if len(bid) > LONGEST_NUMBER or len(ask) > LONGEST_NUMBER or are_odd(float(bid), float(ask)):
        return None
    return time_ms, number, symbol, float(bid), float(ask), max(len(bid_decimals), len(ask_decimals))


def are_odd(bid: float, ask: float) -> bool:
    """Return whether two numbers are no bid and ask: 0 stands for none, and both lie near each other."""
    if not bid or not ask:
        return True
    return bid * ask > 0 and not 1 / APART_MAX <= abs(ask / bid) <= APART_MAX


class RowReader:
    """Reads the rows of one file in order."""

    def __init__(self, layout: Layout, options: TickOptions, symbol: str, number: int) -> None:
        self._layout = layout
        self._number = number
        self._symbol = symbol
        self._is_plain = layout.is_plain
        zone = options.zone or layout.format.zone or "UTC"
        self.clock = TickClock(zone_of(zone), options.dates)
        self._bid = self._ask = ""
        self._width = max(*layout.time, layout.symbol, layout.bid, layout.ask) + 1

    def read(self, line: str) -> Tick | None:
        """Return the tick of a row, or None where none is to be played; raises ValueError with what is wrong."""
        if self._is_plain and (tick := parse_row(line, self._number)):
            return tick
        if not line.strip():
            return None
        layout = self._layout
        cells = [cell.strip().strip('"') for cell in line.rstrip("\r\n").split(layout.delimiter)]
        if len(cells) < self._width or (self._is_plain and len(cells) != self._width):
            raise ValueError(self._wrong_width(len(cells)))
        time_ms = self._time(" ".join(cells[column] for column in layout.time))
        symbol = self._symbol_of(cells)
        bid_text, ask_text = self._prices(cells)
        if not bid_text or not ask_text:
            return None  # the first rows of a file that tells changes only
        bid, bid_decimals = self._price("bid", bid_text)
        ask, ask_decimals = self._price("ask", ask_text)
        if are_odd(bid, ask):
            raise ValueError(f"bid {bid_text!r} and ask {ask_text!r} are no quote: 0, or far apart; remove the row")
        return time_ms, self._number, symbol, bid, ask, max(bid_decimals, ask_decimals)

    def _wrong_width(self, found: int) -> str:
        if self._is_plain:
            return f"{found} columns, not the 4 of {HEADER}"
        return f"{found} columns, not the {self._width} or more of the format {self._layout.format.name}"

    def _time(self, text: str) -> int:
        name = self._layout.format.name
        if name == "mt4pump" and text.isdecimal():
            return number_ms(text)
        if name == "mt4pump" and re.fullmatch(r"[-+]?[\d.eE+]+", text):
            raise ValueError(f"time_ms {text[:VALUE_SHOWN_MAX]!r} is not whole UTC milliseconds between 1970 and 2038")
        time_ms = self.clock.ms(text)
        if text.isdecimal() and len(text) < 14 and time_ms < YEAR_2001_MS:
            raise ValueError(f"time {text!r} has an unknown unit; write milliseconds since 1970, or a date")
        return time_ms

    def _symbol_of(self, cells: list[str]) -> str:
        if self._layout.symbol < 0:
            return self._symbol
        symbol = cells[self._layout.symbol]
        if self._layout.format.name != "mt4pump" and re.fullmatch(r"[A-Z]{3}/[A-Z]{3}", symbol):
            symbol = symbol.replace("/", "")
        if not re.fullmatch(SYMBOL, symbol):
            what = f"symbol {symbol[:VALUE_SHOWN_MAX]!r} is not 1 to {SYMBOL_CHARS_MAX} ASCII characters without spaces"
            raise ValueError(f"{what}, as MT4 has them; rename it in the file")
        return symbol

    def _prices(self, cells: list[str]) -> tuple[str, str]:
        bid, ask = cells[self._layout.bid], cells[self._layout.ask]
        if self._layout.format.carries:
            self._bid, self._ask = bid or self._bid, ask or self._ask
            return self._bid, self._ask
        return bid or "''", ask or "''"

    def _price(self, name: str, text: str) -> tuple[float, int]:
        """Return a price and its decimals; a decimal comma where commas do not part columns; e-notation, too."""
        plain = text.replace(",", ".") if self._layout.delimiter != "," else text
        if "e" in plain.lower():
            plain = _without_exponent(plain)
        match = PLAIN_PRICE.fullmatch(plain)
        if match is None or len(plain) > LONGEST_NUMBER:
            if re.fullmatch(rf"-?\d{{1,12}}\.\d{{{DECIMALS_MAX + 1},}}", plain):
                raise ValueError(f"{name} {text[:VALUE_SHOWN_MAX]!r} has more than {DECIMALS_MAX} decimals; round it")
            raise ValueError(
                f"{name} {text[:VALUE_SHOWN_MAX]!r} is not a price of up to 15 digits, {DECIMALS_MAX} of them decimals"
            )
        decimals = match[1] or ""
        return float(plain), len(decimals.rstrip("0") if self._layout.format.pads else decimals)


def _without_exponent(text: str) -> str:
    """Return ``8.1e-06`` as ``0.0000081``; what is no such number, or is too large, as it is."""
    try:
        number = Decimal(text) if len(text) <= 2 * LONGEST_NUMBER else None
    except InvalidOperation:
        return text
    return (
        f"{number:f}" if number is not None and number.is_finite() and abs(number.adjusted()) < LONGEST_NUMBER else text
    )
