"""A consumer on a Windows Python: it starts, does its work, and ends by Ctrl-C with exit code 0."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.bus import until
from tests.client.fake_daemon import FakeDaemon
from tests.programs import program
from tests.wine.machine import Machine

LIMIT_S = 60.0
STOP_LIMIT_S = 15.0
EXIT_SETTINGS, EXIT_START = 2, 3


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    """Give a scripted daemon."""
    with FakeDaemon() as running:
        yield running


def flags(daemon: FakeDaemon) -> list[str]:
    """Return where the stream is."""
    return [f"--endpoint={daemon.endpoint}", f"--query-endpoint={daemon.query_endpoint}"]


def page(address: str) -> str:
    """Return what is served at an address of ours."""
    with urlopen(address, timeout=LIMIT_S) as reply:  # noqa: S310 - the exporter's own
        text: str = reply.read().decode()
    return text


def test_metrics_are_served_and_ctrl_c_ends_the_exporter_cleanly(
    windows: Machine, daemon: FakeDaemon, tmp_path: Path
) -> None:
    words = ("-u", "-m", "mt4pump_consumers.metrics", "--port=0", *flags(daemon))
    with program(windows.start(windows.python, *words, cwd=tmp_path)) as run:
        found = re.search(r"served on (http://[\d.:]+/metrics)", run.line("served on ", LIMIT_S))
        assert found
        until(lambda: "mt4pump_up 1.0" in page(found[1]), "the exporter hears the daemon", LIMIT_S)
        run.process.send_signal(signal.SIGINT)
        run.line("stopped", STOP_LIMIT_S)
        assert run.end(STOP_LIMIT_S) == 0, run.text


def test_ctrl_c_ends_the_monitor_cleanly(windows: Machine, daemon: FakeDaemon, tmp_path: Path) -> None:
    words = ("-u", "-m", "mt4pump_consumers.monitor", "--json", *flags(daemon))
    with program(windows.start(windows.python, *words, cwd=tmp_path)) as run:
        run.line("watching ", LIMIT_S)
        run.process.send_signal(signal.SIGINT)
        assert run.end(STOP_LIMIT_S) == 0, run.text
        assert "Traceback" not in run.text


def test_wrong_settings_are_exit_code_2_which_the_service_does_not_restart(windows: Machine, tmp_path: Path) -> None:
    done = windows.run(windows.python, "-m", "mt4pump_consumers.metrics", "--port=many", cwd=tmp_path)
    assert done.returncode == EXIT_SETTINGS, done.stdout
    assert "port" in done.stdout
