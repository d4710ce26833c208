"""Programs started as systemd starts them: notified, watched, and under the system calls that their unit leaves."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bus import ANY_PORT
from tests.deploy.notify_socket import NotifySocket, notify_socket

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "deploy" / "systemd"
JAIL = Path(__file__).with_name("jail.py")
PATHS = os.pathsep.join([str(ROOT), str(ROOT / "consumers")])
DAEMON = ("-m", "mt4pump", "run", "--source", "simulator", "--pub-endpoint", ANY_PORT, "--query-endpoint", ANY_PORT)
CONSUMERS = {
    "mt4pump-archive": ("archive", "--metrics-port", "0"),
    "mt4pump-gateway": ("gateway", "--port", "0", "--anonymous"),
    "mt4pump-metrics": ("metrics", "--port", "0"),
    "mt4pump-monitor": ("monitor",),
    "mt4pump-nats": ("nats_bridge", "--servers", "nats://127.0.0.1:9"),
}
HANGS = """
import sys
from mt4pump.pump.loop import Pump
from mt4pump.process.systemd import Notifier
from mt4pump.cli import main
from threading import Event
turn = Pump._wake_up
def hang(self):
    turn(self)
    if self.iterations == 20:
        Notifier.of_environment().status("the pump hangs")
        Event().wait()
Pump._wake_up = hang
sys.exit(main(sys.argv[1:]))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")


def jailed(unit: str) -> list[str]:
    """Return the words that put a program under the unit's filter; skip where that cannot be done."""
    if shutil.which("systemd-analyze") is None or ctypes.util.find_library("seccomp") is None:
        pytest.skip("systemd-analyze or libseccomp is not installed (Debian: apt install systemd libseccomp2)")
    return [str(JAIL), str(UNITS / f"{unit}.service"), sys.executable]


@contextmanager
def started(arguments: list[str], environment: Mapping[str, str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run Python with ``words``; give the process, and make sure that it ends."""
    with (folder / "log").open("w") as log:
        environment = {**environment, "PYTHONPATH": PATHS}
        process = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, stderr=log, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ends_when_asked(process: subprocess.Popen[str], received: NotifySocket, folder: Path) -> None:
    process.send_signal(signal.SIGTERM)
    received.until("STOPPING=1")
    assert process.wait(60) == 0, (folder / "log").read_text()


def test_the_daemon_is_ready_runs_and_stops_under_the_filter_of_its_unit(tmp_path: Path) -> None:
    with notify_socket() as received:
        arguments = [*jailed("mt4pump"), *DAEMON, "--data-dir", str(tmp_path / "data")]
        with started(arguments, received.environment(watchdog_s=0.4), tmp_path) as process:
            received.until("READY=1")
            assert "publishes on tcp://127.0.0.1:" in received.received[1]
            if not received.received[1].startswith("STATUS=session pumping"):  # it may run before it is looked at first
                received.until("STATUS=session pumping; publishes on ")
            for _ in range(3):
                received.until("WATCHDOG=1")
            ends_when_asked(process, received, tmp_path)
        assert received.received[0] == "READY=1"


def test_a_pump_thread_that_hangs_ends_the_watchdog_pings_while_the_main_thread_goes_on(tmp_path: Path) -> None:
    arguments = ["-c", HANGS, *DAEMON[2:], "--data-dir", str(tmp_path / "data")]
    with notify_socket() as received, started(arguments, received.environment(watchdog_s=0.1), tmp_path) as process:
        received.until("STATUS=the pump hangs")
        late = []
        while True:  # the main thread may have counted the last turns only now; then nothing comes any more
            try:
                late += received.next(1.5)
            except TimeoutError:
                break
        assert late.count("WATCHDOG=1") <= 1, late
        process.send_signal(signal.SIGTERM)  # the main thread handles it all the same
        received.until("STOPPING=1")


def test_a_daemon_that_cannot_start_is_never_ready_and_ends_with_the_code_that_is_not_tried_again(
    tmp_path: Path,
) -> None:
    arguments = ["-m", "mt4pump", "run", "--source", "simulator", "--rate", "fast"]
    with notify_socket() as received, started(arguments, received.environment(), tmp_path) as process:
        assert process.wait(60) == 2
        assert received.received == []
        with pytest.raises(TimeoutError):
            received.next(0.01)


@pytest.mark.parametrize("unit", CONSUMERS)
def test_a_consumer_is_ready_runs_and_stops_under_the_filter_of_its_unit(unit: str, tmp_path: Path) -> None:
    package, *flags = CONSUMERS[unit]
    with notify_socket() as received:
        arguments = [*jailed(unit), "-m", f"mt4pump_consumers.{package}", *flags, "--endpoint", "tcp://127.0.0.1:9"]
        with started(arguments, received.environment(watchdog_s=0.4), tmp_path) as process:
            received.until("READY=1")
            assert received.received == ["READY=1", "STATUS=reads tcp://127.0.0.1:9"]
            for _ in range(3):
                received.until("WATCHDOG=1")
            ends_when_asked(process, received, tmp_path)
