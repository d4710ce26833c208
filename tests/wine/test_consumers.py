"""A consumer on a Windows Python: it starts, does its work, and ends by Ctrl-C with exit code 0."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from websockets.sync.client import connect

from tests.bus import until
from tests.client.fake_daemon import FakeDaemon
from tests.consumers.gateway.gateway_run import ask, kind
from tests.consumers.gateway.gateway_run import until as seen
from tests.consumers.nats_bridge.nats_run import NatsPrograms, needs_server
from tests.programs import program
from tests.wine.console import EVENTS, raising
from tests.wine.machine import Machine

LIMIT_S = 60.0
STOP_LIMIT_S = 15.0
EXIT_SETTINGS, EXIT_START = 2, 3
STARTS: dict[str, tuple[list[str], str]] = {
    "gateway": (["--port=0", "--anonymous"], "serves on "),
    "metrics": (["--port=0"], "served on "),
    "monitor": (["--json"], "watching "),
    "nats_bridge": (["--servers=nats://127.0.0.1:9"], "to NATS on "),
}
"""Words that each starts with, and what it says once it does."""


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
    arguments = ("-u", "-m", "mt4pump_consumers.metrics", "--port=0", *flags(daemon))
    with program(windows.start(windows.python, *arguments, cwd=tmp_path)) as run:
        found = re.search(r"served on (http://[\d.:]+/metrics)", run.line("served on ", LIMIT_S))
        assert found
        until(lambda: "mt4pump_up 1.0" in page(found[1]), "the exporter receives heartbeats", LIMIT_S)
        run.process.send_signal(signal.SIGINT)
        run.line("stopped", STOP_LIMIT_S)
        assert run.end(STOP_LIMIT_S) == 0, run.text


def test_ctrl_c_ends_the_monitor_cleanly(windows: Machine, daemon: FakeDaemon, tmp_path: Path) -> None:
    arguments = ("-u", "-m", "mt4pump_consumers.monitor", "--json", *flags(daemon))
    with program(windows.start(windows.python, *arguments, cwd=tmp_path)) as run:
        run.line("watching ", LIMIT_S)
        run.process.send_signal(signal.SIGINT)
        assert run.end(STOP_LIMIT_S) == 0, run.text
        assert "Traceback" not in run.text


def test_the_gateway_serves_its_page_and_quotes_until_ctrl_c(
    windows: Machine, daemon: FakeDaemon, tmp_path: Path
) -> None:
    arguments = ("-u", "-m", "mt4pump_consumers.gateway", "--port=0", "--anonymous", *flags(daemon))
    with program(windows.start(windows.python, *arguments, cwd=tmp_path)) as run:
        found = re.search(r"serves on http://([\d.:]+)/", run.line("serves on ", LIMIT_S))
        assert found
        assert "<html" in page(f"http://{found[1]}/")
        with connect(f"ws://{found[1]}/ws", open_timeout=LIMIT_S) as link:
            ask(link, action="subscribe", symbols=["EURUSD"])
            seen(link, lambda message: message.get("status") == "success")
            daemon.publish("quote.EURUSD", symbol="EURUSD", bid=1.1, ask=1.2, spread=1_000, time=1, digits=1)
            quote = seen(link, kind("quote"))["data"]
            assert (quote["symbol"], quote["bid"]) == ("EURUSD", 1.1)
            run.process.send_signal(signal.SIGINT)
            run.line("stopped", STOP_LIMIT_S)
        assert run.end(STOP_LIMIT_S) == 0, run.text
        assert "Traceback" not in run.text


@needs_server
def test_the_nats_bridge_stores_trades_until_ctrl_c(windows: Machine, tmp_path: Path) -> None:
    """Daemon and NATS server are Linux programs here, as they may be on other machines there."""
    programs = NatsPrograms(tmp_path)
    where = [
        f"--endpoint={programs.endpoint}",
        f"--query-endpoint={programs.query_endpoint}",
        f"--servers={programs.url}",
    ]
    try:
        programs.nats.start()
        programs.daemon.start()
        arguments = ("-u", "-m", "mt4pump_consumers.nats_bridge", "--start=first", "--retry-s=1", *where)
        with program(windows.start(windows.python, *arguments, cwd=tmp_path)) as run:
            until(lambda: programs.state()[0] > 0, "trades are stored", LIMIT_S)
            run.process.send_signal(signal.SIGINT)
            run.line("stopped", STOP_LIMIT_S)
            assert run.end(STOP_LIMIT_S) == 0, run.text
            assert "Traceback" not in run.text
    finally:
        programs.end()


@pytest.mark.parametrize("consumer", ["gateway", "metrics", "monitor", "nats_bridge"])
@pytest.mark.parametrize("event", EVENTS)
def test_the_other_console_events_end_each_of_them(
    windows: Machine, daemon: FakeDaemon, tmp_path: Path, event: str, consumer: str
) -> None:
    go = tmp_path / "go"
    extra, ready = STARTS[consumer]
    arguments = raising(EVENTS[event], windows.windows(go), f"mt4pump_consumers.{consumer}", *extra, *flags(daemon))
    with program(windows.start(windows.python, *arguments, cwd=tmp_path)) as run:
        run.line(ready, LIMIT_S)
        go.touch()
        assert run.end(STOP_LIMIT_S) == 0, run.text
        assert "Traceback" not in run.text


def test_wrong_settings_are_exit_code_2_which_the_service_does_not_restart(windows: Machine, tmp_path: Path) -> None:
    done = windows.run(windows.python, "-m", "mt4pump_consumers.metrics", "--port=many", cwd=tmp_path)
    assert done.returncode == EXIT_SETTINGS, done.stdout
    assert "port" in done.stdout
