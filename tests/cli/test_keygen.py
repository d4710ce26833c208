"""``mt4pump keygen``: the files it makes, that they work together, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mt4pump.cli import main
from mt4pump.security.keys import fingerprint, raw_key, read_clients, read_server_pair, read_server_public, read_toml
from tests.bus import context
from tests.security.keyring import Keyring, SecuredPublisher


def keygen(*arguments: str) -> int:
    return main(["keygen", *arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert keygen("server", str(tmp_path / "keys")) == 0
    return tmp_path / "keys"


def client(folder: Path, name: str, topics: str, *more: str) -> int:
    return keygen("client", name, "--topics", topics, "--server", str(folder / "server.key"), "-o", str(folder), *more)


def test_the_servers_files_belong_together(folder: Path) -> None:
    pair = read_server_pair(folder / "server.secret")
    assert read_server_public(folder / "server.key") == pair.public
    assert pair.secret not in (folder / "server.key").read_text()


def test_a_client_gets_its_keys_and_the_server_its_rules(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert client(folder, "alice", "quote.*, trade.1001", "--no-query") == 0
    keys = read_toml(folder / "alice.client")
    assert set(keys) == {"public_key", "secret_key", "server_key"}
    assert keys["server_key"] == read_server_public(folder / "server.key")
    rules = read_toml(folder / "clients" / "alice.toml")
    assert rules == {"public_key": keys["public_key"], "topics": ["quote.*", "trade.1001"], "query": False}
    shown = capsys.readouterr()
    assert "topic_suffix" in shown.err
    assert keys["secret_key"] not in shown.out + shown.err
    found = read_clients(folder / "clients", fingerprint(folder / "clients"), "|")
    assert not found.faults
    assert found.by_key[raw_key(keys["public_key"])].permissions.covers(b"trade.1001|")


def test_secret_files_are_for_their_owner_alone(folder: Path) -> None:
    client(folder, "alice", "*")
    if sys.platform == "win32":
        pytest.skip("Windows has ACLs instead")
    for name in ("server.secret", "alice.client"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600


def test_the_files_admit_the_client(folder: Path) -> None:
    client(folder, "alice", "quote.*")
    keys = read_toml(folder / "alice.client")
    ring = Keyring.__new__(Keyring)
    ring.secret, ring.clients, ring.pairs = folder / "server.secret", folder / "clients", {}
    ring.server = read_server_pair(ring.secret)
    with context() as own, context() as other:
        made = SecuredPublisher(own, other, ring)
        pair = type(ring.server)(keys["public_key"], keys["secret_key"])
        socket = made.subscriber(pair, b"", server=keys["server_key"])
        made.connects(socket)
        assert made.received(socket, b"quote.A", b"trade.1") == {b"quote.A"}
        made.close()


def test_nothing_is_replaced_unless_forced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client(folder, "alice", "quote.*")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert keygen("server", str(folder)) == 2
    assert "--force" in capsys.readouterr().err
    (folder / "alice.client").unlink()
    assert client(folder, "alice", "*") == 2
    assert not (folder / "alice.client").exists()
    del before[folder / "alice.client"]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert client(folder, "alice", "*", "--force") == 0
    assert read_toml(folder / "clients" / "alice.toml")["topics"] == ["*"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("client", "alice", "--server", "KEY"), "--topics is missing"),
        (("client", "alice", "--topics", " , ", "--server", "KEY"), "--topics is missing"),
        (("client", "alice", "--topics", "*"), "--server is missing"),
        (("client", "alice", "--topics", "qoute.*", "--server", "KEY"), "did you mean quote.*?"),
        (("client", "alice", "--topics", "*", "--server", "none"), "there is no file none"),
        (("client", "../alice", "--topics", "*", "--server", "KEY"), "no client's name"),
        (("client", "", "--topics", "*", "--server", "KEY"), "no client's name"),
        (("server", "new", "--topics", "*"), "takes a folder only"),
        (("sevrer", "new"), "invalid choice"),
        (("client",), "DIR|NAME"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_written(
    folder: Path,
    arguments: tuple[str, ...],
    reason: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    given = [str(folder / "server.key") if each == "KEY" else each for each in arguments]
    assert keygen(*given) == 2
    assert reason in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def test_a_note_goes_to_standard_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert client(folder, "alice", "trade.1001") == 0
    shown = capsys.readouterr()
    assert [line.rpartition("  ")[2] for line in shown.out.splitlines()] == ["secret", "public"]
    assert shown.err == ("mt4pump keygen: exact topics need a daemon with a topic_suffix, as '|': trade.1001\n")


def test_a_folder_that_cannot_be_written_to_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert keygen("server", str(tmp_path / "file")) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_the_help_documents_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert keygen("--help") == 0
    out = capsys.readouterr().out
    for word in ("server.secret", "NAME.client", "topics = ", "icacls", "%USERNAME%", "topic_suffix"):
        assert word in out
