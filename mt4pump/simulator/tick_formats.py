"""What a file of ticks is, by its first lines: one table of formats; pure.

A file without a column of symbols is of one symbol: the one given, else the one that its name tells. A zone that
neither the file nor its vendor tells is taken to be the one given, else UTC, and the log says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mt4pump.simulator.market import USD_PER
from mt4pump.simulator.tick_clock import DateOrder

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
SHOWN_MAX = 80


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
            f"line 1 is {text[:SHOWN_MAX]!r}; it should be {HEADER}, or name the columns time, bid and ask, "
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
