"""``mt4pump-archive import``: tick files of MT5, HistData, Dukascopy, TrueFX and others, as the dataset ``tick``."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import logging
import sys
from collections.abc import Set as AbstractSet
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from mt4pump.client import one_line
from mt4pump.log import drop_output, output_fault
from mt4pump.process.program import EXIT_FAILED, EXIT_SETTINGS, StartError
from mt4pump.simulator.tick_files import GZIP, INCOMPLETE, READ_ERRORS, TickFiles, text_of
from mt4pump.simulator.tick_formats import Tick, TickOptions, layout_of
from mt4pump_consumers.archive.columns import TICK, tick_table
from mt4pump_consumers.archive.folder import ArchiveFolder, FolderError, Staged, place_of
from mt4pump_consumers.archive.parquet_store import by_date

CHUNK_ROWS = 500_000
READ_BYTES = 1 << 20
LINE_CHARS = 4_096
MS = 1_000_000


def run(options: argparse.Namespace) -> int:
    """Import files; each is one commit. Return the exit code: 2 for a wrong folder, file or flag, 1 for a fault."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # what the files do not say themselves
    try:
        folder = ArchiveFolder(options.path)
        try:
            for path in options.files:
                _import(folder, path, options)
        finally:
            folder.close()
        sys.stdout.flush()
    except (FolderError, StartError, OSError) as error:
        print(f"mt4pump-archive: {one_line(str(error))}", file=sys.stderr)  # noqa: T201 - the command's own output
        if isinstance(error, OSError) and output_fault(error) is not None:
            drop_output()
        return EXIT_FAILED if isinstance(error, OSError) else EXIT_SETTINGS
    return 0


def _import(folder: ArchiveFolder, path: Path, options: argparse.Namespace) -> None:
    before = _stamp(path)
    found = _fingerprints(path, {size for size, _ in folder.state.import_sizes.values()})
    if name := next((folder.state.imports[one] for one in found.sizes if one in folder.state.imports), ""):
        raise FolderError(f"{path} is imported already, as {name}")
    first_row = _rows_before(folder, path, found)
    _check_format(path, options)
    ticks = TickFiles([path], TickOptions(options.symbol, options.timezone, options.dates), is_strict=True)
    staged: list[Staged] = []
    source, rows = path.name, iter(ticks)
    columns = (SpinnerColumn(), TextColumn("{task.description} {task.completed:,} ticks"))
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(source, total=None)
            progress.advance(task, sum(1 for _ in islice(rows, first_row)))
            while chunk := list(islice(rows, CHUNK_ROWS)):
                for date, table in by_date(_table(chunk, ticks.digits, source)):
                    staged.append(folder.stage(table, TICK, place_of(TICK, options.server_code, date)))
                progress.advance(task, len(chunk))
        _check_unchanged(path, before)
        count = sum(one.rows for one in staged)
        sizes = {digest: (size, first_row + count) for digest, size in found.sizes.items()}
        folder.commit(staged, imports=dict.fromkeys(sizes, source), import_sizes=sizes)
    except BaseException:
        folder.discard(staged)
        raise
    known = f"{first_row} that were imported before, " if first_row else ""
    print(f"{path}: {count} ticks imported, {known}{ticks.bad_lines} bad lines skipped")  # noqa: T201 - the command's own output


def _rows_before(folder: ArchiveFolder, path: Path, found: Fingerprints) -> int:
    """Return how many of the file's first ticks are imported already, from a shorter file; raises FolderError."""
    state, first_row = folder.state, 0
    for digest, is_at_line_end in found.beginnings.items():
        if digest in state.import_sizes:
            if not is_at_line_end:
                text = "which ended amid a line, so that its last tick is wrong: import both into another folder"
                raise FolderError(f"{path} begins with all of {state.imports[digest]}, {text}")
            first_row = max(first_row, state.import_sizes[digest][1])
    return first_row


def _stamp(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is written or replaced; raises FolderError."""
    try:
        found = path.stat()
    except OSError as error:
        raise FolderError(f"{path} cannot be read ({error.strerror}): name a tick file") from error
    return found.st_ino, found.st_size, found.st_mtime_ns


def _check_unchanged(path: Path, before: tuple[int, ...]) -> None:
    if _stamp(path) != before:
        raise FolderError(f"{path} was changed while it was read: import it when no program writes to it")


class Fingerprints(NamedTuple):
    """SHA-256 digests of a file.

    ``sizes``: of the whole file as it is, and unpacked, each with its size in bytes. ``beginnings``: of each of its
    beginnings that has a size that was asked for, with whether a line ends there.
    """

    sizes: dict[str, int]
    beginnings: dict[str, bool]


def _fingerprints(path: Path, sizes: AbstractSet[int]) -> Fingerprints:
    """Read a file once as it is, and once more unpacked if it is packed; raises FolderError."""
    found = Fingerprints({}, {})
    size = 0
    try:
        with path.open("rb") as raw:
            is_packed = raw.read(len(GZIP)) == GZIP
            for file in (raw, gzip.GzipFile(fileobj=raw)) if is_packed else (raw,):
                raw.seek(0)
                digest, size, last = hashlib.sha256(), 0, b""
                for limit in (*sorted(sizes), sys.maxsize):
                    while block := file.read(min(READ_BYTES, limit - size)):
                        digest.update(block)
                        size, last = size + len(block), block[-1:]
                    if size == limit and (following := file.read(1)):
                        found.beginnings[digest.hexdigest()] = last == b"\n" or following in b"\r\n"
                        digest.update(following)
                        size, last = size + 1, following
                found.sizes[digest.hexdigest()] = size
    except OSError as error:
        raise FolderError(f"{path} cannot be read ({error.strerror or error}): name a tick file") from error
    except READ_ERRORS as error:
        where = f"cannot be read behind byte {size} of its text"
        raise FolderError(f"tick file {path} {where} ({error}): {INCOMPLETE}") from error
    return found


def _check_format(path: Path, options: argparse.Namespace) -> None:
    """Refuse a file of another format than the one stated, and dates without a zone. Raises FolderError."""
    try:
        with text_of(path) as text:
            found = layout_of(text.readline(LINE_CHARS)).format
    except ValueError as error:
        raise FolderError(f"tick file {path} {error}") from None
    except READ_ERRORS as error:  # of a compressed file that is damaged, too
        raise FolderError(f"tick file {path} cannot be read: {error}; is it the right one?") from error
    if options.format and options.format.lower() != found.name.lower():
        raise FolderError(f"{path} is of the format {found.name}, not {options.format}")
    if not (options.timezone or found.zone):
        raise FolderError(f"{path} ({found.name}) does not say the zone of its times: give --timezone")


def _table(ticks: list[Tick], digits: dict[str, int], source: str) -> pa.Table:
    times, _, symbols, bids, asks, _ = zip(*ticks, strict=True)
    return tick_table(
        ts=[time * MS for time in times],
        symbol=symbols,
        bid=bids,
        ask=asks,
        digits=[digits.get(symbol, 0) for symbol in symbols],
        source=[source] * len(times),
    )
