"""The thread that authenticates connections for libzmq (ZAP, RFC 27).

It is a thread with a plain poll loop, because `zmq.auth`'s threads run on asyncio and fail on Windows' default loop.
libzmq sends it a request over ``inproc://zeromq.zap.01`` for every connection to a socket that has a ZAP domain. While
it does not answer, no connection is accepted: the sockets enforce their domain. A socket with a domain also refuses
protocols older than ZMTP 3, which libzmq would otherwise serve without a ZAP request, whatever the first bytes are.

Where there are no keys, every ZMTP 3 client is admitted. A client is its address then, which honest programs may share
with one that is not. So an address from which the rules were broken is not banned: for a while it gets a few
connections per second, chosen at random from those that wait. That costs an honest program a moment, and limits the
harm of one that reconnects and goes on.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from random import shuffle
from threading import Event, Thread

import zmq

from mt4pump.errors import StartError
from mt4pump.log import FaultCounters
from mt4pump.security.permissions import EVERYTHING, Permissions, user_id

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
PUBLISHED, QUERIED = "mt4pump.pub", "mt4pump.query"
"""The ZAP domains of the two sockets."""
POLL_MS = 10
"""How late, at most, the thread runs the guards after something came over a connection."""
QUIET_MS = 200
"""The same while nothing comes over any."""
STOP_LIMIT_S = 0.16
FAILURES_LIMIT = 100
"""Failures in a row after which the thread ends with a `ZapServer.crash`: about a minute and a half of them."""
PAUSE_S, PAUSE_LIMIT_S = 0.01, 1.0
"""How long the thread pauses after a failure: doubled with each further one, up to the limit."""
HANDSHAKE_LIMIT_S = 5.0
"""A connection that has not ended its handshake by then is closed; so is one refused for a temporary reason."""
PROBATION_S = 10.0
"""How long an address gets few connections after the rules were broken from it."""
PROBATION_INTERVAL_S = 0.5
"""The time between two of them."""
WAITING_LIMIT = 256
"""Requests that wait; more are refused."""
ADDRESSES_LIMIT = 10_000
QUERY_CONNECTIONS, QUERY_WINDOW_S = 500, 20.0
"""Connections of a client to the query endpoint within a time: libzmq may take so long to end one that we closed."""

log = logging.getLogger(__name__)


def pause_s(failures: int) -> float:
    """Return how long to pause after ``failures`` in a row."""
    return float(min(PAUSE_LIMIT_S, PAUSE_S * 2 ** min(failures, 16)))


class ZapServer(ABC, Thread):
    """Answers ZAP requests. Create it before, and in the same context as, the sockets it secures; raises StartError.

    ``crash`` is the error that ended the thread. ``refusals`` has the text of each reason to refuse; ``temporary``
    reasons get status 300, as after 400 libzmq does not connect again until its program does.
    """

    refusals: dict[str, str] = {}  # noqa: RUF012 - never changed
    temporary = frozenset[str]()

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        fault_counters: FaultCounters | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="zap", daemon=True)
        self.crash: BaseException | None = None
        self._fault_counters = fault_counters or FaultCounters(log)
        self._now_s = now_s
        self._stopping = Event()
        self._generation: Callable[[], int | None] = lambda: 0
        self._guards: tuple[Callable[[], object], ...] = ()
        self._wake_numbers: tuple[Callable[[], int | None], ...] = ()
        self._has_traffic = False
        self._waiting: list[tuple[str, list[bytes]]] = []  # requests that are answered later, by address
        self._context = context
        self._guard_failures = 0
        self._guards_at_s = 0.0
        self._query_connections: Counter[str] = Counter()
        self._query_window_ends_s = 0.0
        self._socket = context.socket(zmq.ROUTER)
        try:
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.bind(ZAP_ENDPOINT)
        except zmq.ZMQError as error:
            self._socket.close(0)
            raise StartError(f"ZAP cannot be set up: {error}: a context may have one authenticator") from error

    def add_guards(
        self, *guards: Callable[[], object], wake_numbers: tuple[Callable[[], int | None], ...] = ()
    ) -> None:
        """Call ``guards`` from this thread about every `POLL_MS`, whatever the other threads do.

        Each of ``wake_numbers`` returns a descriptor that is readable when a guard has work, or None. While all return
        one and none is readable, the guards are called every `QUIET_MS`.
        """
        self._guards += guards
        self._wake_numbers += wake_numbers

    def secure(self, socket: zmq.Socket[bytes], generation: Callable[[], int | None]) -> None:
        """Authenticate connections to ``socket``, which publishes; call it before the socket is bound.

        ``generation`` returns a new number for each connection, or None when it is refused; called by this thread.
        """
        self._generation = generation
        self._secure(socket, PUBLISHED)

    def secure_query(self, socket: zmq.Socket[bytes]) -> None:
        """Authenticate connections to ``socket``, which answers queries; call it before the socket is bound."""
        self._secure(socket, QUERIED)

    def _secure(self, socket: zmq.Socket[bytes], domain: str) -> None:
        socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # else all are accepted while the thread does not answer
        socket.setsockopt(zmq.HANDSHAKE_IVL, int(HANDSHAKE_LIMIT_S * 1000))

    def stop(self) -> None:
        """End the thread, within 100 ms, and close its socket; harmless when repeated."""
        self._stopping.set()
        if self.ident is None:
            self._socket.close(0)
        elif self.is_alive():
            with suppress(zmq.ZMQError), self._context.socket(zmq.DEALER) as waker:  # the thread need not wait longer
                waker.connect(ZAP_ENDPOINT)
                waker.send(b"", zmq.NOBLOCK)
            self.join(STOP_LIMIT_S)

    def run(self) -> None:
        """Answer handshakes until the thread is stopped, its socket is closed, or its context ends."""
        failures = 0
        try:
            while not self._must_end():
                try:
                    self._step()
                    failures = 0
                except zmq.ContextTerminated:
                    return
                except Exception as error:
                    if self._must_end():
                        return
                    failures += 1
                    self._fault_counters.record("gatekeeper_error", f"a handshake was not answered: {error!r}")
                    if failures >= FAILURES_LIMIT:
                        self.crash = error
                        log.exception("the ZAP thread ends after %d failures in a row: restart the daemon", failures)
                        return
                    self._stopping.wait(pause_s(failures))
        finally:
            self._socket.close(0)

    def _must_end(self) -> bool:
        """Return whether the thread was stopped, or lost its socket, as when the context was destroyed."""
        return self._stopping.is_set() or self._socket.closed

    def _step(self) -> None:
        has_request = self._await_request()
        if self._stopping.is_set():
            return
        self._run_periodic()
        if has_request:
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
            if not self._is_deferred(frames):
                self._reply(frames)
        self._call_guards()

    def _await_request(self) -> bool:
        """Wait for a request, or until the guards are to be called; return whether there is a request.

        After something came over a connection the next wait is `POLL_MS`, so a flood costs no more than that.
        """
        numbers = [number() for number in self._wake_numbers]
        if self._has_traffic or self._waiting or not numbers or None in numbers:
            self._has_traffic = False
            return bool(self._socket.poll(POLL_MS, zmq.POLLIN))
        poller = zmq.Poller()
        for each in (self._socket, *numbers):
            poller.register(each, zmq.POLLIN)
        ready = {each for each, _ in poller.poll(QUIET_MS)}
        has_request = self._socket in ready
        self._has_traffic = len(ready) > has_request
        return has_request

    def _call_guards(self) -> None:
        """Call the guards; when one fails, handshakes go on and the guards are called again after a pause."""
        if self._now_s() < self._guards_at_s:
            return
        try:
            for guard in self._guards:
                guard()
        except zmq.ContextTerminated:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a guard raises, handshakes must be answered
            if self._must_end():
                return
            self._guard_failures += 1
            self._guards_at_s = self._now_s() + pause_s(self._guard_failures)
            self._fault_counters.record("gatekeeper_error", f"connections were not checked: {error!r}")
        else:
            self._guard_failures = 0

    def _reply(self, frames: list[bytes]) -> None:
        self._socket.send_multipart(self._answer(frames), zmq.NOBLOCK)

    def _is_deferred(self, _frames: list[bytes]) -> bool:
        """Return whether this request is answered later, by `_run_periodic`."""
        return False

    def _run_periodic(self) -> None:
        """Do periodic work, about every `QUIET_MS`; every `POLL_MS` while requests wait."""

    def _answer(self, frames: list[bytes]) -> list[bytes]:
        """Return the reply to one ZAP request: status 200 and the client's name, or 300 or 400."""
        head = [*frames[:2], b"1.0", *frames[3:4]]  # the peer and the request id
        reason, user = self._check_handshake(frames)
        if reason:
            status = b"300" if reason in self.temporary else b"400"
            return [*head, status, self.refusals[reason].encode(), b"", b""]
        return [*head, b"200", b"OK", user.encode(), b""]

    def _is_rapid(self, user: str) -> bool:
        """Count a connection to the query endpoint; return whether the client made too many lately."""
        now_s = self._now_s()
        if now_s >= self._query_window_ends_s or len(self._query_connections) >= ADDRESSES_LIMIT:
            self._query_window_ends_s = now_s + QUERY_WINDOW_S
            self._query_connections.clear()
        self._query_connections[user] += 1
        return self._query_connections[user] > QUERY_CONNECTIONS

    def _refuse(self, reason: str, who: str) -> tuple[str, str]:
        """Count and log a refusal of ``who``, and return it as `_check_handshake` does."""
        self._fault_counters.record(reason, who + self.refusals[reason])
        return reason, ""

    @abstractmethod
    def _check_handshake(self, frames: list[bytes]) -> tuple[str, str]:
        """Return the reason to refuse the handshake, or an empty one and the user id of the connection."""


class PlainAuthenticator(ZapServer):
    """Answers ZAP requests of sockets without keys. A connection's user is its address."""

    narrows = False
    refusals = {  # noqa: RUF012 - never changed
        "refused_probation": "the rules were broken from this address, and too many connections of it wait",
        "refused_crowd": "is refused for a moment: too many other connections",
        "refused_form": "not a request for a handshake without keys",
    }
    temporary = frozenset({"refused_probation", "refused_crowd"})

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        fault_counters: FaultCounters | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(context, fault_counters, now_s)
        self._probation: dict[str, tuple[float, float]] = {}  # until when, and when the next connection may enter

    def reload(self) -> None:
        """Do nothing: there is nothing to read."""

    def has_new_revocations(self) -> bool:
        """Return False: nobody has permissions to lose."""
        return False

    def ban(self, user: str, why: str) -> None:
        """Give the address ``user`` few connections for a while: a client there did what no honest client does."""
        self._fault_counters.record("expelled", f"a connection from {user} is closed: {why}")
        if len(self._probation) >= ADDRESSES_LIMIT:
            self._probation.clear()
        now_s = self._now_s()
        self._probation[user] = (now_s + PROBATION_S, now_s + PROBATION_INTERVAL_S)

    def is_banned(self, _user: str) -> bool:
        """Return False: an address is never banned."""
        return False

    def allowed(self, _user: str) -> Permissions:
        """Return everybody's permissions."""
        return EVERYTHING

    allowed_query = allowed

    def _check_handshake(self, frames: list[bytes]) -> tuple[str, str]:
        if len(frames) < 8 or frames[2] != b"1.0" or frames[7] != b"NULL":
            return self._refuse("refused_form", "a connection with another mechanism: ")
        address = frames[5].decode(errors="replace")
        if frames[4] != PUBLISHED.encode():
            return self._refuse("refused_crowd", f"a client from {address} ") if self._is_rapid(address) else ("", "")
        if len(self._waiting) >= WAITING_LIMIT and address in self._probation:
            return self._refuse("refused_probation", f"a client from {address}: ")
        if (generation := self._generation()) is None:
            return self._refuse("refused_crowd", f"a client from {address} ")
        return "", user_id(address or "local", generation)

    def _is_deferred(self, frames: list[bytes]) -> bool:
        if len(frames) < 8 or frames[4] != PUBLISHED.encode() or len(self._waiting) >= WAITING_LIMIT:
            return False
        address = frames[5].decode(errors="replace")
        if not self._must_wait(address):
            return False
        self._waiting.append((address, frames))
        return True

    def _run_periodic(self) -> None:
        """Answer one waiting request of each address that may connect again."""
        shuffle(self._waiting)
        for each in tuple(self._waiting):
            address, frames = each
            if not self._must_wait(address):
                self._waiting.remove(each)
                self._reply(frames)

    def _must_wait(self, address: str) -> bool:
        """Return whether ``address`` is on probation and had a connection just now; if not, it has one now."""
        until_s, next_s = self._probation.get(address, (0.0, 0.0))
        now_s = self._now_s()
        if now_s >= until_s:
            self._probation.pop(address, None)
            return False
        if now_s < next_s:
            return True
        self._probation[address] = (until_s, now_s + PROBATION_INTERVAL_S)
        return False
