"""``mt4pump demo`` as people see it: all of it comes, all of it goes, whatever happens to it."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import psutil
import pytest
from websockets.sync.client import connect

from mt4pump.cli.demo import ChildFault, DemoProgram, ProcessGroup, data_folder
from mt4pump.client import Query
from mt4pump.errors import CONSTRAINTS_PLACE, EXIT_START, StartError
from tests.bus import until
from tests.chaos.processes import free_ports
from tests.cli.commands import PROJECT, environment, finish
from tests.programs import Program, program

LIMIT_S = 60.0
FLAGS = ("--pub-port", "--query-port", "--gateway-port", "--metrics-port")
UP = "Ctrl-C ends all of it"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the signals of these tests are POSIX'")


class Demo:
    """A running demo: its ``ports`` by flag, and its ``children`` by name."""

    def __init__(self, run: Program, ports: dict[str, int]) -> None:
        self.run = run
        self.ports = ports
        run.line(UP, LIMIT_S)
        self.children = {_name(child): child for child in psutil.Process(run.process.pid).children()}

    def gone(self) -> None:
        """Return once no child is left."""
        until(lambda: not [each for each in self.children.values() if _is_there(each)], "a child is left", LIMIT_S)


@contextmanager
def demo(folder: Path, *flags: str, path: Path | None = None) -> Iterator[Demo]:
    """Run a demo on free ports whose temporary files are in ``folder``; nothing of it is left at the end."""
    ports = dict(zip(FLAGS, free_ports(len(FLAGS)), strict=True))
    words = [word for flag, port in ports.items() for word in (flag, str(port))]
    extra = {"TMPDIR": str(folder), "MT4PUMP_SOURCE": "dll"}  # of which it must take no notice
    paths = os.pathsep.join([*([str(path)] if path else []), str(PROJECT), str(PROJECT / "consumers")])
    process = subprocess.Popen(
        [sys.executable, "-m", "mt4pump", "demo", *words, *flags],
        env={**environment(extra), "PYTHONPATH": paths},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    with program(process) as run:
        made = None
        try:
            made = Demo(run, ports)
            yield made
        finally:
            for child in made.children.values() if made else ():
                if _is_there(child):
                    child.kill()


def _name(child: psutil.Process) -> str:
    module = child.cmdline()[child.cmdline().index("mt4pump.process.signals") + 1]
    return module.removeprefix("mt4pump_consumers.").replace("mt4pump", "daemon")


def _is_there(child: psutil.Process) -> bool:
    try:
        return child.is_running() and child.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_all_parts_answer_where_the_table_shows_and_ctrl_c_ends_them(tmp_path: Path) -> None:
    with demo(tmp_path) as shown:
        assert set(shown.children) == {"daemon", "gateway", "metrics"}
        page, metrics = (
            re.findall(rf"http://127\.0\.0\.1:{shown.ports[flag]}/\S*", shown.run.text)[0] for flag in FLAGS[2:]
        )
        for address, part in ((page, b"mt4pump"), (metrics, b"mt4pump_")):
            with urllib.request.urlopen(address, timeout=LIMIT_S) as answer:  # noqa: S310 - http of our own
                assert part in answer.read()
        with connect(f"ws://127.0.0.1:{shown.ports['--gateway-port']}") as link:
            link.send('{"action": "subscribe", "symbols": ["EURUSD"]}')
            assert json.loads(link.recv(LIMIT_S))["type"] in {"subscription", "quote"}
        with Query(f"tcp://127.0.0.1:{shown.ports['--query-port']}") as query:
            assert query.describe()["pub_endpoint"] == f"tcp://127.0.0.1:{shown.ports['--pub-port']}"
        assert list(tmp_path.glob("mt4pump-demo-*"))
        shown.run.process.send_signal(signal.SIGINT)
        assert shown.run.end(LIMIT_S) == 0
        shown.gone()
        assert "all programs have ended" in shown.run.text
        assert "killed" not in shown.run.text
        assert not list(tmp_path.glob("mt4pump-demo-*"))


def test_when_the_demo_itself_is_killed_no_part_stays(tmp_path: Path) -> None:
    with demo(tmp_path) as shown:
        shown.run.process.kill()
        shown.gone()


def test_a_part_that_is_stuck_is_killed_at_the_end(tmp_path: Path) -> None:
    with demo(tmp_path) as shown:
        shown.children["gateway"].suspend()
        shown.run.process.send_signal(signal.SIGTERM)
        assert shown.run.end(LIMIT_S) == 0
        shown.gone()
        assert "gateway did not end by itself and was killed" in shown.run.text


def test_a_part_that_is_killed_ends_the_demo_with_the_end_of_its_log(tmp_path: Path) -> None:
    with demo(tmp_path) as shown:
        shown.children["daemon"].kill()
        assert shown.run.end(LIMIT_S) == 1
        shown.gone()
        assert "daemon ended with code -9" in shown.run.text
        assert "publishes on" in shown.run.text


def test_a_part_that_does_not_serve_in_time_is_reported_with_its_log_and_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mt4pump.cli.demo.READY_LIMIT_S", 0.0)
    group = ProcessGroup(tmp_path, {**environment(), "PYTHONPATH": str(PROJECT)}, lambda _name, _line: None)
    try:
        with pytest.raises(ChildFault, match=r"^gateway does not serve after 0 s; the end of its log:\n  ") as caught:
            group.start((DemoProgram("gateway", "http.server", ("0",), "never written"),), Event())
    finally:
        group.end()
    assert caught.value.code == EXIT_START


def test_a_chosen_data_folder_is_kept(tmp_path: Path) -> None:
    with demo(tmp_path, "--data-dir", str(tmp_path / "kept")) as shown:
        assert "is kept" in shown.run.text
        shown.run.process.send_signal(signal.SIGINT)
        assert shown.run.end(LIMIT_S) == 0
    assert list((tmp_path / "kept").iterdir())


def test_a_data_folder_that_cannot_be_made_exits_with_3(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = [word for flag, port in zip(FLAGS, free_ports(len(FLAGS)), strict=True) for word in (flag, str(port))]
    code, out, error = finish("demo", *words, "--data-dir", str(tmp_path / "file" / "x"))
    assert (code, out) == (3, "")
    assert error.startswith(f"mt4pump: cannot start: the folder {tmp_path / 'file' / 'x'} cannot be made (")
    assert "--data-dir" in error
    assert "Traceback" not in error


def test_a_temporary_folder_that_cannot_be_made_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryDirectory", full)
    with pytest.raises(StartError, match=r"temporary files cannot be made \(No space left"), data_folder(None):
        pass


def test_without_the_extra_the_daemon_runs_and_what_to_install_is_printed(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "from importlib import metadata\n"
        "found = metadata.distribution\n"
        "def distribution(name):\n"
        "    if name in {'websockets', 'prometheus-client'}: raise metadata.PackageNotFoundError(name)\n"
        "    return found(name)\n"
        "metadata.distribution = distribution\n"
    )
    with demo(tmp_path, path=tmp_path) as shown:
        assert set(shown.children) == {"daemon"}
        assert "websockets" in shown.run.line(
            f"pip install -c deploy/constraints.txt 'mt4pump[consumers]' ({CONSTRAINTS_PLACE})"
        )
        shown.run.process.send_signal(signal.SIGINT)
        assert shown.run.end(LIMIT_S) == 0
        assert str(shown.ports["--gateway-port"]) not in shown.run.text


def test_taken_ports_exit_with_3_and_name_holder_and_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [*free_ports(2), one.getsockname()[1], other.getsockname()[1]]
        words = [word for flag, port in zip(FLAGS, ports, strict=True) for word in (flag, str(port))]
        code, out, error = finish("demo", *words)
    assert (code, out) == (3, "")
    for port, flag in zip(ports[2:], FLAGS[2:], strict=True):
        assert f"port {port} is taken by" in error
        assert f"(pid {os.getpid()}): end it, or give another one with {flag}" in error
    assert "\\" not in error


def test_one_port_for_two_things_exits_with_2() -> None:
    code, _, error = finish("demo", "--pub-port", "4000", "--metrics-port", "4000")
    assert code == 2
    assert "--pub-port and --metrics-port are both 4000" in error


@pytest.mark.parametrize("port", ["0", "65536", "x"])
def test_what_is_no_port_exits_with_2(port: str) -> None:
    code, _, error = finish("demo", "--pub-port", port)
    assert code == 2
    assert "is not a port" in error
