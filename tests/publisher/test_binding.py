"""The program that holds an address is found by name and pid; no exception is raised."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from mt4pump.publisher.binding import holder_of

linux = pytest.mark.skipif(sys.platform == "darwin", reason="macOS shows sockets of other processes to root only")


@pytest.fixture
def port() -> Iterator[int]:
    """Give a port that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def ourselves() -> str:
    return f"{psutil.Process().name()} (pid {os.getpid()})"


@linux
@pytest.mark.parametrize("host", ["127.0.0.1", "*", "0.0.0.0", "localhost"])  # noqa: S104 - not bound
@pytest.mark.not_under_wine(
    "asks psutil whose a socket or a process is: Wine 8 does not know, or searches the whole host for minutes"
)
def test_the_program_that_listens_is_named_with_its_pid(host: str, port: int) -> None:
    assert holder_of(f"tcp://{host}:{port}") == ourselves()


@linux
def test_a_listener_on_another_address_of_the_port_is_not_blamed(port: int) -> None:
    assert holder_of(f"tcp://127.0.0.2:{port}") is None


@linux
@pytest.mark.not_under_wine(
    "asks psutil whose a socket or a process is: Wine 8 does not know, or searches the whole host for minutes"
)
def test_a_listener_on_all_addresses_is_found_for_each() -> None:
    with socket.create_server(("", 0)) as server:
        assert holder_of(f"tcp://127.0.0.1:{server.getsockname()[1]}") == ourselves()


@pytest.mark.skipif(sys.platform != "linux", reason="psutil lists Unix sockets by path on Linux")
def test_the_holder_of_a_unix_socket_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert holder_of(f"ipc://{path}") == ourselves()
    assert holder_of(f"ipc://{path}2") is None


@pytest.mark.parametrize(
    "endpoint", ["", "tcp://", "tcp://127.0.0.1:*", "tcp://x", "inproc://a", "ipc://", "tcp://[::1]:0"]
)
def test_what_cannot_be_held_has_no_holder(endpoint: str) -> None:
    assert holder_of(endpoint) is None


@pytest.mark.parametrize("error", [psutil.AccessDenied(), RuntimeError("GetExtendedTcpTable failed")])
def test_where_the_system_does_not_say_nobody_is_named(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_kind: str) -> None:
        raise error

    monkeypatch.setattr(psutil, "net_connections", refuse)
    assert holder_of("tcp://127.0.0.1:5556") is None


@pytest.mark.parametrize(
    ("ip", "pid", "holder"),
    [
        pytest.param("127.0.0.1", None, "another user's program", id="the system hides whose it is"),
        pytest.param("::", 0, None, id="the idle process of Windows"),
        pytest.param("::", 4321, "a program (pid 4321)", id="a program that ended meanwhile"),
    ],
)
def test_a_program_without_a_name(
    monkeypatch: pytest.MonkeyPatch, ip: str, pid: int | None, holder: str | None
) -> None:
    def gone(pid: int) -> None:
        raise psutil.NoSuchProcess(pid)

    found = SimpleNamespace(status=psutil.CONN_LISTEN, laddr=SimpleNamespace(ip=ip, port=5556), pid=pid)
    monkeypatch.setattr(psutil, "net_connections", lambda _kind: [found])
    monkeypatch.setattr(psutil, "Process", gone)
    assert holder_of("tcp://127.0.0.1:5556") == holder
