"""One row of a tick file: text to a tick, or to what is wrong with it; pure."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from mt4pump.simulator.tick_clock import LAST_TIME_MS, SECONDS_FROM, SECONDS_TO, TickClock, number_ms, zone_of
from mt4pump.simulator.tick_formats import HEADER, SYMBOL, SYMBOL_CHARS_MAX, Layout, TickOptions

LONGEST_NUMBER = 16
"""Characters: fifteen digits and the point, what a double holds exactly."""
DECIMALS_MAX = 8
APART_MAX = 10
"""Ask over bid, or bid over ask: beyond this the row is no quote."""
YEAR_2001_MS = 978_307_200_000
"""A column that does not say that it is in ms has to look like it."""
SHOWN_MAX = 40

PRICE = r"-?\d{1,12}(?:\.(\d{1,8}))?"
PLAIN_PRICE = re.compile(PRICE)
ROW = re.compile(rf"(\d{{1,13}}),({SYMBOL}),({PRICE}),({PRICE})\s*")

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
            raise ValueError(f"time_ms {text[:SHOWN_MAX]!r} is not whole UTC milliseconds between 1970 and 2038")
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
            what = f"symbol {symbol[:SHOWN_MAX]!r} is not 1 to {SYMBOL_CHARS_MAX} ASCII characters without spaces"
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
                raise ValueError(f"{name} {text[:SHOWN_MAX]!r} has more than {DECIMALS_MAX} decimals; round it")
            raise ValueError(
                f"{name} {text[:SHOWN_MAX]!r} is not a price of up to 15 digits, {DECIMALS_MAX} of them decimals"
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
