"""The daemon as operators see it: started as a command, stopped by a signal, its exit code read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import zmq

from tests.bus import ANY_PORT, LIMIT_S, context, last_messages, receive, subscriber

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def command(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``python -m mt4pump run`` with these flags, and make sure that it ends."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MT4PUMP_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "mt4pump", "run", "--data-dir", str(folder), *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()  # type: ignore[union-attr]


def endpoint_of(process: subprocess.Popen[str]) -> str:
    """Return where the daemon says that it publishes."""
    assert process.stderr is not None
    for line in process.stderr:
        message = json.loads(line)["message"]
        if "publishes on" in message:
            return str(message.split("publishes on ")[1].split(",")[0])
    raise AssertionError("the daemon never said where it publishes")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send; Ctrl-C there is tested with Wine")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_with_a_last_heartbeat(number: signal.Signals, tmp_path: Path) -> None:
    flags = ("--source", "simulator", "--pub-endpoint", ANY_PORT, "--query-endpoint", ANY_PORT, "--log-format", "json")
    with command(tmp_path, *flags, "--heartbeat-interval-s", "0.1", "--linger-s", "20") as process, context() as own:
        socket = subscriber(own, endpoint_of(process), b"heartbeat", b"session.")
        while receive(socket).body.get("state") != "pumping":
            pass
        process.send_signal(number)
        assert process.wait(LIMIT_S) == 0
        received = last_messages(partial(receive, socket), socket)
        assert (received[-1].topic, received[-1].body["state"]) == ("heartbeat", "stopping")
        assert [message.body["reason"] for message in received if message.topic == "session.stop"] == ["stopped by us"]


def test_wrong_settings_exit_with_2_and_say_what_is_right(tmp_path: Path) -> None:
    with command(tmp_path, "--source", "simulater") as process:
        assert process.stderr is not None
        assert "simulator" in process.stderr.read()
        assert process.wait(LIMIT_S) == 2


def test_a_taken_address_exits_with_3_and_says_who_has_it(tmp_path: Path) -> None:
    with context() as own:
        holder = own.socket(zmq.PUB)
        port = holder.bind_to_random_port("tcp://127.0.0.1")
        flags = ("--pub-endpoint", f"tcp://127.0.0.1:{port}", "--query-endpoint", "none")
        with command(tmp_path, "--source", "simulator", *flags) as process:
            assert process.stderr is not None
            text = process.stderr.read()
            assert process.wait(LIMIT_S) == 3
    assert f"127.0.0.1:{port}" in text
    assert str(os.getpid()) in text


def test_a_missing_library_exits_with_3_and_names_the_file(tmp_path: Path) -> None:
    flags = ("--servers", "a:443", "--login", "1", "--dll-path", str(tmp_path / "none.dll"))
    with command(tmp_path, *flags, "--password", "x") as process:
        assert process.stderr is not None
        assert "none.dll" in process.stderr.read()
        assert process.wait(LIMIT_S) == 3
