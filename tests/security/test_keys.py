"""Key files: what is read, what is refused and with which words, and what is written."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mt4pump.errors import SettingsError
from mt4pump.security.keys import (
    FILE_BYTES_LIMIT,
    KeyFileError,
    new_pair,
    raw_key,
    read_server_pair,
    read_server_public,
    read_toml,
    write_new,
)


def test_a_server_file_is_read(tmp_path: Path) -> None:
    pair, path = new_pair(), tmp_path / "server.secret"
    path.write_text(f'# ours\npublic_key = "{pair.public}"\nsecret_key = "{pair.secret}"\n')
    assert read_server_pair(path) == pair
    assert read_server_public(path) == pair.public


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1\r\n")
    assert read_toml(path) == {"a": 1}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a = 1\nb = ?", "is not TOML at line 2"),
        (b"a = 1\nb = \xff", "is not UTF-8 text"),
        (b"", "public_key is missing"),
        (b"public_key = 5", "public_key is no key"),
        (b'public_key = "short"', "public_key is no key"),
        (b'public_key = "' + b"#" * 40 + b'"', "stands for more than 32 bytes"),
        (b"#" * (FILE_BYTES_LIMIT + 1), "is it the right file"),
        (b"query = " + b"1" * 5_000, "a number too long"),
        (b"topics = " + b"[" * 5_000, "brackets too deep"),
    ],
)
def test_a_bad_key_file_is_named_with_its_fault(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "server.key"
    path.write_bytes(content)
    with pytest.raises(KeyFileError) as caught:
        read_server_public(path)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)
    assert isinstance(caught.value, SettingsError)


def test_keys_that_do_not_belong_together_are_refused_and_no_secret_is_shown(tmp_path: Path) -> None:
    pair, other, path = new_pair(), new_pair(), tmp_path / "server.secret"
    path.write_text(f'public_key = "{other.public}"\nsecret_key = "{pair.secret}"\n')
    with pytest.raises(KeyFileError, match="does not belong to secret_key") as caught:
        read_server_pair(path)
    assert pair.secret not in str(caught.value)


def test_a_broken_secret_is_not_repeated(tmp_path: Path) -> None:
    pair, path = new_pair(), tmp_path / "server.secret"
    path.write_text(f'public_key = "{pair.public}"\nsecret_key = "{pair.secret[:-1]}"\n')
    with pytest.raises(KeyFileError) as caught:
        read_server_pair(path)
    assert pair.secret[:10] not in str(caught.value)


def test_a_missing_file_is_named_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"there is no file .*mt4pump keygen"):
        read_server_public(tmp_path / "none")
    with pytest.raises(KeyFileError, match=r"cannot be read .*; make it readable"):
        read_server_public(tmp_path)


def test_a_raw_key_has_32_bytes() -> None:
    assert len(raw_key(new_pair().public)) == 32


def test_a_private_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    write_new(tmp_path / "deep" / "a.secret", "x", private=True)
    write_new(tmp_path / "a.key", "y", private=False)
    assert (tmp_path / "deep" / "a.secret").read_text() == "x"
    if sys.platform == "win32":
        pytest.skip("Windows has ACLs instead")
    assert (tmp_path / "deep" / "a.secret").stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a.key").mkdir()
    with pytest.raises(KeyFileError, match="cannot be written"):
        write_new(tmp_path / "a.key", "y", private=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.key"]


@pytest.mark.skipif(os.name != "posix", reason="on Windows rights are no modes")
def test_a_file_of_keys_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "server.secret"
    pair = new_pair()
    path.write_text(f'public_key = "{pair.public}"\nsecret_key = "{pair.secret}"\n', encoding="utf-8")
    assert read_server_pair(path) == pair
    path.chmod(0o602)
    with pytest.raises(KeyFileError, match="chmod o-w"):
        read_server_pair(path)
