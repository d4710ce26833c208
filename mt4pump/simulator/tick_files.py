"""Recorded ticks from files: our own ``time_ms,symbol,bid,ask`` (UTC), and what MT5 and the vendors of ticks write.

Several files are merged by time. They are streamed: only their first rows are looked at before the start, for format,
symbols and decimals. A row that cannot be used is skipped, counted in ``bad_lines`` and logged, the first few of each
file. Text may be UTF-8 or UTF-16, and gzipped.
"""

from __future__ import annotations

import gzip
import io
import logging
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TextIO

from mt4pump.errors import StartError
from mt4pump.simulator.tick_clock import LAST_TIME_MS
from mt4pump.simulator.tick_formats import MAGICS, Layout, RowReader, Tick, TickOptions, layout_of, symbol_of_file

SCAN_ROWS = 10_000
LOGGED_BAD_LINES = 5
LINE_MAX = 4_096
"""Characters of a line; the rest of a longer one is read as further lines, which are bad."""
SYMBOLS_MAX = 4_096
"""Symbols of all files together: a new one beyond them is a bad line."""
ENOUGH_ROWS = 10
"""As many rows that look wrong as a whole are needed to refuse a file."""
GAP_MS = 1000
"""Between two passes of a repeated replay."""
MAGIC_BYTES = 16
GZIP = b"\x1f\x8b"
BROKEN = (OSError, EOFError, zlib.error)
"""What reading may raise: the disk's own, and a compression that is cut off or damaged."""

log = logging.getLogger(__name__)


class TickFiles:
    """Tick files as one stream in order of time. Raises StartError when one cannot be used at all.

    ``digits`` has the symbols of the first rows, and the most decimals seen of each. ``late_lines`` counts rows whose
    time lies before that of the row above: they are played at once. Iterate once.
    """

    def __init__(self, paths: Sequence[Path], repeat: int = 1, options: TickOptions | None = None) -> None:
        self._paths = tuple(paths)
        self._repeat = repeat
        self._options = options or TickOptions()
        self.bad_lines = self.late_lines = 0
        self.digits: dict[str, int] = {}
        self._symbols: set[str] = set()
        self._files = [self._scan(number, path) for number, path in enumerate(self._paths)]

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
        streams = [self._stream(number, file, count_bad=is_first) for number, file in enumerate(self._files)]
        return streams[0] if len(streams) == 1 else merge(*streams)

    def _stream(self, number: int, file: TickFile, *, count_bad: bool) -> Iterator[Tick]:
        faults = RowFaults(file.path, is_counting=count_bad)
        last_ms = line_number = 0
        try:
            with text_of(file.path) as text:
                for line_number, entry in self._entries(file, text, file.rows(self._options, number)):
                    if isinstance(entry, str):
                        self.bad_lines += faults.skipped(line_number, entry)
                        continue
                    if entry[0] < last_ms:
                        self.late_lines += faults.late(line_number, (last_ms - entry[0]) / 1000)
                    last_ms = max(last_ms, entry[0])
                    yield entry
        except BROKEN as error:
            self.bad_lines += 1
            what = "behind line %d it cannot be read: %s; its replay ends here"
            log.error(f"%s {what}", file.path, line_number, _why(error))  # noqa: G004, TRY400 - constant; the text says it all

    def _entries(self, file: TickFile, text: TextIO, rows: RowReader) -> Iterator[tuple[int, Tick | str]]:
        """Yield each row's number, and its tick or what is wrong with it."""
        for line_number, line in file.lines(text):
            try:
                tick = rows.read(line)
                if tick is not None:
                    self._admit(tick[2])
                    yield line_number, tick
            except ValueError as fault:
                yield line_number, str(fault)

    def _admit(self, symbol: str) -> None:
        if symbol in self._symbols:
            return
        if len(self._symbols) >= SYMBOLS_MAX:
            raise ValueError(f"symbol {symbol!r} would be one of more than {SYMBOLS_MAX}; are the columns right?")
        self._symbols.add(symbol)

    def _scan(self, number: int, path: Path) -> TickFile:
        """Look at the first rows: what the file is, and whether it is what it seems to be."""
        seen = FirstRows()
        try:
            with text_of(path) as text:
                file = TickFile.of(path, text.readline(LINE_MAX), self._options)
            rows = file.rows(self._options, number)
            with text_of(path) as text:
                for line_number, entry in islice(self._entries(file, text, rows), SCAN_ROWS):
                    if isinstance(entry, str):
                        seen.fault = seen.fault or f"; line {line_number}: {entry}"
                    else:
                        seen.add(entry)
                        self.digits[entry[2]] = max(self.digits.get(entry[2], 0), entry[5])
        except BROKEN as error:
            raise StartError(f"tick file {path} cannot be read: {_why(error)}; is it the right one?") from error
        except ValueError as fault:
            raise StartError(f"tick file {path} {fault}") from None
        if problem := seen.problem():
            raise StartError(f"tick file {path} {problem}")
        file.log_what_it_is(self._options, has_dates=rows.clock.has_dates)
        return file


class RowFaults:
    """Logs what is wrong with rows of one file: the first few of each sort. Does nothing in a repeated pass."""

    def __init__(self, path: Path, *, is_counting: bool) -> None:
        self._path = path
        self._is_counting = is_counting
        self._skipped = self._late = 0

    def skipped(self, line_number: int, fault: str) -> int:
        """Log a row that cannot be used; return how many more of them there are."""
        self._skipped += 1
        self._log("skipped", line_number, fault, "bad", self._skipped)
        return int(self._is_counting)

    def late(self, line_number: int, by_s: float) -> int:
        """Log a row that is earlier than one above; return how many more of them there are."""
        self._late += 1
        fault = f"its time is {by_s:.3f} s before that of a line above; sort the file by time"
        self._log("played at once", line_number, fault, "late", self._late)
        return int(self._is_counting)

    def _log(self, what: str, line_number: int, fault: str, sort: str, count: int) -> None:
        if self._is_counting and count <= LOGGED_BAD_LINES:
            more = f"; further {sort} lines of this file are only counted" if count == LOGGED_BAD_LINES else ""
            log.warning("%s line %d %s: %s%s", self._path, line_number, what, fault, more)


class FirstRows:
    """What the first rows of a file look like together: two columns may be swapped, or all lines upside down."""

    def __init__(self) -> None:
        self.fault = ""
        self._rows = self._back = self._crossed = self._last_ms = 0

    def add(self, tick: Tick) -> None:
        """Take a usable row."""
        self._rows += 1
        self._back += tick[0] < self._last_ms
        self._crossed += tick[3] > tick[4]
        self._last_ms = tick[0]

    def problem(self) -> str:
        """Return why the file is refused; empty: it is not."""
        if not self._rows:
            return f"has no usable tick in its first {SCAN_ROWS} rows{self.fault}"
        if self._back >= ENOUGH_ROWS and self._back * 2 > self._rows:
            return f"is not in order of time ({self._back} of {self._rows} rows go back): sort it, the oldest row first"
        if self._crossed >= ENOUGH_ROWS and self._crossed * 10 > self._rows * 9:
            return f"has bids above asks ({self._crossed} of {self._rows} rows): are the two columns swapped?"
        return ""


class TickFile:
    """A file whose layout is known."""

    def __init__(self, path: Path, layout: Layout, symbol: str, symbol_from: str) -> None:
        self.path = path
        self._layout = layout
        self._symbol = symbol
        self._symbol_from = symbol_from

    @classmethod
    def of(cls, path: Path, first_line: str, options: TickOptions) -> TickFile:
        """Return the file that begins with ``first_line``; raises ValueError when it is of no format that we read."""
        layout = layout_of(first_line)
        if layout.symbol >= 0:
            return cls(path, layout, "", "")
        if options.symbol:
            return cls(path, layout, options.symbol, "set by tick_symbol")
        symbol = symbol_of_file(path)
        if not symbol:
            raise ValueError(f"({layout.format.name}) tells no symbol, nor does its name: set tick_symbol")
        return cls(path, layout, symbol, "from the name of the file; tick_symbol would set another")

    def rows(self, options: TickOptions, number: int) -> RowReader:
        """Return a reader for one pass."""
        return RowReader(self._layout, options, self._symbol, number)

    def lines(self, text: TextIO) -> Iterator[tuple[int, str]]:
        """Yield number and text of each row, no more of it in memory than `LINE_MAX` characters."""
        lines = enumerate(iter(lambda: text.readline(LINE_MAX), ""), 1)
        return islice(lines, 1, None) if self._layout.has_header else lines

    def log_what_it_is(self, options: TickOptions, *, has_dates: bool) -> None:
        """Log what the file does not tell itself, so that nothing is assumed silently."""
        name = self._layout.format.name
        if self._symbol:
            log.info("%s (%s): symbol %s, %s", self.path, name, self._symbol, self._symbol_from)
        if not has_dates:
            return
        if options.zone:
            log.info("%s (%s): times are read as %s, as tick_zone says", self.path, name, options.zone)
        elif zone := self._layout.format.zone:
            log.info("%s (%s): times are read as %s, as this format has them", self.path, name, zone)
        else:
            text = (
                "%s (%s): times are read as UTC, but the file does not tell their zone: set tick_zone if it is another"
            )
            log.warning(text, self.path, name)


@contextmanager
def text_of(path: Path) -> Iterator[TextIO]:
    """Give the text of a file; raises ValueError for what is none, OSError and others of `BROKEN`."""
    with path.open("rb") as raw:
        first = raw.read(MAGIC_BYTES)
        raw.seek(0)
        binary: BinaryIO | gzip.GzipFile = raw
        if first.startswith(GZIP):
            binary = gzip.GzipFile(fileobj=raw)
            first = binary.read(MAGIC_BYTES)
            binary.seek(0)
        for magic, what in MAGICS.items():
            if first.startswith(magic):
                raise ValueError(f"is {what}")
        with io.TextIOWrapper(binary, encoding=_encoding(first), errors="replace") as text:
            yield text


def _encoding(first: bytes) -> str:
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if first[1:4:2] == b"\0\0":
        return "utf-16-le"
    return "utf-8-sig"


def _why(error: BaseException) -> str:
    strerror = getattr(error, "strerror", None)
    return str(strerror or error or type(error).__name__)
