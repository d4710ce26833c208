"""Recorded ticks from files: our own ``time_ms,symbol,bid,ask`` (UTC), and what MT5 and the vendors of ticks write.

Several files are merged by time. They are streamed: only their first rows are read before the start, for format,
symbols and decimals. A row that cannot be used is skipped, counted in ``bad_lines`` and logged, the first few of each
file. Text may be UTF-8 or UTF-16, and gzipped.
"""

from __future__ import annotations

import gzip
import io
import logging
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TextIO

from mt4pump.errors import StartError
from mt4pump.simulator.tick_formats import RowReader, Tick, TickOptions, layout_of, symbol_of_file

SCAN_ROWS = 10_000
LOGGED_BAD_LINES = 5
LINE_MAX = 4_096
"""Characters of a line; the rest of a longer one is read as further lines, which are bad."""
SYMBOLS_MAX = 4_096
"""Symbols of all files together: a new one beyond them is a bad line."""
ENOUGH_ROWS = 10
"""As many rows that look wrong as a whole are needed to refuse a file."""
MAGIC_BYTES = 16
GZIP = b"\x1f\x8b"
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
"""First bytes of files that people give instead of text."""
INCOMPLETE = "it is not complete; fetch it again"
READ_ERRORS = (OSError, EOFError, zlib.error)
"""What reading may raise: the disk's own, and a compressed file that is truncated or damaged."""

log = logging.getLogger(__name__)


class TickFiles:
    """Tick files as one stream in order of time; iterate once. Raises StartError when one cannot be used at all.

    ``digits`` has the symbols of the first rows, and the most decimals seen of each. ``late_lines`` counts rows whose
    time is before that of the row above: they are played at once. With ``is_strict`` a file that cannot be read to its
    end, or ends amid a line, raises StartError as well, when the iteration gets there.
    """

    def __init__(self, paths: Sequence[Path], options: TickOptions | None = None, *, is_strict: bool = False) -> None:
        self._options = options or TickOptions()
        self._is_strict = is_strict
        self.bad_lines = self.late_lines = 0
        self.digits: dict[str, int] = {}
        self._symbols: set[str] = set()
        self._files = [self._open(number, path) for number, path in enumerate(paths)]

    def __iter__(self) -> Iterator[Tick]:
        return merge(*map(self._stream, self._files))

    def _stream(self, file: TickFile) -> Iterator[Tick]:
        last_ms = line_number = 0
        try:
            with text_of(file.path) as text:
                for line_number, row in self._rows(file, text):
                    if isinstance(row, str):
                        if self._is_strict and file.is_amid_line:
                            where = f"ends amid line {line_number}, at byte {byte_of(text)} ({row})"
                            raise StartError(f"tick file {file.path} {where}: {INCOMPLETE}")
                        self.bad_lines += 1
                        file.log_row("bad", "skipped", line_number, row)
                        continue
                    if row[0] < last_ms:
                        self.late_lines += 1
                        by_s = (last_ms - row[0]) / 1000
                        problem = f"its time is {by_s:.3f} s before that of a line above; sort the file by time"
                        file.log_row("late", "played at once", line_number, problem)
                    last_ms = max(last_ms, row[0])
                    yield row
        except READ_ERRORS as error:
            if self._is_strict:
                where = f"cannot be read behind line {line_number}, at byte {file.failed_at}"
                raise StartError(f"tick file {file.path} {where} ({_reason(error)}): {INCOMPLETE}") from error
            self.bad_lines += 1
            problem = f"it cannot be read: {_reason(error)}; its replay ends here"
            log.error("%s behind line %d %s", file.path, line_number, problem)  # noqa: TRY400 - the text says it all

    def _rows(self, file: TickFile, text: TextIO) -> Iterator[tuple[int, Tick | str]]:
        """Yield each row's number, and its tick or what is wrong with it; no more than `LINE_MAX` in memory."""
        reader = file.reader()
        lines = enumerate(file.lines(text), 1)
        for line_number, line in islice(lines, int(file.layout.has_header), None):
            file.is_amid_line = len(line) < LINE_MAX and not line.endswith("\n")
            try:
                tick = reader.read(line)
            except ValueError as error:
                yield line_number, str(error)
                continue
            if tick is None:
                continue
            if len(self._symbols) >= SYMBOLS_MAX and tick[2] not in self._symbols:
                yield line_number, f"symbol {tick[2]!r} is one of more than {SYMBOLS_MAX}; are the columns right?"
            else:
                self._symbols.add(tick[2])
                yield line_number, tick

    def _open(self, number: int, path: Path) -> TickFile:
        """Read the first rows: which format the file has, and whether its rows as a whole make sense."""
        problem = ""
        rows = late = crossed = last_ms = 0
        try:
            with text_of(path) as text:
                file = TickFile(number, path, text.readline(LINE_MAX), self._options)
            with text_of(path) as text:
                for line_number, row in islice(self._rows(file, text), SCAN_ROWS):
                    if isinstance(row, str):
                        problem = problem or f"; line {line_number}: {row}"
                        continue
                    time_ms, _, symbol, bid, ask, decimals = row
                    rows += 1
                    late += time_ms < last_ms
                    crossed += bid > ask
                    last_ms = time_ms
                    self.digits[symbol] = max(self.digits.get(symbol, 0), decimals)
        except READ_ERRORS as error:
            raise StartError(f"tick file {path} cannot be read: {_reason(error)}; is it the right one?") from error
        except ValueError as error:
            raise StartError(f"tick file {path} {error}") from None
        if not rows:
            raise StartError(f"tick file {path} has no usable tick in its first {SCAN_ROWS} rows{problem}")
        if late >= ENOUGH_ROWS and late * 2 > rows:
            what = f"is not in order of time ({late} of {rows} rows go back)"
            raise StartError(f"tick file {path} {what}: sort it, the oldest row first")
        if crossed >= ENOUGH_ROWS and crossed * 10 > rows * 9:
            what = f"has bids above asks ({crossed} of {rows} rows)"
            raise StartError(f"tick file {path} {what}: are the two columns swapped?")
        file.log_assumptions()
        return file


class TickFile:
    """A file whose layout is known; raises ValueError when ``first_line`` is of no format that we read.

    ``is_amid_line``: the line that was read last has no end. ``failed_at`` is the byte at which reading failed.
    """

    def __init__(self, number: int, path: Path, first_line: str, options: TickOptions) -> None:
        self.path = path
        self.layout = layout_of(first_line)
        self._number = number
        self._options = options
        self._symbol = ""
        self._logged: Counter[str] = Counter()
        self.is_amid_line = False
        self.failed_at = 0
        if self.layout.symbol < 0:
            self._symbol = options.symbol or symbol_of_file(path)
            if not self._symbol:
                name = self.layout.format.name
                raise ValueError(f"({name}) contains no symbol, nor does its name: set tick_symbol")
        self._reader = self.reader()

    def reader(self) -> RowReader:
        """Return a reader for one pass."""
        self._reader = RowReader(self.layout, self._options, self._symbol, self._number)
        return self._reader

    def lines(self, text: TextIO) -> Iterator[str]:
        """Yield lines, and the parts of those longer than `LINE_MAX`; raises `READ_ERRORS`."""
        try:
            while line := text.readline(LINE_MAX):
                yield line
        except READ_ERRORS:
            self.failed_at = byte_of(text)
            raise

    def log_row(self, sort: str, what: str, line_number: int, problem: str) -> None:
        """Log what is wrong with a row: the first few of each sort."""
        self._logged[sort] += 1
        if self._logged[sort] <= LOGGED_BAD_LINES:
            is_last = self._logged[sort] == LOGGED_BAD_LINES
            more = f"; further {sort} lines of this file are only counted" if is_last else ""
            log.warning("%s line %d %s: %s%s", self.path, line_number, what, problem, more)

    def log_assumptions(self) -> None:
        """Log what the file does not contain, so that nothing is assumed silently."""
        name, zone = self.layout.format.name, self.layout.format.zone
        if self._symbol:
            source = (
                "set by tick_symbol" if self._options.symbol else "from the name of the file; tick_symbol overrides it"
            )
            log.info("%s (%s): symbol %s, %s", self.path, name, self._symbol, source)
        if not self._reader.clock.has_dates:
            return
        if self._options.zone:
            log.info("%s (%s): times are read as %s, as tick_zone says", self.path, name, self._options.zone)
        elif zone:
            log.info("%s (%s): times are read as %s, as this format has them", self.path, name, zone)
        else:
            cure = "but the file does not name their zone: set tick_zone if it is another"
            log.warning("%s (%s): times are read as UTC, %s", self.path, name, cure)


@contextmanager
def text_of(path: Path) -> Iterator[TextIO]:
    """Yield the text of a file; raises ValueError for what is no text, and `READ_ERRORS`."""
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
        encoding = "utf-8-sig"
        if first.startswith((b"\xff\xfe", b"\xfe\xff")):
            encoding = "utf-16"
        elif first[1:4:2] == b"\0\0":
            encoding = "utf-16-le"
        with io.TextIOWrapper(binary, encoding=encoding, errors="replace") as text:
            yield text


def byte_of(text: TextIO) -> int:
    """Return how much of the file, compressed or not, was read."""
    binary = text.buffer
    raw = binary.fileobj if isinstance(binary, gzip.GzipFile) else binary
    return int(raw.tell()) if raw is not None else 0


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
