"""Single run_checks, with the ways in which each can fail."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mt4pump import __version__
from mt4pump.cli.check import (
    Finding,
    address,
    addresses,
    data_folder,
    host_and_port,
    journal,
    keys,
    library,
    path_depth,
    servers,
    tick_files,
)
from mt4pump.journal import Journal, JournalOptions, Stored
from mt4pump.process.data_folder import DataFolderLock
from mt4pump.security.keys import new_pair
from mt4pump.settings import Settings

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


def test_a_data_folder_that_a_daemon_holds_is_not_ok_and_names_it(tmp_path: Path) -> None:
    with closing(DataFolderLock(tmp_path)):
        finding = data_folder(tmp_path)
    assert not finding.ok
    assert f"is in use by mt4pump {__version__}" in finding.text
    assert f"pid {os.getpid()}" in finding.text


def test_a_journal_that_is_not_there_yet_is_ok_and_not_made(tmp_path: Path) -> None:
    finding = journal(tmp_path / "journal.sqlite3")
    assert (finding.ok, finding.text) == (True, f"{tmp_path / 'journal.sqlite3'} will be made by a start")
    assert list(tmp_path.iterdir()) == []


def test_a_journal_is_ok_with_the_offsets_that_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    made = Journal(path, JournalOptions(), time.time_ns)
    assert made.append([Stored(1, time.time_ns(), b"trade.1", b"\x80")], {})
    made.close()
    before = path.read_bytes()
    finding = journal(path)
    assert path.read_bytes() == before
    assert (finding.ok, finding.text) == (True, f"{path} holds offsets 1 to 1")


def test_a_journal_that_is_no_database_is_not_ok(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    path.write_bytes(b"junk" * 1_000)
    finding = journal(path)
    assert not finding.ok
    assert str(path) in finding.text


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


def test_tick_files_are_read(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text("time_ms,symbol,bid,ask\n1577916000065,EURUSD,1.12120,1.12172\n", encoding="utf-8")
    bad.write_text("time,bid\n", encoding="utf-8")
    found = list(tick_files(Settings(source="simulator", ticks=(good, bad, tmp_path / "gone.csv"))))
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


def test_both_addresses_are_tried_under_their_own_names() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        given = Settings(source="simulator", pub_endpoint="tcp://127.0.0.1:*", query_endpoint=endpoint)
        found = list(addresses(given))
    assert [(each.what, each.ok) for each in found] == [("pub_endpoint", True), ("query_endpoint", False)]
    assert found[1].text.startswith(f"{endpoint} is taken by ")
    assert [each.what for each in addresses(Settings(source="simulator", query_endpoint=None))] == ["pub_endpoint"]


def key_settings(folder: Path, *, suffix: str = "") -> Settings:
    """Write the daemon's keys and return settings that use them, with a folder of clients that is not there yet."""
    pair, path = new_pair(), folder / "server.secret"
    path.write_text(f'public_key = "{pair.public}"\nsecret_key = "{pair.secret}"\n', encoding="utf-8")
    path.chmod(0o600)
    return Settings(source="simulator", curve_secret_key=path, curve_clients=folder / "clients", topic_suffix=suffix)


def test_keys_and_clients_that_are_right_are_ok_and_no_secret_is_shown(tmp_path: Path) -> None:
    settings = key_settings(tmp_path, suffix="|")
    (tmp_path / "clients").mkdir()
    client = f'public_key = "{new_pair().public}"\ntopics = ["quote.*", "trade.1001"]\n'
    (tmp_path / "clients" / "support.toml").write_text(client, encoding="utf-8")
    found = list(keys(settings))
    assert [(each.what, each.ok) for each in found] == [("curve_secret_key", True), ("curve_clients", True)]
    assert found[1].text == f"{tmp_path / 'clients'}: 1 client(s) may connect"
    secret = (tmp_path / "server.secret").read_text(encoding="utf-8").split('"')[3]
    assert not any(secret in each.text for each in found)


def test_each_file_of_a_client_that_is_wrong_is_named(tmp_path: Path) -> None:
    settings = key_settings(tmp_path)
    (tmp_path / "clients").mkdir()
    exact = f'public_key = "{new_pair().public}"\ntopics = ["trade.1001"]\n'
    (tmp_path / "clients" / "exact.toml").write_text(exact, encoding="utf-8")
    (tmp_path / "clients" / "junk.toml").write_text("junk", encoding="utf-8")
    _, *found = keys(settings)
    assert [(each.what, each.ok) for each in found] == [("curve_clients", False)] * 2
    assert "exact.toml" in found[0].text
    assert "junk.toml" in found[1].text


def test_key_files_that_are_missing_are_named_and_without_keys_nothing_is_tried(tmp_path: Path) -> None:
    settings = key_settings(tmp_path)
    (tmp_path / "server.secret").unlink()
    found = list(keys(settings))
    assert [(each.what, each.ok) for each in found] == [("curve_secret_key", False), ("curve_clients", False)]
    assert "server.secret" in found[0].text
    assert f"{tmp_path / 'clients'} cannot be read" in found[1].text
    assert list(keys(Settings(source="simulator"))) == []


@unix
def test_a_secret_key_that_others_may_read_is_not_ok(tmp_path: Path) -> None:
    settings = key_settings(tmp_path)
    (tmp_path / "server.secret").chmod(0o644)
    finding = next(keys(settings))
    assert not finding.ok
    assert "chmod 600" in finding.text


@unix
def test_an_ipc_address_is_never_taken_from_a_program_that_listens(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        finding = address(f"ipc://{path}")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    assert finding.ok is (sys.platform != "linux")  # elsewhere nothing shows who listens
    assert not address(f"ipc://{tmp_path}/no/s").ok
    assert address(f"ipc://{tmp_path}/free").ok


def test_all_servers_are_tried_and_reported_in_order() -> None:
    with socket.create_server(("127.0.0.1", 0)) as open_, socket.create_server(("127.0.0.1", 0)) as closed:
        open_port, closed_port = open_.getsockname()[1], closed.getsockname()[1]
        closed.close()
        found = list(servers((f"127.0.0.1:{closed_port}", f"127.0.0.1:{open_port}")))
    assert [finding.ok for finding in found] == [False, True]
    assert "does not answer" in found[0].text


def test_a_name_that_does_not_resolve_is_not_reported_as_a_server_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, {})
    (finding,) = servers(("mt4.example.com",))
    assert finding.text.startswith("mt4.example.com: name not found (No address associated with hostname)")


def names(monkeypatch: pytest.MonkeyPatch, addresses: dict[socket.AddressFamily, list[str]]) -> None:
    """Have every name resolve to these addresses."""

    def look_up(host: str, port: int, family: int = 0, *_: object) -> list[Any]:
        if not family:  # an address, that is being connected to
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]
        found = addresses.get(socket.AddressFamily(family), [])
        if not found:
            raise socket.gaierror(-5, "No address associated with hostname")
        return [(family, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def test_a_name_with_ipv6_addresses_alone_is_no_server_for_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, {socket.AF_INET6: ["::1"]})
    (finding,) = servers(("mt4.example.com:443",))
    assert not finding.ok
    assert "has IPv6 addresses only (AAAA)" in finding.text
    assert "IPv4 address" in finding.text


def test_a_name_with_addresses_of_both_kinds_is_tried_by_ipv4_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as open_, pytest.MonkeyPatch.context() as patch:
        names(patch, {socket.AF_INET6: ["::1"], socket.AF_INET: ["127.0.0.1"]})
        (finding,) = servers((f"localhost:{open_.getsockname()[1]}",))
    assert finding.ok
    assert "answers at 127.0.0.1" in finding.text


def test_every_ipv4_address_of_a_name_is_tried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as open_, pytest.MonkeyPatch.context() as patch:
        names(patch, {socket.AF_INET: ["127.0.0.2", "127.0.0.1"]})
        (finding,) = servers((f"mt4.example.com:{open_.getsockname()[1]}",))
    assert finding.ok


def test_a_data_folder_too_deep_for_the_library_is_reported_with_its_cure(tmp_path: Path) -> None:
    assert list(path_depth(Path("/short"))) == []
    (finding,) = path_depth(tmp_path / ("d" * 200))
    assert not finding.ok
    assert "from 200 on the library writes neither mail nor its log" in finding.text
    assert "set data_dir to a shorter path" in finding.text


def test_the_depth_is_that_of_the_working_folder() -> None:
    top = Path(Path.cwd().anchor)  # on Windows, with the drive
    longest = 200 - len("/manager-0") - len(str(top))
    assert list(path_depth(top / ("d" * (longest - 1)))) == []
    assert list(path_depth(top / ("d" * longest))) != []


def test_a_name_resolution_that_hangs_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def check(_name: str, _limit_s: float) -> Finding:
        release.wait(60)
        return Finding("server", ok=True, text="late")

    monkeypatch.setattr("mt4pump.cli.check.server", check)
    try:
        (finding,) = servers(("mt4.example.com:443",), 0.01)
        assert not finding.ok
        assert finding.text.startswith("mt4.example.com:443 did not answer within 0.01 s")
    finally:
        release.set()


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
