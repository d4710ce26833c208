"""Recorded ticks from CSV files: ``time_ms,symbol,bid,ask``, time in UTC milliseconds since 1970.

Several files are merged by time. They are streamed: only their first rows are looked at before the start, for symbols
and decimals. A row that cannot be used is skipped, counted in ``bad_lines`` and logged, the first few of each file.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import islice
from pathlib import Path

from mt4pump.errors import StartError

HEADER = "time_ms,symbol,bid,ask"
SCAN_ROWS = 10_000
LOGGED_BAD_LINES = 5
LAST_TIME_MS = (2**31 - 86_400) * 1000
"""The record's time is 32 bits wide."""
LONGEST_NUMBER = 16
"""Characters: fifteen digits and the point, what a double holds exactly."""
GAP_MS = 1000
"""Between two passes of a repeated replay."""

PRICE = r"-?\d{1,12}(?:\.(\d{1,8}))?"
ROW = re.compile(rf"(\d{{1,13}}),([!-+\--~]{{1,11}}),({PRICE}),({PRICE})\s*")

Tick = tuple[int, int, str, float, float, int]
"""``(time_ms, file number, symbol, bid, ask, decimals)``."""

log = logging.getLogger(__name__)


def parse_row(line: str, number: int) -> Tick | None:
    """Return the tick that ``line`` of file ``number`` holds; None when it cannot be used."""
    match = ROW.fullmatch(line)
    if match is None:
        return None
    time_text, symbol, bid, bid_decimals, ask, ask_decimals = match.groups("")
    time_ms = int(time_text)
    if time_ms > LAST_TIME_MS or len(bid) > LONGEST_NUMBER or len(ask) > LONGEST_NUMBER:
        return None
    return time_ms, number, symbol, float(bid), float(ask), max(len(bid_decimals), len(ask_decimals))


def what_is_wrong(line: str) -> str:
    """Return why ``line`` cannot be used."""
    cells = line.rstrip("\r\n").split(",")
    if len(cells) != 4:
        return f"{len(cells)} columns, not the 4 of {HEADER}"
    time_text, symbol, bid, ask = cells
    if not re.fullmatch(r"\d{1,13}", time_text) or int(time_text) > LAST_TIME_MS:
        return f"time_ms {time_text!r} is not UTC milliseconds between 1970 and 2038"
    if not re.fullmatch(r"[!-+\--~]{1,11}", symbol):
        return f"symbol {symbol!r} is not 1 to 11 ASCII characters"
    for name, text in (("bid", bid), ("ask", ask.rstrip())):
        if not re.fullmatch(PRICE, text) or len(text) > LONGEST_NUMBER:
            return f"{name} {text!r} is not a price of up to 15 digits, 8 of them decimals"
    return "it cannot be read"


class TickFiles:
    """Tick files as one stream in order of time. Raises StartError when one cannot be used at all.

    ``digits`` has the symbols of the first rows, and the most decimals seen of each. Iterate once.
    """

    def __init__(self, paths: Sequence[Path], repeat: int = 1) -> None:
        self._paths = tuple(paths)
        self._repeat = repeat
        self.bad_lines = 0
        self.digits: dict[str, int] = {}
        for number, path in enumerate(self._paths):
            self._scan(number, path)

    def __iter__(self) -> Iterator[Tick]:
        shift_ms = last_ms = 0
        first_ms = LAST_TIME_MS
        for turn in range(self._repeat):
            for tick in self._one_pass(is_first=not turn):
                last_ms = max(last_ms, tick[0])
                if not turn:
                    first_ms = min(first_ms, tick[0])
                    yield tick
                elif tick[0] + shift_ms > LAST_TIME_MS:
                    log.warning("tick files: repeat %d would go beyond the year 2038; the replay ends here", turn + 1)
                    return
                else:
                    yield (tick[0] + shift_ms, *tick[1:])
            shift_ms += last_ms - first_ms + GAP_MS

    def _one_pass(self, *, is_first: bool) -> Iterator[Tick]:
        streams = [self._stream(number, path, count_bad=is_first) for number, path in enumerate(self._paths)]
        return streams[0] if len(streams) == 1 else merge(*streams)

    def _stream(self, number: int, path: Path, *, count_bad: bool) -> Iterator[Tick]:
        bad = 0
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            next(file, None)
            for line_number, line in enumerate(file, 2):
                tick = parse_row(line, number)
                if tick:
                    yield tick
                elif line.strip() and count_bad:
                    bad += 1
                    self._skip(path, line_number, line, bad)

    def _skip(self, path: Path, line_number: int, line: str, bad: int) -> None:
        self.bad_lines += 1
        if bad <= LOGGED_BAD_LINES:
            more = "; further bad lines of this file are only counted" if bad == LOGGED_BAD_LINES else ""
            log.warning("%s line %d skipped: %s%s", path, line_number, what_is_wrong(line), more)

    def _scan(self, number: int, path: Path) -> None:
        first_fault = ""
        found = False
        try:
            with path.open(encoding="utf-8-sig", errors="replace") as file:
                _check_header(path, next(file, ""))
                for line_number, line in enumerate(islice(file, SCAN_ROWS), 2):
                    tick = parse_row(line, number)
                    if tick:
                        found = True
                        self.digits[tick[2]] = max(self.digits.get(tick[2], 0), tick[5])
                    elif line.strip() and not first_fault:
                        first_fault = f"; line {line_number}: {what_is_wrong(line)}"
        except OSError as error:
            msg = f"tick file {path} cannot be read: {error.strerror or error}; check the path given with --ticks"
            raise StartError(msg) from error
        if not found:
            msg = f"tick file {path} has no usable tick in its first {SCAN_ROWS} rows{first_fault}"
            raise StartError(msg)


def _check_header(path: Path, line: str) -> None:
    if not line.strip():
        msg = f"tick file {path} is empty; it should begin with the line {HEADER}"
        raise StartError(msg)
    if "".join(line.lower().split()) != HEADER:
        msg = f"tick file {path} line 1 is {line.strip()[:80]!r}; it should be {HEADER}"
        raise StartError(msg)
