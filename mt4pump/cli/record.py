"""``mt4pump record``: capture the stream with its timing, for ``mt4pump play``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import zmq
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from mt4pump import __version__
from mt4pump.cli.alerts import AlertTracker, silence
from mt4pump.cli.arguments import add_keys_flag, count, endpoint_of, keys_in, seconds
from mt4pump.cli.stats import StreamStats
from mt4pump.cli.tail import BATCH, Deadline, subscriber
from mt4pump.cli.topic_filter import TopicFilter, is_heartbeat
from mt4pump.cli.views import CHECK_INTERVAL_S
from mt4pump.client.sub_connection import SubConnection
from mt4pump.errors import StartError
from mt4pump.log import one_line
from mt4pump.process.signals import asked_to_end
from mt4pump.recording import RecordingWriter

FLUSH_S = 1.0
"""A recording that is killed has lost at most so much."""
DRAW_S = 0.2
EXAMPLES = """\
TOPIC is as for mt4pump tail; heartbeats are always recorded as well. A FILE that ends in .gz is compressed.

  mt4pump record today.rec.gz                       everything, until Ctrl-C
  mt4pump record trades.rec trade. --for 3600       an hour of trades
  mt4pump play today.rec.gz --speed 10              publish it again, ten times as fast"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add file, topics and flags."""
    parser.epilog = EXAMPLES
    parser.add_argument("file", type=Path, metavar="FILE", help="file to write; must not exist yet")
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help="what to record; all if none is given")
    parser.add_argument("--endpoint", help="address that the daemon publishes on [its pub_endpoint]")
    parser.add_argument("--count", type=count, metavar="N", help="end after N messages; code 1 if --for comes first")
    parser.add_argument("--for", type=seconds, metavar="SECONDS", dest="for_s", help="end after so many seconds")
    parser.add_argument("--force", action="store_true", help="overwrite FILE")
    add_keys_flag(parser)


def command(args: argparse.Namespace) -> int:
    """Record until Ctrl-C, ``--count`` or ``--for``. Returns 0; 1 when the disk is full, or fewer than N came."""
    endpoint, topics, keys = endpoint_of(args.endpoint), TopicFilter(args.topics), keys_in(args.keys)
    stats = StreamStats(topics, time.monotonic())
    until_s = None if args.for_s is None else stats.started_s + args.for_s
    about = {"endpoint": endpoint, "topics": list(args.topics), "version": __version__}
    with asked_to_end() as asked, subscriber(endpoint, topics, keys) as source:
        recorder = Recorder(args.file, about, stats, overwrite=args.force)
        with recorder.progress():
            error = recorder.run(source, Deadline(args.count, until_s, asked))
    print(f"mt4pump record: {recorder.summary(time.monotonic())}", file=sys.stderr)
    if error is not None:
        print(
            f"mt4pump record: {args.file}: {error.strerror or error}; what stands in it can be played", file=sys.stderr
        )
        return 1
    return 1 if args.count is not None and recorder.writer.messages < args.count else 0


class Recorder:
    """Writes received messages into a file; ``stats`` counts them, and the gaps between them."""

    def __init__(self, path: Path, about: Mapping[str, object], stats: StreamStats, *, overwrite: bool) -> None:
        try:
            self.writer = RecordingWriter(path, time.time_ns(), about, overwrite=overwrite)
        except OSError as error:
            raise StartError(f"{path} cannot be written: {error.strerror or error}") from error
        self._path, self._stats = path, stats
        self._show: Live | None = None
        self._draw_at_s = 0.0
        self._alerts = AlertTracker()
        self._check_at_s = stats.started_s + CHECK_INTERVAL_S
        self._endpoint = str(about["endpoint"])

    def run(self, source: SubConnection, end: Deadline) -> OSError | None:
        """Record until the end is reached; return the disk's error when a write fails."""
        flush_at_s = 0.0
        try:
            with self.writer:
                while not end.reached(self.writer.messages, now_s := time.monotonic()):
                    source.turns()  # the connection's monitor is bounded and has to be read
                    if source.socket.poll(end.wait_ms(now_s)):
                        self._receive_batch(source.socket, end, now_s)
                    if now_s >= flush_at_s:
                        flush_at_s = now_s + FLUSH_S
                        self.writer.flush()
                    if self._show is None:
                        self._report_alerts(now_s)
                    else:
                        self._draw(self._show, now_s)
        except OSError as error:
            return error
        return None

    def _receive_batch(self, socket: zmq.Socket[bytes], end: Deadline, now_s: float) -> None:
        for _ in range(BATCH):
            if end.count is not None and self.writer.messages >= end.count:
                return
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._stats.handle(frames, now_s)
            if self._matches(frames[0]):
                self.writer.add(frames, time.time_ns())

    def _matches(self, raw_topic: bytes) -> bool:
        topic = raw_topic.decode("utf-8", "replace")
        return self._stats.topics.wants(topic) or is_heartbeat(topic)

    @contextmanager
    def progress(self) -> Iterator[None]:
        """Show how it goes where standard error is a terminal; elsewhere alerts are logged as lines."""
        if not sys.stderr.isatty():
            yield
            return
        with Live(console=Console(stderr=True), transient=True, auto_refresh=False) as self._show:
            yield

    def _report_alerts(self, now_s: float) -> None:
        if now_s < self._check_at_s:
            return
        self._check_at_s = now_s + CHECK_INTERVAL_S
        for alert in self._alerts.check(self._stats, self._endpoint, now_s):
            with suppress(OSError):  # nobody reads it: no reason to end the recording
                print(f"mt4pump record: {one_line(alert.text)}", file=sys.stderr, flush=True)

    def _draw(self, show: Live, now_s: float) -> None:
        if now_s < self._draw_at_s:
            return
        self._draw_at_s = now_s + DRAW_S
        self._stats.measure(now_s)
        alert = silence(self._stats, self._endpoint, now_s)
        lines = [Text(f"mt4pump record: {self.summary(now_s)}")]
        if alert is not None:
            lines.append(Text(alert.text, "bold red"))
        show.update(Group(*lines), refresh=True)

    def summary(self, now_s: float) -> str:
        """Return what was recorded so far, in one line."""
        writer, found = self.writer, self._stats.sequence
        elapsed_s = now_s - self._stats.started_s
        return (
            f"{writer.messages} messages, {writer.bytes / 1e6:.1f} MB in {elapsed_s:.1f} s to {self._path}; "
            f"missed {found.missed} in {found.gaps} gaps, daemon restarts {self._stats.restarts}"
        )
