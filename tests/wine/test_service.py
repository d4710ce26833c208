"""Windows services from installation to removal: the project's own command, the real NSSM, a subscriber on Linux.

Each call of NSSM is a process, so all tests use one installation: its fixture checks the first and the last step.
"""

from __future__ import annotations

import random
import shutil
import socket as sockets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil
import pytest
import zmq

from tests.bus import Message, context, receive, until
from tests.vendor.listener import last_messages, pumping
from tests.wine.machine import Machine

LIMIT_S = 60.0
RUNNING = "SERVICE_RUNNING"
FIRST_EPHEMERAL_PORT = 32_768
"""Linux gives this one and those above to connections, and to whoever binds port 0."""
PROGRAMS = "daemon", "metrics"
FORTH = ["mt4pump", "mt4pump-metrics"]
BACK = FORTH[::-1]


class Service:
    """``mt4pump service`` on the machine, with settings below a folder whose name has a space."""

    def __init__(self, windows: Machine, nssm: Path) -> None:
        self._windows = windows
        self.root = windows.drive_c / "mt4 pump"
        self.nssm = windows.drive_c / "nssm here" / "nssm.exe"
        self.nssm.parent.mkdir(exist_ok=True)
        shutil.copy(nssm, self.nssm)
        shutil.rmtree(self.root, ignore_errors=True)
        self.settings = self.root / "daemon" / "mt4pump.toml"
        self.data = windows.windows(self.root / "daemon" / "data")
        self.log = self.root / "daemon" / "logs" / "daemon.log"

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """Return exit code and output."""
        windows = self._windows
        places = ("--root", windows.windows(self.root), "--nssm", windows.windows(self.nssm))
        done = windows.run(windows.python, "-m", "mt4pump", "service", *arguments, *places)
        return done.returncode, done.stdout

    def must(self, *arguments: str) -> str:
        """Return the output of what must succeed."""
        code, text = self(*arguments)
        assert code == 0, text
        return text

    def result(self, *arguments: str) -> str:
        """Return what NSSM says."""
        return self._windows.run(self.nssm, *arguments).stdout.replace("\0", "").strip()

    def registered(self, service: str, name: str) -> str:
        """Return a value of the service's key in the registry, for what NSSM cannot read back under Wine."""
        key = rf"HKLM\System\CurrentControlSet\Services\{service}"
        reg = self._windows.drive_c / "windows" / "system32" / "reg.exe"
        return self._windows.run(reg, "query", key, "/v", name).stdout.split()[-1]

    def processes(self) -> list[int]:
        """Return the daemon's processes, known by the settings file on their command line."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            arguments = process.info["cmdline"] or []
            if "run" in arguments and self._windows.windows(self.settings) in arguments:
                found.append(process.pid)
        return found


@pytest.fixture(scope="module")
def service(windows: Machine) -> Iterator[Service]:
    """Give the command, with daemon and exporter installed; they are removed afterwards."""
    made = Service(windows, windows.nssm)
    assert named(made.must("install", "metrics", "daemon")) == FORTH
    yield made
    removed = [line.split(";")[0] for line in made.must("remove").splitlines() if "removed" in line]
    assert removed == [f"{name}: removed" for name in BACK]
    assert made.settings.is_file()
    assert made("status")[0] == 1


@pytest.fixture
def endpoint() -> str:
    """Return an address that is free now."""
    return f"tcp://127.0.0.1:{free_port()}"


def free_port() -> int:
    """Return a port that is free now and that the system gives to nobody: a service binds it only later."""
    for port in random.sample(range(10_000, FIRST_EPHEMERAL_PORT), FIRST_EPHEMERAL_PORT - 10_000):
        with suppress(OSError), sockets.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")


def simulator(service: Service, endpoint: str) -> None:
    """Write settings that need no DLL."""
    lines = [
        f"data_dir = '{service.data}'",
        'source = "simulator"',
        f'pub_endpoint = "{endpoint}"',
        'query_endpoint = "tcp://127.0.0.1:*"',
    ]
    lines += ["heartbeat_interval_s = 0.2", "linger_s = 5"]
    service.settings.write_text("\n".join([*lines, ""]), encoding="utf-8")


def exporter(service: Service, endpoint: str) -> str:
    """Write the exporter's settings; return where it serves."""
    port = free_port()
    lines = [f'endpoint = "{endpoint}"', f"port = {port}", "stream = false", ""]
    (service.root / "metrics" / "mt4pump-metrics.toml").write_text("\n".join(lines), encoding="utf-8")
    return f"http://127.0.0.1:{port}/metrics"


def served(address: str) -> str:
    """Return what is served there; nothing while nobody does."""
    try:
        with urlopen(address, timeout=LIMIT_S) as reply:  # noqa: S310 - our own exporter's
            text: str = reply.read().decode()
    except URLError:
        return ""
    return text


def named(text: str) -> list[str]:
    """Return the services that the lines of a command are about, in order."""
    return [line.split(":")[0] for line in text.splitlines() if line.startswith("mt4pump")]


def watchful(socket: zmq.Socket[bytes]) -> None:
    """Have the socket find out that a connection is dead, as our client does.

    Wine 8 now and then keeps the connection of a killed process open; so does a cable that is pulled.
    """
    socket.setsockopt(zmq.HEARTBEAT_IVL, 1_000)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3_000)


def heartbeat(service: Service, socket: zmq.Socket[bytes], epoch_after: int = 0) -> Message:
    """Return the next heartbeat of a session that runs, of a daemon that started later than ``epoch_after``."""
    deadline_s = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline_s:
        if not socket.poll(1000):
            continue
        event = receive(socket)
        if event.topic == "heartbeat" and event.body["state"] == "pumping" and event.body["epoch"] > epoch_after:
            return event
    raise AssertionError(f"no such heartbeat; {service.result('status', 'mt4pump')}, {service.log.read_text('utf-8')}")


def test_both_are_registered_with_all_that_they_need(service: Service) -> None:
    assert service.registered("mt4pump-metrics", "DependOnService") == "mt4pump"
    parameters = service.result("get", "mt4pump", "AppParameters")
    assert parameters == r'-X utf8 -u -m mt4pump run --config "C:\mt4 pump\daemon\mt4pump.toml"'


def test_wrong_settings_do_not_loop_and_the_reason_is_shown(service: Service) -> None:
    service.settings.write_text('source = "simulater"\n', encoding="utf-8")
    code, text = service("start", "daemon")
    assert code == 1
    assert "did not stay up (SERVICE_STOPPED)" in text
    assert "did you mean simulator?" in text
    assert service.log.read_text(encoding="utf-8").count("simulater") == 1, "started once only"


def test_a_daemon_that_is_killed_comes_back_and_a_stop_is_a_ctrl_c(service: Service, endpoint: str) -> None:
    simulator(service, endpoint)
    assert "mt4pump: started" in service.must("start", "daemon")
    assert service("status", "daemon") == (0, "mt4pump          SERVICE_RUNNING\n")
    with context() as own:
        socket = pumping(own, endpoint, watchful)
        before = heartbeat(service, socket).body
        for pid in service.processes():
            psutil.Process(pid).kill()
        after = heartbeat(service, socket, before["epoch"]).body
        assert after["log"] == before["log"], "the same journal"
        assert after["offset"] > before["offset"] > 0, "offsets go on"
        assert "mt4pump: stopped" in service.must("stop", "daemon")
        rest = last_messages(socket)
    assert (rest[-1].topic, rest[-1].body["state"]) == ("heartbeat", "stopping"), "ended by Ctrl-C, not given up on"
    until(lambda: not service.processes(), "the process is gone")
    assert service.log.read_text(encoding="utf-8").splitlines()[-1].endswith("stopped")


def test_a_consumer_comes_after_the_daemon_and_goes_before_it(service: Service, endpoint: str) -> None:
    simulator(service, endpoint)
    address = exporter(service, endpoint)
    assert named(service.must("start")) == FORTH
    code, text = service("status")
    running = [line.split()[0] for line in text.splitlines() if RUNNING in line]
    assert (code, running) == (0, FORTH), f"{text}\n{service.log.read_text(encoding='utf-8')}"
    until(lambda: "mt4pump_up 1.0" in served(address), "the exporter receives heartbeats", LIMIT_S)
    assert named(service.must("stop", "daemon")) == BACK, "who needs it ends first"
    for name in PROGRAMS:
        log = service.root / name / "logs" / f"{name}.log"
        last = log.read_text(encoding="utf-8").splitlines()[-1]
        assert "stopped" in last, "ended by Ctrl-C"  # a busy machine adds why
