"""Metrics and health of the consumers themselves, on a loopback port."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest
from mt4pump_consumers.health import CountsCollector, check, health_endpoint

from mt4pump.process.program import StartError
from tests.bus import LIMIT_S

SHOWN = {
    "gateway": {"quotes_conflated", "quotes_conflated_for_slow_clients", "feed_waits", "feed_restarts"},
    "monitor": {"alerts_suppressed"},
    "nats": {"published"},
}
"""Some counters of each, which are 0 without a daemon."""
ROOT = Path(__file__).resolve().parents[2]
NO_DAEMON = ("--endpoint", "tcp://127.0.0.1:9", "--health-port", "0")
PROGRAMS = {
    "gateway": ("gateway", "--port", "0", "--anonymous"),
    "monitor": ("monitor", "--view", "log"),
    "nats": ("nats_bridge", "--servers", "nats://127.0.0.1:9"),
}


def get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def port_in(text: str) -> int:
    found = re.search(r"own metrics are served on http://127\.0\.0\.1:(\d+)/metrics", text)
    return int(found[1]) if found else 0


def test_counters_gauges_and_health_are_served(caplog: pytest.LogCaptureFixture) -> None:
    counts, faults = {"stored": 3, "waiting": 2}, [""]
    collector = CountsCollector("mt4pump_own", lambda: counts, lambda: faults[0], {"waiting"})
    with caplog.at_level("INFO"), health_endpoint(0, collector):
        port = port_in(caplog.text)
        status, text = get(port, "/metrics")
        assert status == 200
        assert {"mt4pump_own_up 1.0", "mt4pump_own_stored_total 3.0", "mt4pump_own_waiting 2.0"} <= set(
            text.splitlines()
        )
        assert get(port, "/healthz") == (200, "ok\n")
        assert check(str(port)) == 0
        faults[0], counts["new"] = "no heartbeat", 1
        assert get(port, "/healthz") == (503, "no heartbeat\n")
        assert check(str(port)) == 1
        assert "mt4pump_own_new_total 1.0" in get(port, "/metrics")[1]
        with pytest.raises(StartError, match=f"health-port {port} of 127.0.0.1 cannot be served on"):  # noqa: SIM117
            with health_endpoint(port, collector):
                pass


def test_a_port_without_an_answer_is_not_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("9") == 1
    assert "/healthz on port 9 does not answer: " in capsys.readouterr().err


def test_without_a_port_nothing_is_served(caplog: pytest.LogCaptureFixture) -> None:
    collector = CountsCollector("mt4pump_own", dict, str)
    with caplog.at_level("INFO"), health_endpoint(None, collector):
        assert caplog.text == ""


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_consumer_without_a_daemon_is_not_healthy_and_shows_its_metrics(name: str, tmp_path: Path) -> None:
    folder, *flags = PROGRAMS[name]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "consumers")])
    with subprocess.Popen(
        [sys.executable, "-m", f"mt4pump_consumers.{folder}", *flags, *NO_DAEMON],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            port = next(port for line in process.stderr if (port := port_in(line)))
            assert get(port, "/healthz")[0] == 503
            lines = get(port, "/metrics")[1].splitlines()
            assert f"mt4pump_{name}_up 0.0" in lines
            assert {f"mt4pump_{name}_{each}_total 0.0" for each in SHOWN[name]} <= set(lines)
            process.terminate()
            assert process.wait(LIMIT_S) == (1 if sys.platform == "win32" else 0), "terminate() is no signal on Windows"
        finally:
            process.kill()
