"""``mt4pump record`` captures the stream with its timing; ``mt4pump play`` publishes it again."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import zmq
from rich.console import Console, Group
from rich.live import Live
from rich.progress import TaskProgressColumn, TimeElapsedColumn
from rich.text import Text

from mt4pump import __version__
from mt4pump.cli import report
from mt4pump.cli.arguments import (
    add_stream_flags,
    count,
    endpoint_of,
    is_heartbeat,
    keys_in,
    requested_topics,
    speed,
    valid_endpoint,
    wrong_setting,
)
from mt4pump.cli.format import progress_bar
from mt4pump.cli.stream import CHECK_INTERVAL_S, AlertTracker, StreamStats, listen, silence, subscriber
from mt4pump.client.event import Frames
from mt4pump.client.liveness import NS
from mt4pump.errors import BindError
from mt4pump.log import one_line
from mt4pump.process.endpoints import endpoint_host
from mt4pump.process.signals import asked_to_end
from mt4pump.process.values import is_loopback
from mt4pump.publisher.binding import bind, bind_failure
from mt4pump.recording import RecordedMessage, Recording, RecordingWriter
from mt4pump.settings import setting_as_written

DRAWS_PER_S = 5
SLICE_S = 0.2
"""Longest wait: on Windows Ctrl-C is seen only between two waits."""
STALL_S = 5.0
"""How long a reader whose queue is full may delay the others before it loses a message."""
FULL_WAIT_S = 0.001
DRAIN_EVERY = 256
LINGER_MS = 2_000
RECORD_EXAMPLES = """\
TOPIC is as for mt4pump tail; heartbeats are always recorded as well. A FILE that ends in .gz is compressed.

  mt4pump record today.rec.gz                       everything, until Ctrl-C
  mt4pump record trades.rec trade. --for 3600       an hour of trades
  mt4pump play today.rec.gz --speed 10              publish it again, ten times as fast"""
PLAY_EXAMPLES = """\
Topics and bodies are published as they were recorded, heartbeats too: epoch, ts and offset are those of that time, so
a reader takes it for a daemon whose clock is late. There is no daemon behind it: no snapshots and no replays.

  mt4pump play today.rec.gz                              at its own speed; begins when somebody subscribes
  mt4pump play today.rec.gz --speed 10 --repeat 3        ten times as fast, three times over
  mt4pump play today.rec.gz --speed max --no-wait        as fast as possible, at once
A file that is damaged or incomplete is played up to the damage, with exit code 1."""


def record_arguments(parser: argparse.ArgumentParser) -> None:
    """Add file, topics and flags."""
    parser.epilog = RECORD_EXAMPLES
    parser.add_argument("file", type=Path, metavar="FILE", help="file to write; must not exist yet")
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help="what to record; all if none is given")
    parser.add_argument("--force", action="store_true", help="overwrite FILE")
    add_stream_flags(parser, "messages")


def record_command(args: argparse.Namespace) -> int:
    """Record until Ctrl-C, ``--count`` or ``--for``. Returns 1 for a full disk, or fewer messages than ``--count``."""
    endpoint, topics, keys = endpoint_of(args.endpoint), requested_topics("record", args.topics), keys_in(args.keys)
    stats = StreamStats(endpoint, topics, time.monotonic())
    about = {"endpoint": endpoint, "topics": list(args.topics), "version": __version__}
    with asked_to_end() as asked, subscriber(endpoint, topics, keys) as source:
        recorder = Recorder(args.file, about, stats, overwrite=args.force)
        has_enough, fault = False, ""
        with recorder.progress():
            try:
                with recorder.writer:
                    has_enough = listen(args, asked, source, stats, handle=recorder.handle, refresh=recorder.refresh)
            except OSError as error:
                has_enough, fault = False, error.strerror or str(error)
    report("record", recorder.summary(time.monotonic()))
    if fault:
        report("record", f"{args.file}: {fault}; what it holds can be played")
    return 0 if has_enough else 1


class Recorder:
    """Writes received messages into a file; ``stats`` counts them, and the gaps between them."""

    def __init__(self, path: Path, about: Mapping[str, object], stats: StreamStats, *, overwrite: bool) -> None:
        self.writer = RecordingWriter(path, time.time_ns(), about, overwrite=overwrite)
        self._path, self._stats = path, stats
        self._alerts = AlertTracker(stats)
        self._refresh_at_s = stats.started_s + CHECK_INTERVAL_S
        self._console = Console(stderr=True)
        self._is_drawn = sys.stderr.isatty() and not self._console.is_dumb_terminal

    def handle(self, frames: Frames, now_s: float) -> bool:
        """Count a message; write it, and return True, when its topic was requested or it is a heartbeat."""
        self._stats.handle(frames, now_s)
        topic = frames[0].decode("utf-8", "replace")
        wanted = self._stats.topics.wants(topic) or is_heartbeat(topic)
        if wanted:
            self.writer.add(frames, time.time_ns())
        return wanted

    def refresh(self, now_s: float) -> None:
        """Flush the file once a second, so that a recording that is killed has lost no more; report alerts."""
        if now_s < self._refresh_at_s:
            return
        self._refresh_at_s = now_s + CHECK_INTERVAL_S
        self.writer.flush()
        for alert in () if self._is_drawn else self._alerts.check(now_s):
            with suppress(OSError):  # nobody reads it, which is no reason to end the recording
                report("record", alert.text)

    def progress(self) -> AbstractContextManager[object]:
        """Draw the progress where standard error is a terminal that can redraw; else `refresh` reports alerts."""
        if not self._is_drawn:
            return nullcontext()
        return Live(console=self._console, transient=True, refresh_per_second=DRAWS_PER_S, get_renderable=self._drawn)

    def _drawn(self) -> Group:
        now_s = time.monotonic()
        lines = [Text(f"mt4pump record: {self.summary(now_s)}")]
        if alert := silence(self._stats, now_s):
            lines.append(Text(one_line(alert.text), "bold red"))
        return Group(*lines)

    def summary(self, now_s: float) -> str:
        """Return what was recorded so far, in one line."""
        writer, found = self.writer, self._stats.sequence
        elapsed_s = now_s - self._stats.started_s
        return (
            f"{writer.messages} messages, {writer.bytes / 1e6:.1f} MB in {elapsed_s:.1f} s to {self._path}; "
            f"missed {found.missed} in {found.gaps} gaps, daemon restarts {self._stats.restarts}"
        )


def play_arguments(parser: argparse.ArgumentParser) -> None:
    """Add file and flags."""
    parser.epilog = PLAY_EXAMPLES
    parser.add_argument("file", type=Path, metavar="FILE", help="a file that mt4pump record wrote")
    parser.add_argument("--endpoint", metavar="ADDRESS", help="address to publish on [the daemon's pub_endpoint]")
    parser.add_argument("--speed", type=speed, default=1.0, metavar="N", help="N times as fast as it was, or max [1]")
    parser.add_argument("--repeat", type=count, default=1, metavar="N", help="play it N times [1]")
    parser.add_argument("--no-wait", action="store_true", help="begin at once, even without a subscriber")
    parser.add_argument("--allow-plaintext", action="store_true", help="allow an address that other machines reach")


def play_command(args: argparse.Namespace) -> int:
    """Play to the end, or until Ctrl-C. Returns 0, or 1 when the file is damaged or incomplete."""
    endpoint = bind_address(args.endpoint, allow_plaintext=args.allow_plaintext)
    with Recording(args.file) as recording, asked_to_end() as asked, publishing(endpoint) as player:
        began_ns = recording.about.get("began_ns")
        began_s = began_ns / NS if isinstance(began_ns, int) and 0 <= began_ns < 2**62 else 0.0
        began = datetime.fromtimestamp(began_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        report("play", f"publishes on {player.endpoint} what was recorded from {began} on: this is not live")
        if not args.no_wait:
            report("play", "waits for a subscriber")
            player.wait_for_subscriber(asked)
        _play_once(recording, player, args.speed, asked)
        for _ in range(args.repeat - 1):
            if asked.is_set() or recording.problem:
                break
            with Recording(args.file) as again:
                _play_once(again, player, args.speed, asked)
    report("play", player.summary())
    if recording.problem:
        report("play", f"{args.file}: {recording.problem}")
    return 1 if recording.problem else 0


def _play_once(recording: Recording, player: Player, factor: float, asked: Event) -> None:
    size = max(1, recording.size_bytes)
    with progress_bar("play", TaskProgressColumn(), TimeElapsedColumn()) as advance:
        player.play(recording, factor, asked, lambda done_bytes: advance(done_bytes, size))


def bind_address(flag: str | None, *, allow_plaintext: bool) -> str:
    """Return the address to bind; raises SettingsError for one that other machines reach, unless that is allowed."""
    name = "--endpoint" if flag else "pub_endpoint"
    endpoint = valid_endpoint(str(flag or setting_as_written("pub_endpoint")), name)
    host = endpoint_host(endpoint)
    if host is not None and not is_loopback(host) and not allow_plaintext:
        cure = "use tcp://127.0.0.1:PORT, or --allow-plaintext if the network is yours alone"
        raise wrong_setting(name, f"{endpoint} may be reached from other machines; {cure}")
    return endpoint


@contextmanager
def publishing(endpoint: str) -> Iterator[Player]:
    """Yield a `Player` on ``endpoint``; raises BindError. At the end it waits at most 2 s until all is sent."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        socket.setsockopt(zmq.IPV6, int("[" in endpoint))
        socket.setsockopt(zmq.XPUB_NODROP, 1)  # a send fails when a queue is full
        try:
            bind(socket, endpoint)
        except zmq.ZMQError as error:
            raise BindError(bind_failure(endpoint, error)) from error
        yield Player(socket)


class Player:
    """Sends recorded messages when they are due. ``lost`` counts those that found a reader's queue full."""

    def __init__(self, socket: zmq.Socket[bytes], clock: Callable[[], float] = time.monotonic) -> None:
        self.endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.sent = self.lost = 0
        self.late_s = 0.0
        self._socket = socket
        self._clock = clock
        self._started_s = clock()

    def wait_for_subscriber(self, asked: Event) -> None:
        """Return at the first subscription, or when the end is requested."""
        while not asked.is_set() and not self._socket.poll(int(SLICE_S * 1000)):
            pass

    def play(self, recording: Recording, speed: float, asked: Event, advance: Callable[[int], None]) -> None:
        """Send every message of ``recording``; ``advance`` receives how many bytes of the file are done."""
        start_s = self._clock()
        if not self.sent:
            self._started_s = start_s
        for message in recording:
            due_s = start_s + message.at_ns / NS / speed
            while not asked.is_set() and (left_s := due_s - self._clock()) > 0:
                asked.wait(min(left_s, SLICE_S))
                advance(recording.position_bytes)
            if asked.is_set():
                return
            self.late_s = max(self.late_s, self._clock() - due_s if speed < math.inf else 0.0)
            self._send(message, asked)
            advance(recording.position_bytes)

    def _send(self, message: RecordedMessage, asked: Event) -> None:
        until_s = self._clock() + STALL_S
        while not self._has_sent(message):
            if asked.is_set() or self._clock() >= until_s:
                self._send_past_full(message)
                break
            asked.wait(FULL_WAIT_S)
        self.sent += 1
        if not self.sent % DRAIN_EVERY:
            self._drain()

    def _has_sent(self, message: RecordedMessage) -> bool:
        try:
            self._socket.send_multipart(message.frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _send_past_full(self, message: RecordedMessage) -> None:
        """Send to all readers except those whose queue is full."""
        self.lost += 1
        self._socket.setsockopt(zmq.XPUB_NODROP, 0)
        try:
            self._has_sent(message)
        finally:
            self._socket.setsockopt(zmq.XPUB_NODROP, 1)

    def _drain(self) -> None:
        """Read the subscriptions: libzmq has applied them, and would queue them without a limit."""
        with suppress(zmq.Again):
            for _ in range(DRAIN_EVERY):
                self._socket.recv(zmq.NOBLOCK)

    def summary(self) -> str:
        """Return what was done, in one line."""
        elapsed_s = max(self._clock() - self._started_s, 0.001)
        lost = f"; at least {self.lost} did not fit into a reader's full queue" if self.lost else ""
        late = f"; up to {self.late_s:.1f} s late" if self.late_s >= 1 else ""
        return f"{self.sent} messages in {elapsed_s:.1f} s, {self.sent / elapsed_s:.0f}/s{lost}{late}"
