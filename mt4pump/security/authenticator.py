"""Authenticates CURVE clients by the files in a folder, and knows the permissions of each."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import zmq
from zmq.utils import z85

from mt4pump.errors import StartError
from mt4pump.log import FaultCounters
from mt4pump.private_files import is_exposed, is_open_to_all
from mt4pump.security.keys import TOML_ENDING, Clients, FolderFingerprint, fingerprint, read_clients, read_server_pair
from mt4pump.security.permissions import NOTHING, Permissions, user_id
from mt4pump.security.zap import QUERIED, ZapServer

CHECK_INTERVAL_S = 0.5
"""How often, at most, the folder of clients is checked."""
BAN_S = 60.0
FAULTS_LOGGED = 20
"""Faulty files named in the log at one reading; more are counted."""

log = logging.getLogger(__name__)


class ZapAuthenticator(ZapServer):
    """Answers ZAP requests from ``clients``' files, which it reads again when they change.

    ``revocations`` grows by one each time that a reading of the folder reduced somebody's permissions. Must be made
    before, and in the same context as, the sockets it secures; raises KeyFileError or StartError.
    """

    narrows = True
    refusals = {  # noqa: RUF012 - never changed
        "refused_key": "unknown key",
        "refused_query": "may not use the query endpoint",
        "refused_expelled": "is banned for a while, because it broke the rules",
        "refused_fault": "is refused while its file is faulty",
        "refused_crowd": "is refused for a moment: too many other connections",
        "refused_form": "not a request for a CURVE handshake",
    }
    temporary = frozenset({"refused_expelled", "refused_fault", "refused_crowd"})

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        secret_key: Path,
        clients: Path,
        *,
        suffix: str = "",
        fault_counters: FaultCounters | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        if not zmq.has("curve"):
            raise StartError(
                "this pyzmq has no CURVE: install the pyzmq wheel from PyPI, or do without curve_secret_key"
            )
        self._pair = read_server_pair(secret_key)
        if is_exposed(secret_key):
            log.warning("%s can be read by other users of this machine: chmod 600 %s", secret_key, secret_key)
        for folder in {secret_key.absolute().parent, clients.absolute()}:
            if is_open_to_all(folder):
                text = "every user of this machine may put keys into %s, and so give anybody access: chmod o-w %s"
                log.warning(text, folder, folder)
        super().__init__(context, fault_counters, now_s)
        self.revocations = 0
        self._folder = clients
        self._suffix = suffix
        self._clients = Clients({}, {})
        self._suspended: dict[bytes, str] = {}  # keys that were known until their file became faulty
        self._fingerprint: FolderFingerprint | None = None
        self._check_at_s = 0.0
        self._revocations_seen = 0
        self._banned_until_s: dict[str, float] = {}
        self._reading = Lock()
        self.reload()

    def _secure(self, socket: zmq.Socket[bytes], domain: str) -> None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._pair.secret.encode())
        super()._secure(socket, domain)

    def allowed(self, user: str) -> Permissions:
        """Return the permissions of a connection by the user that ZAP gave it; nothing for an unknown or empty one."""
        return NOTHING if self.is_banned(user) else self._clients.allowed(user)

    def allowed_query(self, user: str) -> Permissions:
        """Return the permissions of that connection at the query endpoint."""
        permissions = self.allowed(user)
        return permissions if permissions.query else NOTHING

    def ban(self, user: str, why: str) -> None:
        """Refuse the client ``user`` for a minute, because it broke the rules."""
        self._fault_counters.record("expelled", f"client {user!r} is banned for {BAN_S:g} s: {why}")
        if user in self._clients.by_user:
            self._banned_until_s[user] = self._now_s() + BAN_S

    def is_banned(self, user: str) -> bool:
        """Return whether the client ``user`` is banned now."""
        until_s = self._banned_until_s.get(user)
        if until_s is None:  # and nothing is removed: another thread may ban the client right now
            return False
        is_banned = self._now_s() < until_s
        if not is_banned:
            self._banned_until_s.pop(user, None)
        return is_banned

    def reload(self) -> None:
        """Read the folder's files now, if they changed; when it cannot be read, the known clients stay."""
        with self._reading:
            self._check_at_s = self._now_s() + CHECK_INTERVAL_S
            try:
                found = fingerprint(self._folder)
            except FileNotFoundError:
                found = ()
                text = f"{self._folder} does not exist: nobody can connect; make it"
                self._fault_counters.record("clients_folder", text)
            except OSError as error:
                text = f"{self._folder} cannot be read ({error.strerror or error}): the known clients stay"
                self._fault_counters.record("clients_folder", text)
                return
            if found != self._fingerprint:
                self._replace(read_clients(self._folder, found, self._suffix))
                self._fingerprint = found

    def has_new_revocations(self) -> bool:
        """Return whether permissions were reduced since the last call: then connections that lost some must be closed.

        For one thread only.
        """
        revocations = self.revocations
        seen, self._revocations_seen = self._revocations_seen, revocations
        return seen != revocations

    def _run_periodic(self) -> None:
        if self._now_s() >= self._check_at_s:
            self.reload()

    def _check_handshake(self, frames: list[bytes]) -> tuple[str, str]:
        if len(frames) != 9 or frames[2] != b"1.0" or frames[7] != b"CURVE" or len(frames[8]) != 32:
            return self._refuse("refused_form", "a connection without CURVE: ")
        domain, address, key = frames[4], frames[5].decode(errors="replace"), frames[8]
        client = self._clients.by_key.get(key)
        if client is None and key in self._suspended:
            return self._refuse("refused_fault", f"client {self._suspended[key]} from {address} ")
        if client is None:
            cure = f"to let it in, put it into {self._folder}"
            self._fault_counters.record("refused_key", f"unknown key {z85.encode(key).decode()} from {address}; {cure}")
            return "refused_key", ""
        who = f"client {client.name} from {address} "
        if self.is_banned(client.user):
            return self._refuse("refused_expelled", who)
        if domain == QUERIED.encode() and not client.permissions.query:
            return self._refuse("refused_query", who)
        if domain == QUERIED.encode():
            user = "" if self._is_rapid(client.user) else client.user
        else:
            user = "" if (generation := self._generation()) is None else user_id(client.user, generation)
        return ("", user) if user else self._refuse("refused_crowd", who)

    def _replace(self, clients: Clients) -> None:
        before, self._clients = self._clients, clients
        known = {**self._suspended, **{key: client.name for key, client in before.by_key.items()}}
        self._suspended = {key: name for key, name in known.items() if name + TOML_ENDING in clients.faults}
        new_faults = [text for name, text in clients.faults.items() if before.faults.get(name) != text]
        for text in new_faults[:FAULTS_LOGGED]:
            log.error("a client cannot connect: %s", text)
        if len(new_faults) > FAULTS_LOGGED:
            log.error("%d more clients' files are faulty", len(new_faults) - FAULTS_LOGGED)
        is_reduced = not clients.keeps(before)
        self.revocations += is_reduced
        log.info(
            "%s: %d clients may connect, %d files are faulty%s",
            *(self._folder, len(clients), len(clients.faults)),
            "; permissions were reduced: connections that lost some are closed" if is_reduced else "",
        )
