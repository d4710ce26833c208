"""Single trials, with the ways in which each can fail."""

from __future__ import annotations

import socket
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from mt4pump.cli.trials import Attempt, address, data_folder, host_and_port, library, servers, tick_files

unix = pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets")


def test_a_data_folder_that_can_be_written_to_is_left_as_it_was(tmp_path: Path) -> None:
    finding = data_folder(tmp_path)
    assert (finding.ok, list(tmp_path.iterdir())) == (True, [])


def test_a_data_folder_that_is_missing_is_made_for_the_trial_and_removed(tmp_path: Path) -> None:
    finding = data_folder(tmp_path / "a" / "b")
    assert finding.ok
    assert "a start will make it" in finding.text
    assert list(tmp_path.iterdir()) == []


def test_a_data_folder_below_a_file_is_not_ok_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finding = data_folder(tmp_path / "file" / "data")
    assert not finding.ok
    assert "--data-dir" in finding.text


def test_a_data_folder_without_permission_is_not_ok(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)  # the tests may run as root, who may write everywhere
    finding = data_folder(tmp_path)
    assert not finding.ok
    assert "(Permission denied); make it writable" in finding.text


def test_a_library_that_is_no_library_is_not_ok(tmp_path: Path) -> None:
    path = tmp_path / "mtmanapi.dll"
    path.write_bytes(b"junk")
    finding = library(path)
    assert not finding.ok
    assert str(path) in finding.text


def test_the_vendors_library_is_ok_with_word_size_version_and_build(vendor_library: Path) -> None:
    finding = library(vendor_library)
    assert finding.ok, finding.text
    assert "64-bit, version 400, build 1403" in finding.text or "32-bit, version 400, build 1403" in finding.text


def test_tick_files_are_looked_into(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text("time_ms,symbol,bid,ask\n1577916000065,EURUSD,1.12120,1.12172\n", encoding="utf-8")
    bad.write_text("time,bid\n", encoding="utf-8")
    found = list(tick_files((good, bad, tmp_path / "gone.csv")))
    assert [finding.ok for finding in found] == [True, False, False]
    assert found[0].text == f"{good}: EURUSD"
    assert "bad.csv" in found[1].text
    assert "gone.csv" in found[2].text


def test_an_address_that_this_machine_lacks_is_not_ok() -> None:
    finding = address("tcp://203.0.113.1:5556")
    assert not finding.ok
    assert "no such address" in finding.text


def test_an_address_is_free_again_after_the_trial() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        assert not address(endpoint).ok
    assert address(endpoint).ok
    assert address(endpoint).ok


@unix
def test_an_ipc_address_is_never_taken_from_a_program_that_listens(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        finding = address(f"ipc://{path}")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    assert finding.ok is (sys.platform != "linux")  # elsewhere nobody tells who listens
    assert not address(f"ipc://{tmp_path}/no/s").ok
    assert address(f"ipc://{tmp_path}/free").ok


def test_all_servers_are_tried_and_told_in_order() -> None:
    with socket.create_server(("127.0.0.1", 0)) as open_, socket.create_server(("127.0.0.1", 0)) as closed:
        open_port, closed_port = open_.getsockname()[1], closed.getsockname()[1]
        closed.close()
        found = list(servers((f"127.0.0.1:{closed_port}", f"127.0.0.1:{open_port}")))
    assert [finding.ok for finding in found] == [False, True]
    assert "does not answer" in found[0].text


def test_a_name_that_does_not_resolve_is_told_from_a_server_that_is_down() -> None:
    def connect(*_: object, **__: object) -> socket.socket:
        raise socket.gaierror(-2, "Name or service not known")

    attempt = Attempt("mt4.example.com", 1.0, connect)
    attempt.thread.join(10)
    assert attempt.finding().text.startswith("mt4.example.com: name not found")


def test_a_look_up_that_hangs_is_left_behind() -> None:
    release = threading.Event()

    def connect(*_: object, **__: object) -> socket.socket:
        release.wait(30)
        raise OSError("late")

    attempt = Attempt("mt4.example.com:443", 0.01, connect)
    attempt.thread.join(0.01)
    try:
        finding = attempt.finding()
        assert not finding.ok
        assert finding.text.startswith("mt4.example.com:443 did not answer within 0.01 s")
    finally:
        release.set()
        attempt.thread.join(10)


@pytest.mark.parametrize(
    ("server", "parts"),
    [
        ("a.b", ("a.b", 443)),
        ("a.b:1950", ("a.b", 1950)),
        ("[::1]", ("::1", 443)),
        ("[::1]:1950", ("::1", 1950)),
    ],
)
def test_a_server_is_host_and_port_with_443_as_default(server: str, parts: tuple[str, int]) -> None:
    assert host_and_port(server) == parts
