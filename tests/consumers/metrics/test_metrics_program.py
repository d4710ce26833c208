"""``mt4pump-metrics`` as users run it, over a real daemon."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.processes import free_endpoints
from tests.consumers.metrics.metrics_run import (
    LIMIT_S,
    Exporter,
    Samples,
    daemon,
    environment,
    exporter,
    promtool,
    until,
    value,
)


def wait(of: Exporter, condition: Callable[[Samples], object], what: str) -> Samples:
    """Return the first scrape for which ``condition`` holds."""
    return until(lambda: found if condition(found := of.samples()) else None, what)


def total(of: Samples, name: str) -> float:
    return sum(number for (each, _), number in of.items() if each == name)


def test_a_running_daemon_is_shown_and_promtool_is_silent(tmp_path: Path) -> None:
    with daemon(tmp_path) as source, exporter(tmp_path, source, "--symbols", "EUR*") as run:
        found = wait(
            run,
            lambda found: (
                value(found, "mt4pump_symbol_quotes_total", symbol="EURUSD")
                and value(found, "mt4pump_reader_event_latency_seconds_count", kind="trade")
            ),
            "quotes of EURUSD and trades",
        )
        assert value(found, "mt4pump_up") == 1
        assert value(found, "mt4pump_session_state", state="pumping") == 1
        assert total(found, "mt4pump_reader_lost_events_total") == 0
        assert total(found, "mt4pump_faults_total") == 0
        found = wait(run, lambda found: value(found, "mt4pump_journal_kind_stored", kind="trade") is not None, "kinds")
        assert value(found, "mt4pump_journal_kind_stored", kind="trade") == 1
        assert value(found, "mt4pump_journal_kind_stored", kind="quote") == 0
        symbols = {dict(labels).get("symbol", "EUR") for _, labels in found}
        assert all(symbol.startswith("EUR") for symbol in symbols)
        assert promtool("check", "metrics", text=run.text()) == (0, "")


def test_by_default_no_metric_has_a_symbol(tmp_path: Path) -> None:
    with daemon(tmp_path) as source, exporter(tmp_path, source) as run:
        found = wait(run, lambda found: value(found, "mt4pump_reader_events_total", kind="quote"), "quotes")
        assert not [name for name, labels in found if "symbol" in dict(labels)]
        assert {label for _, labels in found for label, _ in labels}.isdisjoint({"login", "order", "ticket", "account"})


def test_without_the_stream_the_heartbeat_alone_is_read(tmp_path: Path) -> None:
    with daemon(tmp_path) as source, exporter(tmp_path, source, "--no-stream") as run:
        found = wait(run, lambda found: value(found, "mt4pump_events_total", kind="quote"), "the daemon's quotes")
        assert value(found, "mt4pump_reader_events_total", kind="quote") == 0
        assert value(found, "mt4pump_subscriptions") == 1


def test_a_daemon_that_is_killed_is_down_and_up_again(tmp_path: Path) -> None:
    with daemon(tmp_path, *free_endpoints()) as source, exporter(tmp_path, source) as run:
        before = wait(run, lambda found: (value(found, "mt4pump_events_total", kind="quote") or 0) > 100, "100 quotes")
        source.program.process.kill()
        source.program.end()
        down = wait(run, lambda found: value(found, "mt4pump_up") == 0, "down")
        assert value(down, "mt4pump_events_total", kind="quote") is None
        assert value(down, "mt4pump_last_quote_timestamp_seconds")
        with daemon(tmp_path, source.endpoint, source.query_endpoint):
            after = wait(run, lambda found: value(found, "mt4pump_up") == 1, "up again")
            assert (value(after, "mt4pump_start_time_seconds") or 0) > (
                value(before, "mt4pump_start_time_seconds") or 0
            )
            assert value(after, "mt4pump_events_total", kind="quote") is not None
            wait(run, lambda found: value(found, "mt4pump_reader_notices_total", notice="restarted"), "restarted")
            kept = value(after, "mt4pump_reader_events_total", kind="quote") or 0
            assert kept >= (value(before, "mt4pump_reader_events_total", kind="quote") or 0)


def test_spreads_go_with_the_daemon(tmp_path: Path) -> None:
    with daemon(tmp_path) as source, exporter(tmp_path, source, "--symbols", "*") as run:
        wait(run, lambda found: value(found, "mt4pump_symbol_spread_points", symbol="EURUSD") is not None, "a spread")
        source.program.process.kill()
        source.program.end()
        down = wait(run, lambda found: value(found, "mt4pump_up") == 0, "down")
        assert not [name for name, _ in down if name == "mt4pump_symbol_spread_points"]


def test_an_exporter_without_a_daemon_waits_for_it(tmp_path: Path) -> None:
    with daemon(tmp_path, *free_endpoints()) as source:
        source.program.process.kill()
        source.program.end()
    with exporter(tmp_path, source) as run:
        assert value(run.samples(), "mt4pump_up") == 0
        with daemon(tmp_path, source.endpoint, source.query_endpoint):
            wait(run, lambda found: value(found, "mt4pump_up") == 1, "up")


def test_a_new_exporter_shows_the_daemons_counters_as_they_are(tmp_path: Path) -> None:
    with daemon(tmp_path) as source:
        with exporter(tmp_path, source) as run:
            before = wait(run, lambda found: value(found, "mt4pump_events_total", kind="quote"), "quotes")
        with exporter(tmp_path, source) as run:
            after = wait(run, lambda found: value(found, "mt4pump_events_total", kind="quote"), "quotes")
        name, kind = "mt4pump_events_total", "quote"
        assert (value(after, name, kind=kind) or 0) >= (value(before, name, kind=kind) or 0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with daemon(tmp_path) as source, exporter(tmp_path, source) as run:
        wait(run, lambda found: value(found, "mt4pump_up") == 1, "up")
        run.program.process.send_signal(number)
        assert run.program.end() == 0
        assert "stopped" in run.program.text
        assert "Traceback" not in run.program.text


def ended(folder: Path, *flags: str) -> tuple[int, str]:
    """Run the exporter to its end; return exit code and all that it printed."""
    command = [sys.executable, "-m", "mt4pump_consumers.metrics", *flags]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=environment(),
        timeout=LIMIT_S,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_port_that_is_taken_is_said_with_exit_code_3(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, said = ended(tmp_path, "--port", port)
    assert code == 3
    assert f"port {port} of 127.0.0.1 cannot be served on" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--keys", "missing.key"], 3, "missing.key"),
        (["--tls-certificate", "missing.pem", "--tls-key", "missing.pem", "--port", "0"], 3, "missing.pem"),
        (["--endpoint", "nonsense"], 3, "nonsense"),
        (["--host", "0.0.0.0"], 2, "open to other machines"),  # noqa: S104 - what must be refused
        (["--symbol", "EURUSD"], 2, "symbol"),
        (["--topics", "a\tb"], 3, "topic"),
        (["--topics", ""], 2, "list that is not empty"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, flags: list[str], code: int, words: str) -> None:
    got, said = ended(tmp_path, *flags)
    assert got == code, said
    assert words in said
    assert "Traceback" not in said


def test_help_names_every_setting_and_its_variable(tmp_path: Path) -> None:
    code, said = ended(tmp_path, "--help")
    assert code == 0
    for name in ("endpoint", "port", "symbols", "stream", "tls-certificate", "silence-s"):
        assert f"--{name}" in said
    assert "MT4PUMP_METRICS_PORT" in said
