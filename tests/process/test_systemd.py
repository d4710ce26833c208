"""What is sent to the service manager, datagram by datagram, and that a failed send never harms."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from mt4pump.process.systemd import Notifier
from tests.deploy.notify_socket import NotifySocket, notify_socket

unix = pytest.mark.skipif(sys.platform == "win32", reason="there is no systemd, and no Unix socket, on Windows")
DAY_S = 86_400.0
AT_ONCE_S = 1e-6


def silent(receiver: NotifySocket) -> bool:
    """Return whether nothing waits to be read."""
    try:
        return not receiver.next(0.01)
    except TimeoutError:
        return True


def test_without_a_service_manager_every_call_does_nothing() -> None:
    notifier = Notifier.of_environment({})
    notifier.ready("publishes")
    notifier.ping_watchdog(1)
    notifier.status("other")
    notifier.stopping()
    assert notifier.failures == 0


@unix
def test_ready_status_and_stopping_are_the_datagrams_of_sd_notify() -> None:
    with notify_socket() as receiver:
        notifier = Notifier.of_environment({"NOTIFY_SOCKET": receiver.address})
        notifier.ready("publishes on tcp://127.0.0.1:5556")
        assert receiver.next() == ["READY=1", "STATUS=publishes on tcp://127.0.0.1:5556"]
        notifier.status("session lost")
        assert receiver.next() == ["STATUS=session lost"]
        notifier.stopping()
        assert receiver.next() == ["STOPPING=1", "STATUS=stopping"]


@unix
def test_a_status_is_sent_only_when_it_changes_and_stays_one_line() -> None:
    with notify_socket() as receiver:
        notifier = Notifier(receiver.address)
        notifier.ready("one")
        notifier.status("one")
        notifier.status("two\nREADY=1")
        assert receiver.next() == ["READY=1", "STATUS=one"]
        assert receiver.next() == ["STATUS=two READY=1"]


@unix
def test_the_watchdog_is_pinged_only_for_a_count_that_changed() -> None:
    with notify_socket() as receiver:
        notifier = Notifier(receiver.address, AT_ONCE_S)
        notifier.ping_watchdog(7)
        assert receiver.next() == ["WATCHDOG=1"]
        notifier.ping_watchdog(7)
        assert silent(receiver)
        notifier.ping_watchdog(8)
        assert receiver.next() == ["WATCHDOG=1"]


@unix
def test_pings_are_rare_and_none_are_sent_without_a_watchdog() -> None:
    with notify_socket() as receiver:
        patient = Notifier(receiver.address, DAY_S)
        for turns in range(1000):
            patient.ping_watchdog(turns)
            Notifier(receiver.address).ping_watchdog(turns)
        assert receiver.next() == ["WATCHDOG=1"]
        assert silent(receiver)


@unix
@pytest.mark.parametrize(
    ("variables", "wants"),
    [
        ({"WATCHDOG_USEC": "1"}, True),
        ({"WATCHDOG_USEC": "1", "WATCHDOG_PID": str(os.getpid())}, True),
        ({"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}, False),
        ({"WATCHDOG_USEC": "soon"}, False),
        ({}, False),
    ],
    ids=["any process", "this process", "another process", "no number", "none"],
)
def test_the_watchdog_is_the_one_of_this_process(variables: dict[str, str], wants: bool) -> None:  # noqa: FBT001
    with notify_socket() as receiver:
        Notifier.of_environment({"NOTIFY_SOCKET": receiver.address, **variables}).ping_watchdog(1)
        assert silent(receiver) is not wants


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_an_abstract_address_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0mt4pump-test-{os.getpid()}")
        receiver.settimeout(30)
        Notifier.of_environment({"NOTIFY_SOCKET": f"@mt4pump-test-{os.getpid()}"}).stopping()
        assert receiver.recv(100) == b"STOPPING=1\nSTATUS=stopping"


@unix
def test_nobody_at_the_address_is_counted_and_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(str(tmp_path / "none"))
    notifier.ready("publishes")
    notifier.stopping()
    assert notifier.failures == 2
    assert [record.message for record in caplog.records if "cannot be sent READY=1" in record.message] == [
        record.message for record in caplog.records
    ]
    assert len(caplog.records) == 1


@unix
def test_an_address_of_another_kind_is_left_alone_and_named(caplog: pytest.LogCaptureFixture) -> None:
    Notifier.of_environment({"NOTIFY_SOCKET": "vsock:2:9999"}).ready("publishes")
    assert "vsock:2:9999" in caplog.text
