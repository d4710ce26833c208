"""``mt4pump tail`` against real publishers."""

from __future__ import annotations

import json
import math
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from threading import Event
from unittest.mock import MagicMock

import pytest

from mt4pump.cli import main
from mt4pump.cli.arguments import TopicFilter, endpoint_of
from mt4pump.cli.stream import StreamStats, listen
from mt4pump.client.checks import BODY_MAX_BYTES
from mt4pump.errors import SettingsError
from tests.cli.commands import LIMIT_S, environment, finish, start
from tests.cli.fake_publisher import EPOCH, fake_publisher, message

posix = pytest.mark.skipif(sys.platform == "win32", reason="sends Ctrl-C as a signal, or needs a pseudo terminal")


def tail(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], str]:
    """Run the command in this process; return code, output lines, error output. It ends in bounded time."""
    code = main(["tail", "--for", str(LIMIT_S), *arguments])
    shown = capsys.readouterr()
    return code, shown.out.splitlines(), shown.err


def test_json_lines_hold_topic_and_body(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_publisher("quote.EURUSD") as endpoint:
        code, lines, notes = tail(capsys, "quote.EURUSD", "--json", "--count=3", "--endpoint", endpoint)
    events = [json.loads(line) for line in lines]
    assert (code, len(events)) == (0, 3)
    assert {event["topic"] for event in events} == {"quote.EURUSD"}
    first = events[0]["body"]["seq"]
    assert [event["body"]["seq"] for event in events] == [first, first + 1, first + 2]
    assert events[0]["body"]["epoch"] == EPOCH
    assert "received 3 events on 1 topics" in notes


def test_a_pipe_gets_human_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_publisher("quote.EURUSD") as endpoint:
        _, lines, _ = tail(capsys, "quote", "--count=2", "--endpoint", endpoint)
    assert all(line.endswith("quote.EURUSD     bid 1.5  ask 1.75  spread 25") for line in lines)


def test_an_exact_name_excludes_longer_topics(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_publisher("trade.100", "trade.1001", "trade.10") as endpoint:
        _, lines, notes = tail(capsys, "trade.100", "--json", "--count=5", "--endpoint", endpoint)
    assert [json.loads(line)["topic"] for line in lines] == ["trade.100"] * 5
    assert "missed 0 in 0 gaps, repeats 0, garbage 0" in notes


def test_patterns_and_prefixes_are_filtered_after_the_subscription(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_publisher("quote.EURUSD", "quote.USDJPY", "quote.EURJPY", "user.5") as endpoint:
        _, lines, _ = tail(capsys, "quote.*JPY", "user.", "--json", "--count=6", "--endpoint", endpoint)
    assert {json.loads(line)["topic"] for line in lines} == {"quote.USDJPY", "quote.EURJPY", "user.5"}


def test_heartbeats_are_events_unless_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_publisher("quote.A") as endpoint:
        _, lines, _ = tail(capsys, "--json", "--count=6", "--endpoint", endpoint)
        _, quiet, notes = tail(capsys, "--json", "--no-heartbeat", "--count=6", "--endpoint", endpoint)
    assert "heartbeat" in {json.loads(line)["topic"] for line in lines}
    assert {json.loads(line)["topic"] for line in quiet} == {"quote.A"}
    assert f"daemon is pumping (mt4.example.com:443, epoch {EPOCH})" in notes


def test_gaps_repeats_and_garbage_are_noted_and_the_stream_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_publisher("quote.A", step=4, extra=[(b"quote.A", b"\xc1"), message("quote.A", 1)]) as endpoint:
        code, lines, notes = tail(capsys, "quote.A", "--json", "--count=30", "--endpoint", endpoint)
    assert (code, len(lines)) == (0, 30)
    assert re.search(r"of quote\.A before seq \d+", notes)
    assert "messages were repeated" in notes
    assert "messages are not mt4pump's, the last: " in notes


def test_a_single_frame_is_garbage_and_frames_of_a_later_version_are_ignored(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with fake_publisher(extra=[(b"quote.A",), (*message("quote.A", 1), b"later")]) as endpoint:
        code, lines, notes = tail(capsys, "quote.A", "--json", "--count=10", "--endpoint", endpoint)
    assert (code, len(lines), len(set(lines))) == (0, 10, 1)
    assert json.loads(lines[0])["topic"] == "quote.A"
    assert "the last: a message has 2 frames, this one has 1" in notes


def test_lines_of_an_endless_number_are_valid_json(capsys: pytest.CaptureFixture[str]) -> None:
    odd = message("margin.5", margin_level=float("inf"), equity=float("nan"))
    with fake_publisher(extra=[odd]) as endpoint:
        _, lines, _ = tail(capsys, "margin", "--json", "--count=1", "--endpoint", endpoint)
    body = json.loads(lines[0], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["body"]
    assert (body["margin_level"], body["equity"]) == (None, None)


def test_where_nothing_listens_one_alert_says_how_to_start_the_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can listen there
        endpoint = f"tcp://127.0.0.1:{nobody.getsockname()[1]}"
        assert main(["tail", "--json", "--for=5", "--endpoint", endpoint]) == 0
    shown = capsys.readouterr()
    assert not shown.out
    refused = f"{endpoint}: the connection was refused, nothing listens there"
    assert shown.err.count(f"{refused}; correct the address, or start the daemon (mt4pump run)") == 1


def test_too_few_events_in_time_is_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_publisher("quote.A") as endpoint:
        assert main(["tail", "trade.5", "--count=1", "--for=0.2", "--endpoint", endpoint]) == 1
    assert "received 0 events" in capsys.readouterr().err


@pytest.mark.parametrize("endpoint", ["127.0.0.1:5556", "tcp://127.0.0.1", "tcp://127.0.0.1:*", "tcp://:5556"])
def test_a_wrong_endpoint_is_code_2(endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tail", "--endpoint", endpoint]) == 2
    assert "--endpoint: " in capsys.readouterr().err


def test_the_endpoint_comes_from_flag_environment_files_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert endpoint_of(None) == "tcp://127.0.0.1:5556"
    Path("mt4pump.toml").write_text('pub_endpoint = "tcp://127.0.0.1:1"', encoding="utf-8")
    assert endpoint_of(None) == "tcp://127.0.0.1:1"
    monkeypatch.setenv("MT4PUMP_PUB_ENDPOINT", "tcp://*:2")
    assert endpoint_of(None) == "tcp://127.0.0.1:2"
    assert endpoint_of("tcp://10.0.0.1:3") == "tcp://10.0.0.1:3"
    monkeypatch.setenv("MT4PUMP_PUB_ENDPOINT", "nonsense")
    with pytest.raises(SettingsError, match="pub_endpoint: 'nonsense' is neither"):
        endpoint_of(None)


@pytest.mark.parametrize(
    ("count", "for_s", "asked_after", "ending"),
    [
        (3, math.inf, None, (True, 3, [200])),
        (7, math.inf, None, (True, 7, [200, 200])),
        (3, 0.0, None, (False, 0, [])),
        (7, 0.09375, None, (False, 6, [94, 32])),
        (math.inf, 0.09375, None, (True, 6, [94, 32])),
        (3, math.inf, 0, (False, 0, [])),
        (7, math.inf, 6, (False, 6, [200, 200])),
        (math.inf, math.inf, 6, (True, 6, [200, 200])),
    ],
)
def test_the_end_is_a_count_a_time_or_asked_for_and_waits_stay_short(
    count: float,
    for_s: float,
    asked_after: int | None,
    ending: tuple[bool, int, list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch has five messages and takes 1/16 s. ``ending``: whether enough came, how many, the waits in ms."""
    source, asked, handled = MagicMock(malformed=0), Event(), [0]
    source.read.return_value = [message("quote.A")] * 5
    monkeypatch.setattr(time, "monotonic", lambda: source.socket.poll.call_count / 16)

    def handle(_frames: object, _now_s: float) -> bool:
        handled[0] += 1
        if handled[0] == asked_after:
            asked.set()
        return True

    if asked_after == 0:
        asked.set()
    args, stats = Namespace(count=count, for_s=for_s), StreamStats("tcp://x", TopicFilter(), 0.0)
    has_enough = listen(args, asked, source, stats, handle=handle, refresh=lambda _now_s: None)
    assert (has_enough, *handled, [call.args[0] for call in source.socket.poll.call_args_list]) == ending


@posix
def test_ctrl_c_ends_with_a_summary_and_0() -> None:
    with fake_publisher("quote.A") as endpoint, start("tail", "--json", "--endpoint", endpoint) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            _, notes = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
    assert process.returncode == 0, notes
    assert notes.splitlines()[-1].startswith("mt4pump tail: received ")
    assert "Traceback" not in notes


@posix
def test_a_reader_that_has_enough_ends_it_quietly() -> None:
    with fake_publisher("quote.A") as endpoint, start("tail", "--json", "--endpoint", endpoint) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline()
            process.stdout.close()
            assert process.wait(LIMIT_S) == 0
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


def test_output_that_is_not_utf8_gets_escapes() -> None:
    with fake_publisher("news.é→") as endpoint:
        arguments = ("tail", "news", "--count=1", "--for=30", "--endpoint", endpoint)
        code, out, error = finish(*arguments, encoding="cp1252")
    assert code == 0, error
    assert "news.é\\u2192" in out


@posix
def test_a_terminal_gets_a_live_screen_and_ctrl_c_restores_it() -> None:
    import pty  # noqa: PLC0415 - there is none on Windows

    ours, theirs = pty.openpty()
    with fake_publisher("quote.EURUSD") as endpoint:
        arguments = [sys.executable, "-m", "mt4pump", "tail", "--endpoint", endpoint]
        extra = environment({"TERM": "xterm", "COLUMNS": "120", "LINES": "20"})
        with subprocess.Popen(arguments, env=extra, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE) as process:
            os.close(theirs)
            try:
                screen = read_until(ours, b"daemon \x1b[1;32mpumping") + read_until(ours, b"bid 1.5")
                process.send_signal(signal.SIGINT)
                screen += read_until(ours, b"\x1b[?1049l")
                _, notes = process.communicate(timeout=LIMIT_S)
            finally:
                process.kill()
    os.close(ours)
    assert process.returncode == 0
    assert b"quote.EURUSD" in screen
    assert b"mt4pump tail: received " in notes


@posix
def test_a_terminal_that_asks_for_a_number_of_events_gets_them_as_lines() -> None:
    import pty  # noqa: PLC0415 - there is none on Windows

    ours, theirs = pty.openpty()
    with fake_publisher("quote.EURUSD") as endpoint:
        arguments = [sys.executable, "-m", "mt4pump", "tail", "--count", "2", "--endpoint", endpoint]
        extra = environment({"TERM": "xterm", "COLUMNS": "120", "LINES": "20"})
        with subprocess.Popen(arguments, env=extra, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE) as process:
            os.close(theirs)
            try:
                shown = read_until(ours, b"bid 1.5  ask 1.75  spread 25\r\n")
                process.communicate(timeout=LIMIT_S)
            finally:
                process.kill()
    os.close(ours)
    assert process.returncode == 0
    assert b"\x1b" not in shown


def read_until(terminal: int, wanted: bytes) -> bytes:
    """Return what the terminal shows up to ``wanted``."""
    deadline_s, seen = time.monotonic() + LIMIT_S, b""
    while wanted not in seen:
        assert time.monotonic() < deadline_s, f"never shown: {wanted!r} in {seen[-500:]!r}"
        if select.select([terminal], [], [], 0.1)[0]:
            seen += os.read(terminal, 65_536)
    return seen


def test_a_message_that_is_too_large_is_garbage_and_the_stream_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    large = message("quote.A", 5, epoch=1, comment="x" * BODY_MAX_BYTES)
    with fake_publisher("quote.A", extra=[large]) as endpoint:
        code, lines, alerts = tail(capsys, "quote.A", "--json", "--count=20", "--endpoint", endpoint)
    assert (code, len(lines)) == (0, 20)
    assert {json.loads(line)["body"]["epoch"] for line in lines} == {EPOCH}
    assert "too many for its kind" in alerts
    assert "garbage 0" not in alerts
