"""``mt4pump-archive import``: tick files of MT5, HistData, Dukascopy, TrueFX and others, as the dataset ``tick``."""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
from itertools import islice
from pathlib import Path

import pyarrow as pa
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from mt4pump.client import one_line
from mt4pump.log import drop_output, output_fault
from mt4pump.process.program import EXIT_FAILED, EXIT_SETTINGS, StartError
from mt4pump.simulator.tick_files import READ_ERRORS, TickFiles, text_of
from mt4pump.simulator.tick_formats import Tick, TickOptions, layout_of
from mt4pump_consumers.archive.columns import TICK, tick_table
from mt4pump_consumers.archive.folder import SERVER_CODE, ArchiveFolder, FolderError, Staged, place_of
from mt4pump_consumers.archive.parquet_store import by_date

CHUNK_ROWS = 500_000
LINE_CHARS = 4_096
MS = 1_000_000


def server_code(text: str) -> str:
    """Check a server code, which is a part of paths."""
    if not SERVER_CODE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 to 64 letters, digits, - and _")
    return text


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its flags."""
    command = commands.add_parser("import", help="store tick files in the dataset `tick`; stop the archive meanwhile")
    command.epilog = "example: mt4pump-archive import eurusd.csv --symbol EURUSD --timezone Europe/Athens"
    command.add_argument("files", nargs="+", type=Path, metavar="FILE", help="text or gzip; a file is imported once")
    command.add_argument("--symbol", default="", help="symbol of files that have none; else the one in the file's name")
    command.add_argument("--timezone", default="", help="zone of dates, as UTC, +02:00 or Europe/Athens")
    command.add_argument("--dates", choices=("dmy", "mdy"), help="whether 02/03/2010 begins with the day or the month")
    command.add_argument("--format", default="", help="the format that the files must have, as 'MT5 export' or TrueFX")
    command.add_argument("--server-code", type=server_code, default="", help="code under which they are stored")
    command.add_argument("--path", type=Path, default=Path("archive"), help="folder of the archive, never a database")


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
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FolderError(f"{path} cannot be read ({error.strerror}): name a tick file") from error
    if digest in folder.state.imports:
        raise FolderError(f"{path} is imported already, as {folder.state.imports[digest]}")
    _check_format(path, options)
    ticks = TickFiles([path], TickOptions(options.symbol, options.timezone, options.dates))
    staged: list[Staged] = []
    source, rows = path.name, iter(ticks)
    columns = (SpinnerColumn(), TextColumn("{task.description} {task.completed:,} ticks"))
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(source, total=None)
            while chunk := list(islice(rows, CHUNK_ROWS)):
                for date, table in by_date(_table(chunk, ticks.digits, source)):
                    staged.append(folder.stage(table, TICK, place_of(TICK, options.server_code, date)))
                progress.advance(task, len(chunk))
        folder.commit(staged, imports={digest: source})
    except BaseException:
        folder.discard(staged)
        raise
    count = sum(one.rows for one in staged)
    print(f"{path}: {count} ticks imported, {ticks.bad_lines} bad lines skipped")  # noqa: T201 - the command's own output


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
