"""The folder of clients: good files, bad ones beside them, and what changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mt4pump.security.keys import CLIENTS_LIMIT, Clients, fingerprint, new_pair, raw_key, read_client, read_clients
from mt4pump.security.permissions import NOTHING
from tests.security.keyring import Keyring


@pytest.fixture
def keys(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path)


def clients(keys: Keyring, suffix: str = "") -> Clients:
    return read_clients(keys.clients, fingerprint(keys.clients), suffix)


def test_a_client_is_found_by_its_key_and_its_connections_by_their_name(keys: Keyring) -> None:
    keys.admit("alice", "quote.*", query=False)
    found = clients(keys)
    client = found.by_key[raw_key(keys.pairs["alice"].public)]
    assert client.name == "alice"
    assert client.user.startswith("alice#")
    assert found.allowed(client.user).allowed == (b"heartbeat", b"quote.")
    assert not found.allowed(client.user).query


@pytest.mark.parametrize("user", ["", "alice", "alice#", "None", "bob#1"])
def test_an_unknown_user_may_receive_nothing(keys: Keyring, user: str) -> None:
    keys.admit("alice", "*")
    assert clients(keys).allowed(user) is NOTHING


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("topics = [", "is not TOML"),
        ('topics = ["*"]', "public_key is no key"),
        ('public_key = "KEY"', "topics is no list of texts"),
        ('public_key = "KEY"\ntopics = "*"', "topics is no list of texts"),
        ('public_key = "KEY"\ntopics = [1]', "topics is no list of texts"),
        ('public_key = "KEY"\ntopics = []\nquery = 1', "query is neither true nor false"),
        ('public_key = "KEY"\ntopics = []\ntopic = 1', "there is no field 'topic'"),
        ('public_key = "KEY"\ntopics = ["trade.1"]', "topic_suffix"),
    ],
)
def test_a_faulty_file_is_named_and_does_not_affect_the_others(keys: Keyring, content: str, reason: str) -> None:
    keys.admit("alice", "*")
    (keys.clients / "bob.toml").write_text(content.replace("KEY", new_pair().public))
    found = clients(keys)
    assert len(found) == 1
    assert list(found.faults) == ["bob.toml"]
    assert str(keys.clients / "bob.toml") in found.faults["bob.toml"]
    assert reason in found.faults["bob.toml"]


def test_a_key_belongs_to_one_client(keys: Keyring) -> None:
    keys.admit("alice", "quote.*")
    keys.admit("bob", "*", pair=keys.pairs["alice"])
    found = clients(keys)
    assert "has the public_key of alice.toml" in found.faults["bob.toml"]
    assert [client.name for client in found.by_key.values()] == ["alice"]


def test_a_name_is_plain(tmp_path: Path) -> None:
    path = tmp_path / "so what.toml"
    path.write_text("")
    with pytest.raises(Exception, match="no client's name"):
        read_client(path, "")


def test_other_files_are_no_clients(keys: Keyring) -> None:
    for name in ("README.md", ".hidden.toml", "alice.toml~"):
        (keys.clients / name).write_text("x")
    assert fingerprint(keys.clients) == ()


def test_the_fingerprint_changes_with_every_file(keys: Keyring) -> None:
    seen = {fingerprint(keys.clients)}
    for name, topics in (("alice", "*"), ("bob", "quote.*"), ("bob", "trade.*"), ("alice", "")):
        if topics:
            keys.admit(name, topics)
        else:
            keys.revoke(name)
        assert fingerprint(keys.clients) not in seen
        seen.add(fingerprint(keys.clients))


def test_the_number_of_clients_is_bounded(keys: Keyring) -> None:
    names = tuple((f"{number}.toml", 0, 0, 0) for number in range(CLIENTS_LIMIT + 1))
    faults = read_clients(keys.clients, names, "").faults
    assert "more than 10000 files" in faults[f"{CLIENTS_LIMIT}.toml"]


def test_reduced_permissions_are_noticed(keys: Keyring) -> None:
    keys.admit("alice", "quote.*")
    before = clients(keys)
    keys.admit("bob", "*")
    assert clients(keys).keeps(before)
    keys.admit("alice", "quote.*", "trade.*")
    assert clients(keys).keeps(before)
    keys.admit("alice", "quote.EUR*")
    assert not clients(keys).keeps(before)
    keys.admit("alice", "*", pair=new_pair())
    assert not clients(keys).keeps(before)
    keys.revoke("alice")
    assert not clients(keys).keeps(before)
