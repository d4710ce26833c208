"""The gate where there are keys: judges every CURVE handshake, and knows what each client may hear."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Protocol, Self

import zmq
from zmq.utils import z85

from mt4pump.errors import StartError
from mt4pump.log import FaultCounters
from mt4pump.private_files import is_exposed, is_open_to_all
from mt4pump.security.clients import ENDING, Client, Clients, Fingerprint, fingerprint, read_clients
from mt4pump.security.keys import read_server_pair
from mt4pump.security.permissions import NOTHING, Permissions
from mt4pump.security.subscription_filter import user_id
from mt4pump.security.zap import QUERIED, ZapServer

CHECK_INTERVAL_S = 0.5
"""How often, at most, the folder of clients is looked at."""
BAN_S = 60.0
"""How long a client that broke the rules is kept out."""
FAULTS_LOGGED = 20
"""Faulty files named in the log at one reading; more are counted."""
REFUSALS = {
    "refused_key": "unknown key",
    "refused_query": "may not use the query endpoint",
    "refused_expelled": "was put out for a while, as it broke the rules",
    "refused_fault": "cannot be let in while its file is faulty",
    "refused_crowd": "cannot be let in amid so many other connections",
    "refused_form": "not a request for a CURVE handshake",
}
"""What each reason to refuse somebody says."""
TEMPORARY = frozenset({"refused_expelled", "refused_fault", "refused_crowd"})

log = logging.getLogger(__name__)


class CurveSettings(Protocol):
    """The gate's part of the settings."""

    @property
    def curve_secret_key(self) -> Path | None:
        """Return the file with the daemon's keys."""

    @property
    def curve_clients(self) -> Path | None:
        """Return the folder with the clients' files."""

    @property
    def topic_suffix(self) -> str:
        """Return what ends every topic."""


class ZapAuthenticator(ZapServer):
    """Answers ZAP requests from ``clients``' files, which it reads again when they change.

    ``counts`` are handshakes: ``accepted``, ``refused`` and why. ``revocations`` grows by one each time that reading
    the folder took something away from somebody. Must be made before, and in the same context as, the sockets it
    secures; raises KeyFileError or StartError.
    """

    narrows = True
    refusals = REFUSALS
    temporary = TEMPORARY

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
                text = "every user of this machine may put keys into %s, and so let anybody in: chmod o-w %s"
                log.warning(text, folder, folder)
        super().__init__(context, fault_counters, now_s)
        self.revocations = 0
        self._folder = clients
        self._suffix = suffix
        self._clients = Clients()
        self._suspended: dict[bytes, str] = {}  # keys that were known until their file became faulty
        self._seen: Fingerprint | None = None
        self._check_at_s = 0.0
        self._revocations_seen = 0
        self._banned_until_s: dict[str, float] = {}
        self._reading = Lock()
        self._read_if_changed()

    @classmethod
    def of(
        cls,
        context: zmq.Context[zmq.Socket[bytes]],
        settings: CurveSettings,
        fault_counters: FaultCounters | None = None,
    ) -> Self:
        """Make and start the gate that the settings describe."""
        if settings.curve_secret_key is None or settings.curve_clients is None:
            raise StartError("curve_secret_key and curve_clients belong together: set both, or none")
        made = cls(
            context,
            settings.curve_secret_key,
            settings.curve_clients,
            suffix=settings.topic_suffix,
            fault_counters=fault_counters,
        )
        made.start()
        return made

    @property
    def server_key(self) -> str:
        """Return the daemon's public key, in Z85."""
        return self._pair.public

    def _secure(self, socket: zmq.Socket[bytes], domain: str) -> None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._pair.secret.encode())
        super()._secure(socket, domain)

    def allowed(self, user: str) -> Permissions:
        """Return what the connection may hear that ZAP called ``user``; nothing for a stranger or an empty name."""
        return NOTHING if self.is_banned(user) else self._clients.allowed(user)

    def allowed_query(self, user: str) -> Permissions:
        """Return what that connection may ask the query endpoint for."""
        permissions = self.allowed(user)
        return permissions if permissions.query else NOTHING

    def ban(self, user: str, why: str) -> None:
        """Refuse the client called ``user`` for a minute: it broke the rules."""
        self._fault_counters.record("expelled", f"client {user!r} is put out for {BAN_S:g} s: {why}")
        if user in self._clients.by_user:
            self._banned_until_s[user] = self._now_s() + BAN_S

    def reload(self) -> bool:
        """Read the folder now, if it changed; return whether anything was taken away from anybody.

        When it was, who lost something must be put out, to be judged anew: see `has_new_revocations`.
        """
        before = self.revocations
        self._read_if_changed()
        return self.revocations != before

    def has_new_revocations(self) -> bool:
        """Return whether anything was taken away since this was last asked; for one thread, as the publisher's."""
        revocations = self.revocations
        told, self._revocations_seen = self._revocations_seen, revocations
        return told != revocations

    def _run_periodic(self) -> None:
        if self._now_s() >= self._check_at_s:
            self._read_if_changed()

    def _check_handshake(self, frames: list[bytes]) -> tuple[str, str]:
        """Return why the handshake is refused, or nothing and what to call the connection."""
        if len(frames) != 9 or frames[2] != b"1.0" or frames[7] != b"CURVE" or len(frames[8]) != 32:
            self._fault_counters.record("refused_form", "a connection without CURVE asked to be let in")
            return "refused_form", ""
        domain, address, key = frames[4], frames[5].decode(errors="replace"), frames[8]
        client = self._clients.by_key.get(key)
        if client is None and key in self._suspended:
            text = f"client {self._suspended[key]} from {address} {REFUSALS['refused_fault']}"
            self._fault_counters.record("refused_fault", text)
            return "refused_fault", ""
        if client is None:
            text = f"unknown key {z85.encode(key).decode()} from {address}; to let it in, put it into {self._folder}"
            self._fault_counters.record("refused_key", text)
            return "refused_key", ""
        return self._check_client(client, domain, address)

    def _check_client(self, client: Client, domain: bytes, address: str) -> tuple[str, str]:
        """Return why a known client is refused at this time and place, or nothing and what to call the connection."""
        if self.is_banned(client.user):
            self._fault_counters.record(
                "refused_expelled", f"client {client.name} from {address} {REFUSALS['refused_expelled']}"
            )
            return "refused_expelled", ""
        if domain == QUERIED.encode():
            if client.permissions.query:
                return "", client.user
            self._fault_counters.record(
                "refused_query", f"client {client.name} from {address} {REFUSALS['refused_query']}"
            )
            return "refused_query", ""
        if (generation := self._generation()) is None:
            self._fault_counters.record(
                "refused_crowd", f"client {client.name} from {address} {REFUSALS['refused_crowd']}"
            )
            return "refused_crowd", ""
        return "", user_id(client.user, generation)

    def is_banned(self, user: str) -> bool:
        """Return whether the client ``user`` is put out."""
        until_s = self._banned_until_s.get(user)
        if until_s is None:
            return False
        if self._now_s() < until_s:
            return True
        self._banned_until_s.pop(user, None)
        return False

    def _read_if_changed(self) -> None:
        """Take over the folder's files if they changed; when it cannot be looked at, what was known stays."""
        with self._reading:
            self._check_at_s = self._now_s() + CHECK_INTERVAL_S
            try:
                seen = fingerprint(self._folder)
            except FileNotFoundError:
                seen = ()
                self._fault_counters.record(
                    "clients_folder", f"{self._folder} does not exist: nobody can connect; make it"
                )
            except OSError as error:
                text = f"{self._folder} cannot be read ({error.strerror or error}): what was known stays"
                self._fault_counters.record("clients_folder", text)
                return
            if seen != self._seen:
                self._take_over(read_clients(self._folder, seen, self._suffix))
                self._seen = seen

    def _take_over(self, clients: Clients) -> None:
        before, self._clients = self._clients, clients
        known = {**self._suspended, **{key: client.name for key, client in before.by_key.items()}}
        self._suspended = {key: name for key, name in known.items() if name + ENDING in clients.faults}
        new_faults = [text for name, text in clients.faults.items() if before.faults.get(name) != text]
        for text in new_faults[:FAULTS_LOGGED]:
            log.error("a client cannot be let in: %s", text)
        if len(new_faults) > FAULTS_LOGGED:
            log.error("%d more clients' files are faulty", len(new_faults) - FAULTS_LOGGED)
        taken = not clients.keeps(before)
        self.revocations += taken
        log.info(
            "%s: %d clients may connect, %d files are faulty%s",
            *(self._folder, len(clients), len(clients.faults)),
            "; something was taken away: those who lost it connect anew" if taken else "",
        )
