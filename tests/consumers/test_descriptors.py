"""Servers without a file descriptor left: new connections are closed, counted and logged until there is one again.

Private access: the spare descriptors, because that they are taken back shows only when descriptors run out again.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

if sys.platform != "linux":
    pytest.skip("limits of another process are set by prlimit(), which only Linux has", allow_module_level=True)
import resource

from mt4pump_consumers import http_server
from mt4pump_consumers.http_server import SpareDescriptors

from mt4pump.errors import EXIT_START
from tests.bus import until
from tests.consumers.gateway.gateway_run import environment, started
from tests.consumers.test_health import NO_DAEMON, get
from tests.programs import LIMIT_S, Program, program

WITH_FEW = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({0}, {0})); {1}"
RUN = 'runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)'
CONNECTIONS = 100
TEXT = "no file descriptor is left: new connections are closed, "
SERVERS = {
    "gateway": (
        ("gateway", "--port", "0", "--anonymous", "--connections-per-address", "500", *NO_DAEMON),
        r"serves on http://127\.0\.0\.1:(\d+)/",
        r"mt4pump_gateway_connections_without_descriptor_total (\d+)",
    ),
    "health": (
        ("gateway", "--port", "0", "--anonymous", *NO_DAEMON),
        r"own metrics are served on http://127\.0\.0\.1:(\d+)/metrics",
        "",
    ),
    "metrics": (
        ("metrics", "--port", "0", *NO_DAEMON[:2]),
        r"metrics are served on http://127\.0\.0\.1:(\d+)/metrics",
        r"mt4pump_exporter_rejected_requests_total (\d+)",
    ),
}
"""Words of the program, where its log names the port, and its counter of these connections."""


def port_of(run: Program, pattern: str) -> int:
    until(lambda: re.search(pattern, run.printed()), pattern)
    return int(re.findall(pattern, run.text)[0])


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_without_descriptors_closes_new_connections_and_recovers(name: str, tmp_path: Path) -> None:
    words, place, counter = SERVERS[name]
    with program(started(tmp_path, f"mt4pump_consumers.{words[0]}", *words[1:])) as run, ExitStack() as at_end:
        if words[0] == "gateway":
            port_of(run, SERVERS["gateway"][1])  # it serves: its start needs descriptors, too
        # Its sockets are open: without a descriptor libzmq would end the program while it opens them.
        until(lambda: "the connection was refused" in run.printed(), "the stream's sockets are open")
        port = port_of(run, place)
        metrics_port = port if name == "metrics" else port_of(run, SERVERS["health"][1])
        pid = run.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        highest = max(int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir())
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1, before[1]))
        for _ in range(CONNECTIONS):
            at_end.enter_context(socket.create_connection(("127.0.0.1", port), LIMIT_S))
        until(lambda: TEXT in run.printed(), TEXT)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        at_end.close()
        assert get(port, "/")[0] == 200
        status, text = get(metrics_port, "/metrics")
        assert status == 200
        found = re.search(counter, text)
        assert found
        assert not counter or int(found[1]) > 0
        assert len(run.printed().splitlines()) < CONNECTIONS / 2, "not a line for each"
        assert psutil.Process(pid).is_running()


@pytest.mark.parametrize(
    "words",
    [
        ("mt4pump_consumers.gateway", "--anonymous", "--port", "0"),
        ("mt4pump_consumers.archive", "--path", "kept"),
        ("mt4pump", "run", "--source", "simulator", "--pub-endpoint", "tcp://127.0.0.1:*", "--data-dir", "kept"),
    ],
)
@pytest.mark.parametrize("limit", [10, 24])
def test_a_program_that_starts_with_too_few_descriptors_says_so(
    words: tuple[str, ...], limit: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", WITH_FEW.format(limit, RUN), *words]
    ended = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == EXIT_START, ended.stderr
    assert "cannot start: 40 file descriptors are needed, " in ended.stderr
    assert "raise LimitNOFILE or ulimit -n" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_waiting_connection_is_closed_with_a_spare_descriptor(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 0.0
    spare = SpareDescriptors(lambda: now_s)
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as at_end:
        for moment_s in (0.0, 1.0, http_server.NONE_LEFT_LOG_INTERVAL_S):
            now_s = moment_s
            link = at_end.enter_context(socket.create_connection(server.getsockname(), LIMIT_S))
            assert spare.close_waiting(server.fileno())
            assert link.recv(1) == b""
        server.settimeout(0)
        assert not spare.close_waiting(server.fileno()), "nobody waits"
        assert server.fileno() > 0, "the listening socket is still open"
    assert spare.count == 4
    lines = [record.getMessage() for record in caplog.records]
    assert [line.removeprefix(TEXT).split()[0] for line in lines] == ["1", "3"]
    spare.release()
    spare.release()


def test_spare_descriptors_that_other_threads_took_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    spare = SpareDescriptors()
    with socket.create_server(("127.0.0.1", 0)) as server:
        with monkeypatch.context() as patch:
            patch.setattr("mt4pump_consumers.http_server.os.open", none_left)
            patch.setattr("mt4pump_consumers.http_server.socket.socket.accept", none_left)
            for _ in range(2 * http_server.SPARE):
                assert not spare.close_waiting(server.fileno())
        with socket.create_connection(server.getsockname(), LIMIT_S) as link:
            assert spare.close_waiting(server.fileno())
            assert link.recv(1) == b""
        assert len(spare._spare) == http_server.SPARE  # noqa: SLF001
    spare.release()


def none_left(*_args: object) -> int:
    raise OSError(24, "Too many open files")
