"""``mt4pump play``: publish a captured stream again."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import zmq
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from mt4pump.cli.arguments import count
from mt4pump.errors import BindError, SettingsError
from mt4pump.log import one_line
from mt4pump.process.signals import asked_to_end
from mt4pump.process.values import is_loopback
from mt4pump.publisher.binding import bind, bind_failure
from mt4pump.recording import Recording, Taken
from mt4pump.settings import setting_as_written
from mt4pump.settings.validators import endpoint as checked_endpoint
from mt4pump.settings.validators import endpoint_host

NS = 1_000_000_000
SLICE_S = 0.2
"""Longest wait: on Windows Ctrl-C is seen only between two waits."""
STALL_S = 5.0
"""How long a reader whose queue is full may hold up the rest before it loses a message."""
FULL_WAIT_S = 0.001
DRAIN_EVERY = 256
LINGER_MS = 2_000
DRAW_S = 0.2
EXAMPLES = """\
Topics and bodies go out as they were recorded, heartbeats too: epoch, ts and offset are those of that time, so a reader
takes it for a daemon whose clock is late. No daemon runs behind it: there are no snapshots and no replays.

  mt4pump play today.rec.gz                              as it was; begins when somebody subscribes
  mt4pump play today.rec.gz --speed 10 --repeat 3        ten times as fast, three times over
  mt4pump play today.rec.gz --speed max --no-wait        flat out, at once
A file that is damaged, or was cut off, is played as far as it is whole; that ends with code 1."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add file and flags."""
    parser.epilog = EXAMPLES
    parser.add_argument("file", type=Path, metavar="FILE", help="what mt4pump record wrote")
    parser.add_argument("--endpoint", help="address to publish on [the daemon's pub_endpoint]")
    parser.add_argument("--speed", type=speed, default=1.0, metavar="N", help="N times as fast as it was, or max [1]")
    parser.add_argument("--repeat", type=count, default=1, metavar="N", help="play it N times [1]")
    parser.add_argument("--no-wait", action="store_true", help="begin at once, also when nobody listens")
    parser.add_argument("--allow-plaintext", action="store_true", help="allow an address that other machines reach")


def speed(text: str) -> float:
    """Return a flag's speed; ``max`` is infinite."""
    if text.strip().lower() == "max":
        return math.inf
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0; write a number, or max")
    return found


def command(args: argparse.Namespace) -> int:
    """Play to the end, or until Ctrl-C. Returns 0, or 1 when the file is not whole."""
    endpoint = address(args.endpoint, allow_plaintext=args.allow_plaintext)
    with Recording(args.file) as recording, asked_to_end() as asked, publishing(endpoint) as player:
        began = datetime.fromtimestamp(_started_s(recording), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        report(f"publishes on {player.endpoint} what was recorded from {began} on: this is not live")
        if not args.no_wait:
            report("waits for a subscriber")
            player.wait_for_subscriber(asked)
        problem = _play(args, recording, player, asked)
    report(player.summary())
    if problem:
        report(f"{args.file}: {problem}")
    return 1 if problem else 0


def report(text: str) -> None:
    """Print a line to standard error."""
    print(f"mt4pump play: {one_line(text)}", file=sys.stderr, flush=True)


def _started_s(recording: Recording) -> float:
    began_ns = recording.about.get("began_ns")
    return began_ns / NS if isinstance(began_ns, int) and 0 <= began_ns < 2**62 else 0.0


def _play(args: argparse.Namespace, recording: Recording, player: Player, asked: Event) -> str:
    """Play as often as asked; return what is wrong with the file, if anything."""
    with progress_of(recording) as advance:
        player.play(recording, args.speed, asked, advance)
    for _ in range(args.repeat - 1):
        if asked.is_set() or recording.problem:
            break
        with Recording(args.file) as again, progress_of(again) as advance:
            player.play(again, args.speed, asked, advance)
    return recording.problem


def address(flag: str | None, *, allow_plaintext: bool) -> str:
    """Return the address to bind; raises SettingsError for one that other machines reach, unless that is allowed."""
    name = "--endpoint" if flag else "pub_endpoint"
    try:
        endpoint = checked_endpoint(str(flag or setting_as_written("pub_endpoint")))
    except ValueError as error:
        raise SettingsError(f"settings are wrong:\n  {name}: {error}") from error
    host = endpoint_host(endpoint)
    if host is not None and not is_loopback(host) and not allow_plaintext:
        cure = "use tcp://127.0.0.1:PORT, or --allow-plaintext if the network is yours alone"
        raise SettingsError(f"settings are wrong:\n  {name}: {endpoint} may be reached from other machines; {cure}")
    return endpoint


@contextmanager
def publishing(endpoint: str) -> Iterator[Player]:
    """Give a `Player` on ``endpoint``; raises BindError. Waits at the end until its readers have all, 2 s at most."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.XPUB)
    try:
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        socket.setsockopt(zmq.IPV6, int("[" in endpoint))
        socket.setsockopt(zmq.XPUB_NODROP, 1)  # says when a queue is full
        try:
            bind(socket, endpoint)
        except zmq.ZMQError as error:
            raise BindError(bind_failure(endpoint, error)) from error
        yield Player(socket)
    finally:
        socket.close()
        context.term()


class Player:
    """Sends recorded messages when they are due. ``sent`` and ``lost`` count them; a lost one found a queue full."""

    def __init__(self, socket: zmq.Socket[bytes], clock: Callable[[], float] = time.monotonic) -> None:
        self.endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.sent = self.lost = 0
        self.late_s = 0.0
        self._socket = socket
        self._clock = clock
        self._started_s = clock()
        self._pause = Event()

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

    def _send(self, message: Taken, asked: Event) -> None:
        until_s = self._clock() + STALL_S
        while True:
            try:
                self._socket.send_multipart(message.frames, zmq.NOBLOCK)
            except zmq.Again:
                if not asked.is_set() and self._clock() < until_s:
                    self._pause.wait(FULL_WAIT_S)
                    continue
                self._send_past_full(message)
            self.sent += 1
            if not self.sent % DRAIN_EVERY:
                self._drain()
            return

    def _drain(self) -> None:
        """Read the subscriptions: libzmq has applied them, and would queue them without end."""
        for _ in range(DRAIN_EVERY):
            try:
                self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return

    def _send_past_full(self, message: Taken) -> None:
        """Send to all but those whose queue is full."""
        self.lost += 1
        self._socket.setsockopt(zmq.XPUB_NODROP, 0)
        try:
            self._socket.send_multipart(message.frames, zmq.NOBLOCK)
        finally:
            self._socket.setsockopt(zmq.XPUB_NODROP, 1)

    def summary(self) -> str:
        """Return what was done, in one line."""
        elapsed_s = max(self._clock() - self._started_s, 0.001)
        lost = f"; at least {self.lost} did not fit into a reader's full queue" if self.lost else ""
        late = f"; up to {self.late_s:.1f} s late" if self.late_s >= 1 else ""
        return f"{self.sent} messages in {elapsed_s:.1f} s, {self.sent / elapsed_s:.0f}/s{lost}{late}"


@contextmanager
def progress_of(recording: Recording) -> Iterator[Callable[[int], None]]:
    """Yield a callback for the bytes that are done; it draws a bar where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _bytes: None
        return
    text = "{task.fields[messages]} messages"
    columns = (TextColumn("play"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TextColumn(text))
    with Progress(
        *columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True, auto_refresh=False
    ) as shown:
        task = shown.add_task("play", total=max(1, recording.size_bytes), messages=0)
        yield PlayProgress(shown, task, recording).advance


class PlayProgress:
    """Progress by bytes of the file, drawn a few times a second."""

    def __init__(self, shown: Progress, task: TaskID, recording: Recording) -> None:
        self._shown, self._task, self._recording = shown, task, recording
        self._draw_at_s = 0.0

    def advance(self, done_bytes: int) -> None:
        """Draw it, when it is time to."""
        now_s = time.monotonic()
        if now_s >= self._draw_at_s:
            self._draw_at_s = now_s + DRAW_S
            self._shown.update(self._task, completed=done_bytes, messages=self._recording.messages, refresh=True)
