"""CURVE keys and their files (TOML, so that people can read and comment them).

=================  ==========================================  ================================
file               fields                                      who has it
=================  ==========================================  ================================
``server.secret``  ``public_key``, ``secret_key``              the daemon alone
``server.key``     ``public_key``                              everybody
``NAME.client``    ``public_key``, ``secret_key``,             that client alone
                   ``server_key``
``NAME.toml``      ``public_key``, ``topics``, ``query``       the daemon (folder of clients)
=================  ==========================================  ================================

Keys are written in Z85: 40 characters.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import zmq
from zmq.utils import z85

from mt4pump.errors import SettingsError
from mt4pump.private_files import PRIVATE, PUBLIC, replace_file
from mt4pump.process import sources

Z85_KEY = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
FILE_BYTES_LIMIT = 262_144


class KeyFileError(SettingsError):
    """A file of keys cannot be used or written; the text names the file, what is wrong, and what to do."""


class KeyPair(NamedTuple):
    """A CURVE key pair in Z85."""

    public: str
    secret: str


def new_pair() -> KeyPair:
    """Return a new random key pair."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def raw_key(text: object) -> bytes:
    """Return the 32 bytes of a key in Z85. Raises ValueError, whose text never holds the key."""
    if not isinstance(text, str) or not Z85_KEY.fullmatch(text):
        raise ValueError("is no key: 40 characters of Z85, as mt4pump keygen writes them")
    try:
        return z85.decode(text.encode())
    except struct.error:  # five characters that stand for more than 32 bits
        raise ValueError("is no key: it stands for more than 32 bytes") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a small TOML file. Raises KeyFileError; its text repeats nothing of the file."""
    try:
        return sources.read_toml(path, FILE_BYTES_LIMIT)
    except ValueError as error:
        raise KeyFileError(f"{error} (mt4pump keygen makes such files)") from None


def read_server_pair(path: Path) -> KeyPair:
    """Return the daemon's keys of the file ``server.secret``. Raises KeyFileError."""
    fields = read_toml(path)
    pair = KeyPair(*(_key(fields, name, path) for name in ("public_key", "secret_key")))
    if zmq.curve_public(pair.secret.encode()).decode() != pair.public:
        raise KeyFileError(f"{path}: public_key does not belong to secret_key; make both again: mt4pump keygen server")
    return pair


def read_server_public(path: Path) -> str:
    """Return the daemon's public key of the file ``server.key`` (or of ``server.secret``). Raises KeyFileError."""
    return _key(read_toml(path), "public_key", path)


def write_new(path: Path, text: str, *, private: bool) -> None:
    """Write a file that appears whole or not at all, readable by the owner alone when ``private``. Raises KeyFileError.

    An existing file is replaced.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode(), mode=PRIVATE if private else PUBLIC)
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be written: {error.strerror or error}; choose another folder") from error


def _key(fields: Mapping[str, Any], name: str, path: Path) -> str:
    if name not in fields:
        raise KeyFileError(f"{path}: {name} is missing; make the file with mt4pump keygen")
    try:
        raw_key(fields[name])
    except ValueError as error:
        raise KeyFileError(f"{path}: {name} {error}") from None
    return str(fields[name])
