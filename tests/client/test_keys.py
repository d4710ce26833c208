"""Key files of clients."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq

from mt4pump.client import ClientError, ClientKeys


def key_file(folder: Path, **values: str) -> Path:
    path = folder / "reader.key_secret"
    lines = [f'{name} = "{value}"  # a comment' for name, value in values.items()]
    path.write_text("\n".join(["# made by a test", *lines]), encoding="utf-8")
    return path


def test_a_file_with_all_three_keys_is_enough(tmp_path: Path) -> None:
    public, secret = (key.decode() for key in zmq.curve_keypair())
    path = key_file(tmp_path, public_key=public, secret_key=secret, server_key=public)
    assert ClientKeys.load(path) == ClientKeys(public, secret, public)


def test_the_servers_key_may_be_given_or_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    public, secret = (key.decode() for key in zmq.curve_keypair())
    path = key_file(tmp_path, public_key=public, secret_key=secret)
    server = tmp_path / "server.key"
    server.write_text(f'curve\n    public-key = "{public}"\n')  # the form of CZMQ
    assert ClientKeys.load(path, server) == ClientKeys.load(path, public) == ClientKeys(public, secret, public)


def test_a_secret_is_never_shown() -> None:
    public, secret = (key.decode() for key in zmq.curve_keypair())
    assert secret not in repr(ClientKeys(public, secret, public))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    public, secret = (key.decode() for key in zmq.curve_keypair())
    with pytest.raises(ClientError, match="has no server_key"):
        ClientKeys.load(key_file(tmp_path, public_key=public, secret_key=secret))
    with pytest.raises(ClientError, match="has no secret_key"):
        ClientKeys.load(key_file(tmp_path, public_key=public), public)
    with pytest.raises(ClientError, match="cannot be read"):
        ClientKeys.load(tmp_path / "none")
    with pytest.raises(ClientError, match="the server key is not 40 characters"):
        ClientKeys(public, secret, "short")
