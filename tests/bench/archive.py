"""``python -m tests.bench.archive [--rounds N] [--quotes N]``: what a quote costs the archive, beside pyarrow alone.

The archive's figures hold the client's core (decoding, order), batches, sorting, zstd, fsync and the commit, all in CPU
time of the whole process; no sockets. The bare loop decodes the same bodies, makes tables and writes the same columns
with the defaults of pyarrow and zstd, without any promise. Rounds alternate, as a machine's mood drifts; medians count.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path

import msgpack
import pyarrow as pa
import pyarrow.parquet as pq
from mt4pump_consumers.archive.folder import ArchiveFolder
from mt4pump_consumers.archive.parquet_store import ParquetStore
from mt4pump_consumers.archive.store import ArchiveBatch, StreamState
from mt4pump_consumers.archive.writer import CHUNK_EVENTS, BatchBuilder
from rich.console import Console
from rich.table import Table

from mt4pump.client.event import Event
from mt4pump.client.liveness import HeartbeatMonitor
from mt4pump.client.ordering import StreamOptions
from mt4pump.client.stream import Stream
from mt4pump.client.topic_state import SubscriptionSet
from mt4pump.journal import Journal, JournalOptions, Stored

Frames = tuple[bytes, bytes]
EPOCH, START_NS = 1_700_000_000_000, 1_700_000_000_000_000_000
READ_AT_ONCE = 500
STORED_QUOTES = 50_000


def quotes(number: int) -> list[Frames]:
    """Return encoded quotes, 10,000 a second."""
    return list(islice(quote_stream(), number))


def quote_stream(start_ns: int = START_NS, step_ns: int = 100_000) -> Iterator[Frames]:
    """Yield encoded quotes of 50 symbols, prices as a random walk, about ``step_ns`` apart."""
    chance = random.Random(1)  # noqa: S311 - the same quotes each time
    prices, seqs = [1 + number / 10 for number in range(50)], [0] * 50
    for number in count():
        which = chance.randrange(50)
        prices[which] += chance.choice((-1, 1)) * 1e-5
        seqs[which] += 1
        ts = start_ns + number * step_ns + chance.randrange(step_ns)
        bid, symbol = round(prices[which], 5), f"SYM{which:03d}"
        body = {
            "symbol": symbol,
            "digits": 5,
            "bid": bid,
            "ask": round(bid + 2e-5, 5),
            "spread": 2,
            "time": ts // 10**9,
        }
        more = {"high": 9.0, "low": 1.0, "direction": number % 3, "epoch": EPOCH, "seq": seqs[which], "ts": ts}
        yield f"quote.{symbol}".encode(), msgpack.packb({**body, **more})


class QuoteReader:
    """The client's core without sockets, with a builder of batches behind it."""

    def __init__(self, state: StreamState) -> None:
        options = StreamOptions(query=False, snapshot=False, heal=False)
        monitor = HeartbeatMonitor(silence_s=5, lag_limit=100_000, lag_limit_s=10)
        self._stream = Stream(SubscriptionSet(["*"]), monitor, options)
        self._builder = BatchBuilder(state, Counter())

    def read(self, frames: list[Frames]) -> ArchiveBatch:
        """Return the batch that the archive makes of ``frames``."""
        stream, add = self._stream, self._builder.add
        for start in range(0, len(frames), READ_AT_ONCE):
            stream.handle(frames[start : start + READ_AT_ONCE], 0.0, 0)
            while stream.out:
                item = stream.out.popleft()
                if isinstance(item, Event):
                    add(item)
        return self._builder.take_batch(None)


def archived(frames: list[Frames], folder: Path) -> int:
    """Archive quotes as the program does; return the bytes of the files."""
    archive = ArchiveFolder(folder)
    ParquetStore(archive).commit(QuoteReader(archive.state).read(frames))
    archive.close()
    files = archive.state.files.values()
    assert sum(file.rows for file in files) == len(frames)
    return sum(file.bytes for file in files)


def bare(frames: list[Frames], folder: Path) -> int:
    """Write the bodies with pyarrow alone; return the bytes of the file."""
    unpack = msgpack.unpackb
    tables = [
        pa.Table.from_pylist([unpack(body) for _, body in frames[start : start + CHUNK_EVENTS]])
        for start in range(0, len(frames), CHUNK_EVENTS)
    ]
    path = folder / "bare.parquet"
    pq.write_table(pa.concat_tables(tables), path, compression="zstd")
    return path.stat().st_size


def measured(work: Callable[[list[Frames], Path], int], frames: list[Frames]) -> tuple[float, float]:
    """Return quotes per second of CPU time, and bytes per quote."""
    with tempfile.TemporaryDirectory() as folder:
        began_s = time.process_time()
        size = work(frames, Path(folder))
        return len(frames) / (time.process_time() - began_s), size / len(frames)


def sizes(frames: list[Frames]) -> tuple[float, float]:
    """Return the bytes per quote of CSV and of the daemon's journal."""
    text = io.StringIO()
    writer = csv.writer(text)
    for _, body in frames:
        writer.writerow(msgpack.unpackb(body).values())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal.sqlite3")
        journal = Journal(path, JournalOptions(), time.time_ns)
        some = frames[:STORED_QUOTES]
        first = journal.last_offset + 1
        assert journal.append([Stored(first + at, START_NS, *one) for at, one in enumerate(some)], {})
        journal.close()
        return len(text.getvalue()) / len(frames), path.stat().st_size / len(some)


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.archive", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quotes", type=int, default=200_000)
    options = parser.parse_args()
    frames = quotes(options.quotes)
    found = [(measured(archived, frames), measured(bare, frames)) for _ in range(options.rounds)]
    ours, plain = ([one[which] for one in found] for which in (0, 1))
    ratio = statistics.median(mine[0] / other[0] for mine, other in found)
    table = Table("", "quotes per CPU second", "bytes per quote", box=None)
    for name, rounds in (("mt4pump-archive", ours), ("bare pyarrow loop", plain)):
        table.add_row(name, f"{statistics.median(rate for rate, _ in rounds):,.0f}", f"{rounds[0][1]:.1f}")
    text_bytes, journal_bytes = sizes(frames)
    table.add_row("CSV", "", f"{text_bytes:.1f}")
    table.add_row("the daemon's journal", "", f"{journal_bytes:.1f}")
    table.caption = f"median of {options.rounds} rounds of {options.quotes:,} quotes; archive/bare {ratio:.2f}"
    Console(width=100).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
