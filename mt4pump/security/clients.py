"""The folder of clients: one TOML file each, ``NAME.toml``, with a public key and the topics that its holder may read.

::

    public_key = "…40 characters…"
    topics = ["quote.*", "trade.1001"]      # see mt4pump.security.permissions
    query = true                            # may use the query endpoint; left out: true

A faulty file admits nobody, is named in the log with its fault, and does not affect the others.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mt4pump.errors import SettingsError
from mt4pump.security.keys import KeyFileError, raw_key, read_toml
from mt4pump.security.permissions import NOTHING, Permissions, declared

ENDING = ".toml"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
CLIENTS_LIMIT = 10_000
FIELDS = frozenset({"public_key", "topics", "query"})

Fingerprint = tuple[tuple[str, int, int, int], ...]
"""Name, size, time of the last change (ns) and inode of every file: differs when the folder changed."""


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

    def __init__(self, clients: tuple[Client, ...] = (), faults: Mapping[str, str] | None = None) -> None:
        self.by_key = {client.key: client for client in clients}
        self.by_user = {client.user: client for client in clients}
        self.faults = dict(faults or {})

    def __len__(self) -> int:
        return len(self.by_key)

    def allowed(self, user: str) -> Permissions:
        """Return the permissions of ``user``'s connections; nothing for an unknown one."""
        client = self.by_user.get(user)
        return client.permissions if client else NOTHING

    def keeps(self, before: Clients) -> bool:
        """Return whether all of ``before`` are still there, with the same key and no fewer permissions."""
        return all(self.allowed(user).includes(client.permissions) for user, client in before.by_user.items()) and (
            before.by_user.keys() <= self.by_user.keys()
        )


def fingerprint(folder: Path) -> Fingerprint:
    """Return the folder's fingerprint. Raises OSError when it cannot be read."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(ENDING) and not entry.name.startswith("."):
                try:
                    state = Path(entry.path).stat()  # entry.stat() is out of date on Windows
                except FileNotFoundError:
                    continue
                found.append((entry.name, state.st_size, state.st_mtime_ns, state.st_ino))
    return tuple(sorted(found))


def read_clients(folder: Path, names: Fingerprint, suffix: str) -> Clients:
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
                f"{folder / name}: has the public_key of {other.name}{ENDING}; one key is one client: make another"
            )
            continue
        clients[client.key] = client
    for name, *_ in names[CLIENTS_LIMIT:]:
        faults[name] = f"{folder / name}: is one of more than {CLIENTS_LIMIT} files; remove those not in use"
    return Clients(tuple(clients.values()), faults)


def read_client(path: Path, suffix: str) -> Client:
    """Return the client of one file. Raises KeyFileError or PermissionsError, which name the file and the fault."""
    name = path.name.removesuffix(ENDING)
    if not NAME.fullmatch(name):
        raise KeyFileError(f"{path}: {name!r} is no client's name: letters, digits and _.@- (at most 64)")
    fields = read_toml(path)
    if unknown := sorted(fields.keys() - FIELDS):
        raise KeyFileError(f"{path}: there is no field {unknown[0]!r}; the fields are {', '.join(sorted(FIELDS))}")
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
