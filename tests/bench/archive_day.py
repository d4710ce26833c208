"""``python -m tests.bench.archive_day [--quotes N]``: a day of 10 million quotes in files: size, rate, memory.

The quotes go through the client's core, batches and commits, without sockets; then the day is over, and its files are
joined as the program does. Beside it stand CSV and the daemon's journal for the same quotes.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from mt4pump_consumers.archive.folder import ArchiveFolder
from mt4pump_consumers.archive.parquet_store import ParquetStore
from mt4pump_consumers.archive.settings import ArchiveSettings
from rich.console import Console
from rich.progress import track

from tests.bench.archive import QuoteReader, quote_stream, quotes, sizes

DAY_NS = 86_400 * 1_000_000_000
MIDNIGHT_NS = 19_676 * DAY_NS
BATCH_QUOTES = 250_000
SAMPLE_QUOTES = 200_000


def main() -> int:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.archive_day", description=__doc__)
    parser.add_argument("--quotes", type=int, default=10_000_000)
    options = parser.parse_args()
    frames = quote_stream(MIDNIGHT_NS, DAY_NS // options.quotes)
    with tempfile.TemporaryDirectory() as name:
        folder = ArchiveFolder(Path(name))
        reader, spent_s = QuoteReader(folder.state), 0.0
        for _ in track(range(0, options.quotes, BATCH_QUOTES), "quotes", console=Console(stderr=True)):
            chunk = list(islice(frames, BATCH_QUOTES))
            began_s = time.process_time()
            ParquetStore(folder).commit(reader.read(chunk))
            spent_s += time.process_time() - began_s
        rows = sum(file.rows for file in folder.state.files.values())
        before = sum(file.bytes for file in folder.state.files.values())
        began_s = time.process_time()
        ParquetStore(folder).maintain(ArchiveSettings(), MIDNIGHT_NS + 2 * DAY_NS)
        joined_s = time.process_time() - began_s
        (file,) = folder.state.files.values()
        folder.close()
    text_bytes, journal_bytes = sizes(quotes(SAMPLE_QUOTES))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    day_mb, text_mb = file.bytes / 1e6, text_bytes * rows / 1e6
    lines = (
        f"{rows:,} quotes of a day: {rows / spent_s:,.0f} quotes per CPU second; joined in {joined_s:.0f} CPU seconds",
        f"bytes per quote: {before / rows:.1f} as committed, {file.bytes / rows:.1f} joined",
        f"beside it: {text_bytes:.1f} as CSV, {journal_bytes:.1f} in the daemon's journal",
        f"the day: {day_mb:,.0f} MB joined, {text_mb:,.0f} MB as CSV; peak memory {peak:,.0f} MB",
    )
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
