"""CURVE keys and their files in TOML; ``mt4pump keygen --help`` shows each file and its fields.

A key is 40 characters of Z85. A faulty file in the folder of clients admits nobody, is named in the log with its fault,
and does not affect the others.
"""

from __future__ import annotations

import hashlib
import os
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
from mt4pump.security.permissions import NOTHING, Permissions, declared

Z85_KEY = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
FILE_BYTES_LIMIT = 262_144
TOML_ENDING = ".toml"
CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
CLIENTS_LIMIT = 10_000
CLIENT_FIELDS = frozenset({"public_key", "topics", "query"})
FolderFingerprint = tuple[tuple[str, int, int, int], ...]
"""Name, size, time of the last change (ns) and inode of every file: differs when the folder changed."""


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


class Client(NamedTuple):
    """One client.

    ``user`` is the user id of its connections: the name, and a digest of the key, so that the holder of a key that was
    replaced does not have the permissions of the new one.
    """

    name: str
    user: str
    key: bytes
    permissions: Permissions


class Clients:
    """All clients of the folder at one moment; never changed. ``faults`` has the fault of each faulty file."""

    def __init__(self, by_key: Mapping[bytes, Client], faults: Mapping[str, str]) -> None:
        self.by_key = by_key
        self.by_user = {client.user: client for client in by_key.values()}
        self.faults = faults

    def __len__(self) -> int:
        return len(self.by_key)

    def allowed(self, user: str) -> Permissions:
        """Return the permissions of ``user``'s connections; nothing for an unknown one."""
        client = self.by_user.get(user)
        return client.permissions if client else NOTHING

    def keeps(self, before: Clients) -> bool:
        """Return whether all of ``before`` are still there, with the same key and no fewer permissions."""
        return all(
            user in self.by_user and self.allowed(user).includes(client.permissions)
            for user, client in before.by_user.items()
        )


def fingerprint(folder: Path) -> FolderFingerprint:
    """Return the folder's fingerprint. Raises OSError when it cannot be read."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(TOML_ENDING) and not entry.name.startswith("."):
                try:
                    state = Path(entry.path).stat()  # entry.stat() is out of date on Windows
                except FileNotFoundError:
                    continue
                found.append((entry.name, state.st_size, state.st_mtime_ns, state.st_ino))
    return tuple(sorted(found))


def read_clients(folder: Path, names: FolderFingerprint, suffix: str) -> Clients:
    """Return the clients of the files ``names``; faults of single files are in `Clients.faults`."""
    clients: dict[bytes, Client] = {}
    faults: dict[str, str] = {}
    for name, *_ in names[:CLIENTS_LIMIT]:
        try:
            client = read_client(folder / name, suffix)
        except SettingsError as error:
            faults[name] = str(error)
            continue
        if other := clients.get(client.key):
            faults[name] = (
                f"{folder / name}: has the public_key of {other.name}{TOML_ENDING}; one key is one client: make another"
            )
            continue
        clients[client.key] = client
    for name, *_ in names[CLIENTS_LIMIT:]:
        faults[name] = f"{folder / name}: is one of more than {CLIENTS_LIMIT} files; remove those not in use"
    return Clients(clients, faults)


def read_client(path: Path, suffix: str) -> Client:
    """Return the client of one file. Raises KeyFileError or PermissionsError, which name the file and the fault."""
    name = path.name.removesuffix(TOML_ENDING)
    if not CLIENT_NAME.fullmatch(name):
        raise KeyFileError(f"{path}: {name!r} is no client's name: letters, digits and _.@- (at most 64)")
    fields = read_toml(path)
    if unknown := sorted(fields.keys() - CLIENT_FIELDS):
        raise KeyFileError(
            f"{path}: there is no field {unknown[0]!r}; the fields are {', '.join(sorted(CLIENT_FIELDS))}"
        )
    try:
        key = raw_key(fields.get("public_key"))
    except ValueError as error:
        raise KeyFileError(f"{path}: public_key {error}") from None
    topics, query = _topics(fields, path), fields.get("query", True)
    if not isinstance(query, bool):
        raise KeyFileError(f"{path}: query is neither true nor false")
    user = f"{name}#{hashlib.sha256(key).hexdigest()[:12]}"
    return Client(name, user, key, declared(topics, suffix, str(path), query=query))


def _topics(fields: Mapping[str, Any], path: Path) -> list[str]:
    topics = fields.get("topics")
    if not isinstance(topics, list) or not all(isinstance(each, str) for each in topics):
        raise KeyFileError(f'{path}: topics is no list of texts; write topics = ["quote.*"]')
    return topics
