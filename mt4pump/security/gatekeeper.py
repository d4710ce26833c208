"""The gate: judges every CURVE handshake (ZAP, RFC 27), and knows what each client may hear.

A thread of its own with a plain poll loop: `zmq.auth`'s threads run on asyncio and fail on Windows' default loop.
libzmq asks it over ``inproc://zeromq.zap.01`` for every connection to a socket that `Gatekeeper.secure` made safe.
While it does not answer nobody gets in: the sockets are told to enforce their ZAP domain.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Protocol, Self

import zmq
from zmq.utils import z85

from mt4pump.complaints import Complaints
from mt4pump.errors import StartError
from mt4pump.private_files import is_exposed, is_open_to_all
from mt4pump.security.admission import marked
from mt4pump.security.clients import ENDING, Client, Clients, Fingerprint, fingerprint, read_clients
from mt4pump.security.keys import read_server_pair
from mt4pump.security.permissions import NOTHING, Permissions

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
PUBLISHED, QUERIED = "mt4pump.pub", "mt4pump.query"
"""The ZAP domains of the two sockets."""
POLL_MS = 50
"""How late, at most, the thread notices that it is to stop."""
LOOK_EVERY_S = 0.5
"""How often, at most, the folder of clients is looked at."""
EXPELLED_S = 60.0
"""How long a client that broke the rules is kept out."""
HANDSHAKE_LIMIT_S = 5.0
"""A connection that has not shown its key by then is closed; so is one refused for a passing reason, to try again."""
FAULTS_TOLD = 20
"""Faulty files named in the log at one reading; more are counted."""
TOLD = {
    "refused_key": "unknown key",
    "refused_query": "may not use the query endpoint",
    "refused_expelled": "was put out for a while, as it broke the rules",
    "refused_fault": "cannot be let in while its file is faulty",
    "refused_crowd": "cannot be let in amid so many other connections",
    "refused_form": "not a request for a CURVE handshake",
}
"""What each reason to refuse somebody says."""
TEMPORARY = frozenset({"refused_expelled", "refused_fault", "refused_crowd"})
"""Reasons that pass: status 300. After a 400 a client's libzmq does not try again until its program connects anew."""

log = logging.getLogger(__name__)


class GateSettings(Protocol):
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


class Gatekeeper(Thread):
    """Answers ZAP requests from ``clients``' files, which it reads again when they change.

    ``counts`` are handshakes: ``accepted``, ``refused`` and why. ``revocations`` grows by one each time that reading
    the folder took something away from somebody. Must be made before, and in the same context as, the sockets it
    secures; raises KeyFileError or StartError.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        secret_key: Path,
        clients: Path,
        *,
        suffix: str = "",
        complaints: Complaints | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="gatekeeper", daemon=True)
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
        self.counts: Counter[str] = Counter()
        self.revocations = 0
        self._folder = clients
        self._suffix = suffix
        self._complaints = complaints or Complaints(log)
        self._now_s = now_s
        self._clients = Clients()
        self._suspended: dict[bytes, str] = {}  # keys that were known until their file became faulty
        self._seen: Fingerprint | None = None
        self._look_at_s = 0.0
        self._revocations_told = 0
        self._expelled_until_s: dict[str, float] = {}
        self._reading = Lock()
        self._told_to_stop = Event()
        self._mark: Callable[[], int | None] = lambda: 0
        self._read_if_changed()
        self._socket = context.socket(zmq.ROUTER)
        try:
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.bind(ZAP_ENDPOINT)
        except zmq.ZMQError as error:
            self._socket.close(0)
            raise StartError(f"the gatekeeper cannot be set up: {error}: one context has one gatekeeper") from error

    @classmethod
    def of(
        cls, context: zmq.Context[zmq.Socket[bytes]], settings: GateSettings, complaints: Complaints | None = None
    ) -> Self:
        """Make and start the gate that the settings describe."""
        if settings.curve_secret_key is None or settings.curve_clients is None:
            raise StartError("curve_secret_key and curve_clients belong together: set both, or none")
        made = cls(
            context,
            settings.curve_secret_key,
            settings.curve_clients,
            suffix=settings.topic_suffix,
            complaints=complaints,
        )
        made.start()
        return made

    @property
    def server_key(self) -> str:
        """Return the daemon's public key, in Z85."""
        return self._pair.public

    def secure(self, socket: zmq.Socket[bytes], mark: Callable[[], int | None]) -> None:
        """Make ``socket``, which publishes, a CURVE server that lets in whom this gate lets in; before it is bound.

        ``mark`` gives each connection its mark, or None while it has none to give; called by this thread.
        """
        self._mark = mark
        self._secure(socket, PUBLISHED)

    def _secure(self, socket: zmq.Socket[bytes], domain: str) -> None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._pair.secret.encode())
        socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # else everybody gets in while nobody answers
        socket.setsockopt(zmq.HANDSHAKE_IVL, int(HANDSHAKE_LIMIT_S * 1000))

    def secure_query(self, socket: zmq.Socket[bytes]) -> None:
        """Make ``socket`` a CURVE server for those who may use the query endpoint."""
        self._secure(socket, QUERIED)

    def allowed(self, user: str) -> Permissions:
        """Return what the connection may hear that ZAP called ``user``; nothing for a stranger or an empty name."""
        return NOTHING if self._is_expelled(user) else self._clients.allowed(user)

    def allowed_query(self, user: str) -> Permissions:
        """Return what that connection may ask the query endpoint for."""
        permissions = self.allowed(user)
        return permissions if permissions.query else NOTHING

    def expel(self, user: str, why: str) -> None:
        """Refuse the client called ``user`` for a minute: it did what no honest client does."""
        self._complaints.add("expelled", f"client {user!r} is put out for {EXPELLED_S:g} s: {why}")
        if user in self._clients.by_user:
            self._expelled_until_s[user] = self._now_s() + EXPELLED_S

    def reload(self) -> bool:
        """Read the folder now, if it changed; return whether anything was taken away from anybody.

        When it was, the sockets must be opened anew, so that all connections are judged anew: see `taken_away`.
        """
        before = self.revocations
        self._read_if_changed()
        return self.revocations != before

    def taken_away(self) -> bool:
        """Return whether anything was taken away since this was last asked; for one thread, as the publisher's."""
        revocations = self.revocations
        told, self._revocations_told = self._revocations_told, revocations
        return told != revocations

    def stop(self) -> None:
        """End the thread, within 100 ms, and close its socket; harmless when repeated."""
        self._told_to_stop.set()
        if self.ident is None:
            self._socket.close(0)
        else:
            self.join(4 * POLL_MS / 1000)

    def run(self) -> None:
        """Judge handshakes until told to stop."""
        try:
            while not self._told_to_stop.is_set():
                try:
                    self._turn()
                except zmq.ContextTerminated:
                    break
                except Exception as error:
                    self._complaints.add("gatekeeper_error", f"a handshake was not answered: {error!r}")
                    log.debug("a handshake was not answered", exc_info=True)
                    self._told_to_stop.wait(0.01)  # whatever it is, it shall not make the thread run hot
        finally:
            self._socket.close(0)

    def _turn(self) -> None:
        asked = self._socket.poll(POLL_MS, zmq.POLLIN)
        if self._now_s() >= self._look_at_s:
            self._read_if_changed()
        if asked:
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
            self._socket.send_multipart(self._answer(frames), zmq.NOBLOCK)

    def _answer(self, frames: list[bytes]) -> list[bytes]:
        """Return the reply to one ZAP request: status 200 and the client's name, or 300 or 400."""
        head = [*frames[:2], b"1.0", *frames[3:4]]  # whom to answer, and which request
        reason, user = self._judged(frames)
        if reason:
            self.counts["refused"] += 1
            self.counts[reason] += 1
            return [*head, b"300" if reason in TEMPORARY else b"400", TOLD[reason].encode(), b"", b""]
        self.counts["accepted"] += 1
        return [*head, b"200", b"OK", user.encode(), b""]

    def _judged(self, frames: list[bytes]) -> tuple[str, str]:
        """Return why the handshake is refused, or nothing and what to call the connection."""
        if len(frames) != 9 or frames[2] != b"1.0" or frames[7] != b"CURVE" or len(frames[8]) != 32:
            self._complaints.add("refused_form", "a connection without CURVE asked to be let in")
            return "refused_form", ""
        domain, address, key = frames[4], frames[5].decode(errors="replace"), frames[8]
        client = self._clients.by_key.get(key)
        if client is None and key in self._suspended:
            text = f"client {self._suspended[key]} from {address} {TOLD['refused_fault']}"
            self._complaints.add("refused_fault", text)
            return "refused_fault", ""
        if client is None:
            text = f"unknown key {z85.encode(key).decode()} from {address}; to let it in, put it into {self._folder}"
            self._complaints.add("refused_key", text)
            return "refused_key", ""
        return self._admitted(client, domain, address)

    def _admitted(self, client: Client, domain: bytes, address: str) -> tuple[str, str]:
        """Return why a known client is refused at this time and place, or nothing and what to call the connection."""
        if self._is_expelled(client.user):
            self._complaints.add("refused_expelled", f"client {client.name} from {address} {TOLD['refused_expelled']}")
            return "refused_expelled", ""
        if domain == QUERIED.encode():
            if client.permissions.query:
                return "", client.user
            self._complaints.add("refused_query", f"client {client.name} from {address} {TOLD['refused_query']}")
            return "refused_query", ""
        if (mark := self._mark()) is None:
            self._complaints.add("refused_crowd", f"client {client.name} from {address} {TOLD['refused_crowd']}")
            return "refused_crowd", ""
        return "", marked(client.user, mark)

    def _is_expelled(self, user: str) -> bool:
        until_s = self._expelled_until_s.get(user)
        if until_s is None:
            return False
        if self._now_s() < until_s:
            return True
        self._expelled_until_s.pop(user, None)
        return False

    def _read_if_changed(self) -> None:
        """Take over the folder's files if they changed; when it cannot be looked at, what was known stays."""
        with self._reading:
            self._look_at_s = self._now_s() + LOOK_EVERY_S
            try:
                seen = fingerprint(self._folder)
            except FileNotFoundError:
                seen = ()
                self._complaints.add("clients_folder", f"{self._folder} does not exist: nobody can connect; make it")
            except OSError as error:
                text = f"{self._folder} cannot be read ({error.strerror or error}): what was known stays"
                self._complaints.add("clients_folder", text)
                return
            if seen != self._seen:
                self._take_over(read_clients(self._folder, seen, self._suffix))
                self._seen = seen

    def _take_over(self, clients: Clients) -> None:
        before, self._clients = self._clients, clients
        known = {**self._suspended, **{key: client.name for key, client in before.by_key.items()}}
        self._suspended = {key: name for key, name in known.items() if name + ENDING in clients.faults}
        new_faults = [text for name, text in clients.faults.items() if before.faults.get(name) != text]
        for text in new_faults[:FAULTS_TOLD]:
            log.error("a client cannot be let in: %s", text)
        if len(new_faults) > FAULTS_TOLD:
            log.error("%d more clients' files are faulty", len(new_faults) - FAULTS_TOLD)
        taken = not clients.keeps(before)
        self.revocations += taken
        log.info(
            "%s: %d clients may connect, %d files are faulty%s",
            *(self._folder, len(clients), len(clients.faults)),
            "; something was taken away: connections are judged anew" if taken else "",
        )
