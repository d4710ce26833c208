"""``mt4pump record`` and ``play``: what is played is what was recorded, byte for byte, at its pace or another."""

from __future__ import annotations

import math
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import zmq

from mt4pump.cli import main
from mt4pump.cli.arguments import speed
from mt4pump.cli.recordings import Player, publishing
from mt4pump.recording import Recording, RecordingWriter
from tests.bus import ANY_PORT, context, subscriber, until
from tests.cli.commands import LIMIT_S, finish, start
from tests.cli.fake_publisher import fake_publisher, message

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals to send")
NS = 1_000_000_000


def recorded(path: Path, gaps_s: list[float]) -> list[tuple[bytes, bytes]]:
    """Write a recording with these pauses before its messages; return the messages."""
    stream, now_ns = [], 0
    with RecordingWriter(path, 0, {}) as writer:
        for number, gap_s in enumerate(gaps_s, 1):
            now_ns += int(gap_s * NS)
            stream.append(message("quote.A", number, bid=number / 8))
            writer.add(stream[-1], now_ns)
    return stream


def test_what_is_played_is_what_was_recorded(tmp_path: Path) -> None:
    file = tmp_path / "a.rec.gz"
    with fake_publisher("quote.A", "trade.1") as endpoint:
        code, _, notes = finish("record", str(file), "--count", "50", "--endpoint", endpoint)
    assert code == 0, notes
    assert "50 messages" in notes
    with Recording(file) as recording:
        stream = [taken.frames for taken in recording]
        assert recording.problem == ""
        assert recording.about["endpoint"] == endpoint
    assert len(stream) == 50
    assert {frames[0] for frames in stream} == {b"quote.A", b"trade.1", b"heartbeat"}
    with start("play", str(file), "--speed", "max", "--endpoint", "tcp://127.0.0.1:*") as player:
        try:
            assert player.stderr is not None
            address = player.stderr.readline().split("publishes on ")[1].split()[0]
            with context() as own:
                reader = subscriber(own, address, b"")
                played = [receive(reader) for _ in stream]
            _, notes = player.communicate(timeout=LIMIT_S)
        finally:
            player.kill()
    assert played == stream
    assert player.returncode == 0, notes
    assert "50 messages in" in notes


def receive(reader: zmq.Socket[bytes]) -> list[bytes]:
    assert reader.poll(LIMIT_S * 1000), "nothing more was played"
    return reader.recv_multipart()


def test_only_requested_topics_and_heartbeats_are_recorded(tmp_path: Path) -> None:
    file = tmp_path / "a.rec"
    with fake_publisher("quote.A", "trade.1", "trade.10") as endpoint:
        assert finish("record", str(file), "trade.1", "--count", "20", "--endpoint", endpoint)[0] == 0
    with Recording(file) as recording:
        assert {taken.frames[0] for taken in recording} == {b"trade.1", b"heartbeat"}


@posix
def test_ctrl_c_ends_a_recording_that_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.rec.gz"
    with fake_publisher("quote.A") as endpoint, start("record", str(file), "--endpoint", endpoint) as process:
        try:
            until(lambda: file.exists() and file.stat().st_size > 500, "something is recorded", LIMIT_S)
            process.send_signal(signal.SIGINT)
            _, notes = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
    assert process.returncode == 0, notes
    with Recording(file) as recording:
        assert len(list(recording)) > 10
        assert recording.problem == ""


def test_gaps_of_a_recording_are_reported(tmp_path: Path) -> None:
    with fake_publisher("trade.1", step=4) as endpoint:
        code, _, notes = finish("record", str(tmp_path / "a"), "--count", "20", "--endpoint", endpoint)
    assert code == 0
    missed, gaps = map(int, re.findall(r"missed (\d+) in (\d+) gaps", notes)[-1])
    assert missed == 3 * gaps > 0


@pytest.mark.skipif(
    sys.platform == "win32" or not Path("/dev/full").is_char_device(), reason="this system has no /dev/full"
)
def test_a_full_disk_ends_a_recording_with_an_error_text() -> None:
    with fake_publisher("quote.A") as endpoint:
        code, _, notes = finish("record", "/dev/full", "--force", "--endpoint", endpoint)
    assert code == 1
    assert "/dev/full: No space left on device" in notes
    assert "Traceback" not in notes


def test_a_recorder_that_receives_nothing_reports_it_where_it_cannot_draw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mt4pump.cli.stream.SILENCE_S", 0.0)
    monkeypatch.setattr("mt4pump.cli.stream.TRIAL_LIMIT_S", 0.0)
    monkeypatch.setattr("mt4pump.cli.recordings.CHECK_INTERVAL_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        assert main(["record", str(tmp_path / "a"), "--for", "1", "--endpoint", endpoint]) == 0
    shown = capsys.readouterr().err
    assert shown.count("mt4pump record: nothing received from") == 1
    assert f"nothing received from {endpoint}" in shown
    assert "is the daemon running there? start it with: mt4pump run" in shown


def test_an_existing_file_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a"
    file.write_text("mine", encoding="utf-8")
    assert main(["record", str(file), "--endpoint", "tcp://127.0.0.1:1"]) == 3
    assert "exists; name another file" in capsys.readouterr().err
    assert file.read_text(encoding="utf-8") == "mine"


class Clock:
    """Moves only when somebody waits."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Asked(Event):
    """Never set; a wait takes no time and moves the clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.waited_s = clock, 0.0

    def wait(self, timeout: float | None = None) -> bool:
        self.waited_s += timeout or 0.0
        self.clock.now_s += timeout or 0.0
        return False


@pytest.mark.parametrize(("factor", "takes_s"), [(1.0, 7.5), (2.0, 3.75), (0.5, 15.0), (math.inf, 0.0)])
def test_messages_go_out_when_they_are_due(tmp_path: Path, factor: float, takes_s: float) -> None:
    stream = recorded(tmp_path / "a", [1.0, 0.5, 6.0, 0.0])
    with context() as own:
        socket = own.socket(zmq.XPUB)
        socket.bind(ANY_PORT)
        clock = Clock()
        asked, player = Asked(clock), Player(socket, clock)
        with Recording(tmp_path / "a") as recording:
            player.play(recording, factor, asked, lambda _bytes: None)
    assert asked.waited_s == pytest.approx(takes_s)
    assert player.sent == len(stream)


def test_a_reader_that_does_not_read_loses_messages_and_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "a", 0, {}) as writer:
        for _ in range(200):
            writer.add([b"t", bytes(200_000)], 0)
    with context() as own:
        socket = own.socket(zmq.XPUB)
        socket.setsockopt(zmq.SNDHWM, 1)
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        socket.bind(ANY_PORT)
        stuck: zmq.Socket[bytes] = own.socket(zmq.SUB)
        stuck.setsockopt(zmq.RCVHWM, 1)
        stuck.connect(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        stuck.subscribe("")
        clock = Clock()
        player = Player(socket, clock)
        player.wait_for_subscriber(Event())
        with Recording(tmp_path / "a") as recording:
            player.play(recording, math.inf, Asked(clock), lambda _bytes: None)
    assert player.sent == 200
    assert player.lost >= 1
    assert "did not fit into a reader's full queue" in player.summary()


def test_it_is_repeated_as_often_as_requested(tmp_path: Path) -> None:
    recorded(tmp_path / "a", [0.0] * 5)
    code, _, notes = finish(
        "play", str(tmp_path / "a"), "--repeat", "3", "--no-wait", "--speed", "max", "--endpoint", "tcp://127.0.0.1:*"
    )
    assert code == 0, notes
    assert "15 messages in" in notes


def test_an_incomplete_file_is_played_up_to_its_last_complete_message(tmp_path: Path) -> None:
    file = tmp_path / "a"
    recorded(file, [0.0] * 5)
    file.write_bytes(file.read_bytes()[:-30])
    code, _, notes = finish("play", str(file), "--no-wait", "--speed", "max", "--endpoint", "tcp://127.0.0.1:*")
    assert code == 1
    assert "4 messages in" in notes
    assert f"{file}: cut off behind message 4: the file has no end mark" in notes


@posix
def test_ctrl_c_ends_a_player_that_waits_however_often_it_was_to_play(tmp_path: Path) -> None:
    recorded(tmp_path / "a", [0.0, 3600.0])
    flags = ("--no-wait", "--repeat", str(10**15), "--endpoint", "tcp://127.0.0.1:*")
    with start("play", str(tmp_path / "a"), *flags) as process:
        try:
            assert process.stderr is not None
            assert "this is not live" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            _, notes = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
    assert process.returncode == 0, notes
    assert "Traceback" not in notes


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--endpoint", "tcp://0.0.0.0:5999"], 2, "may be reached from other machines"),
        (["--endpoint", "nonsense"], 2, "--endpoint: 'nonsense' is neither"),
        (["--speed", "0"], 2, "not a number above 0"),
        (["--repeat", "0"], 2, "not a whole number of at least 1"),
    ],
)
def test_wrong_flags_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    recorded(tmp_path / "a", [0.0])
    assert main(["play", str(tmp_path / "a"), *arguments]) == code
    assert words in capsys.readouterr().err


def test_a_file_that_is_no_recording_cannot_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").write_text("nothing of ours", encoding="utf-8")
    assert main(["play", str(tmp_path / "a")]) == 3
    assert "is no recording of mt4pump record" in capsys.readouterr().err


def test_an_address_that_is_taken_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(tmp_path / "a", [0.0])
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        address = f"tcp://127.0.0.1:{holder.getsockname()[1]}"
        assert main(["play", str(tmp_path / "a"), "--endpoint", address]) == 3
    assert "is taken by" in capsys.readouterr().err


def test_speeds() -> None:
    assert [speed(text) for text in ("1", "0.5", " MAX ")] == [1.0, 0.5, math.inf]


def test_a_terminal_shows_the_progress(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")
    recorded(tmp_path / "a", [0.0, 0.5, 0.5, 0.5])
    screen = shown(pty, "play", str(tmp_path / "a"), "--no-wait", "--endpoint", "tcp://127.0.0.1:*")
    assert "100%" in screen
    assert "4 messages" in screen
    with fake_publisher("quote.A") as endpoint:
        screen = shown(pty, "record", str(tmp_path / "b"), "--for", "1.5", "--endpoint", endpoint)
    assert "missed 0 in 0 gaps" in screen
    assert "Traceback" not in screen


def shown(pty: Any, *arguments: str) -> str:
    """Run a command with a terminal as its standard error; return all that was drawn."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mt4pump", *arguments]
    drawn = b""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        try:
            while True:
                drawn += os.read(ours, 65_536)
        except OSError:  # Linux says so when the other end is closed
            pass
        finally:
            os.close(ours)
        assert process.wait(LIMIT_S) == 0, drawn
    return drawn.decode("utf-8", "replace")


def test_a_player_binds_and_ends_without_a_reader() -> None:
    with publishing("tcp://127.0.0.1:*") as player:
        assert player.endpoint.startswith("tcp://127.0.0.1:")
