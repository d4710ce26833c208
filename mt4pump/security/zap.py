"""The thread that answers libzmq's question whether a connection may enter (ZAP, RFC 27).

A thread of its own with a plain poll loop: `zmq.auth`'s threads run on asyncio and fail on Windows' default loop.
libzmq asks it over ``inproc://zeromq.zap.01`` for every connection to a socket that has a ZAP domain. While it does not
answer nobody gets in: the sockets are told to enforce their domain. A socket with a domain also refuses what speaks an
older protocol than ZMTP 3, which libzmq would else serve, unasked, whatever the first bytes are.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from threading import Event, Thread

import zmq

from mt4pump.errors import StartError
from mt4pump.log import FaultCounters

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
PUBLISHED, QUERIED = "mt4pump.pub", "mt4pump.query"
"""The ZAP domains of the two sockets."""
POLL_MS = 10
"""How late, at most, the thread notices that it is to stop, and does what `ZapServer.attend` asked for."""
HANDSHAKE_LIMIT_S = 5.0
"""A connection that has not ended its handshake by then is closed; so is one refused for a passing reason."""

log = logging.getLogger(__name__)


class ZapServer(ABC, Thread):
    """Answers ZAP requests with what `_judged` says. ``counts`` are handshakes: ``accepted``, ``refused`` and why.

    Must be made before, and in the same context as, the sockets it secures; raises StartError.
    """

    refusals: dict[str, str] = {}  # noqa: RUF012 - never changed: what each reason to refuse somebody says
    temporary = frozenset[str]()
    """Reasons that pass: status 300. After a 400 a client's libzmq tries no more until its program connects anew."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        fault_counters: FaultCounters | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="gatekeeper", daemon=True)
        self.counts: Counter[str] = Counter()
        self._fault_counters = fault_counters or FaultCounters(log)
        self._now_s = now_s
        self._told_to_stop = Event()
        self._mark: Callable[[], int | None] = lambda: 0
        self._guards: tuple[Callable[[], object], ...] = ()
        self._socket = context.socket(zmq.ROUTER)
        try:
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.bind(ZAP_ENDPOINT)
        except zmq.ZMQError as error:
            self._socket.close(0)
            raise StartError(f"the gatekeeper cannot be set up: {error}: one context has one gatekeeper") from error

    def attend(self, *guards: Callable[[], object]) -> None:
        """Have the thread call ``guards`` often, whatever the other threads do."""
        self._guards += guards

    def secure(self, socket: zmq.Socket[bytes], mark: Callable[[], int | None]) -> None:
        """Make ``socket``, which publishes, ask this thread whom to let in; before it is bound.

        ``mark`` gives each connection its mark, or None while it has none to give; called by this thread.
        """
        self._mark = mark
        self._secure(socket, PUBLISHED)

    def secure_query(self, socket: zmq.Socket[bytes]) -> None:
        """Make ``socket``, which answers queries, ask this thread whom to let in; before it is bound."""
        self._secure(socket, QUERIED)

    def _secure(self, socket: zmq.Socket[bytes], domain: str) -> None:
        socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # else everybody gets in while nobody answers
        socket.setsockopt(zmq.HANDSHAKE_IVL, int(HANDSHAKE_LIMIT_S * 1000))

    def stop(self) -> None:
        """End the thread, within 100 ms, and close its socket; harmless when repeated."""
        self._told_to_stop.set()
        if self.ident is None:
            self._socket.close(0)
        else:
            self.join(16 * POLL_MS / 1000)

    def run(self) -> None:
        """Judge handshakes until told to stop."""
        try:
            while not self._told_to_stop.is_set():
                try:
                    self._turn()
                except zmq.ContextTerminated:
                    break
                except Exception as error:
                    self._fault_counters.record("gatekeeper_error", f"a handshake was not answered: {error!r}")
                    log.debug("a handshake was not answered", exc_info=True)
                    self._told_to_stop.wait(0.01)  # whatever it is, it shall not make the thread run hot
        finally:
            self._socket.close(0)

    def _turn(self) -> None:
        asked = self._socket.poll(POLL_MS, zmq.POLLIN)
        self._tend()
        if asked:
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
            if not self._is_deferred(frames):
                self._reply(frames)
        for guard in self._guards:
            guard()

    def _reply(self, frames: list[bytes]) -> None:
        self._socket.send_multipart(self._answer(frames), zmq.NOBLOCK)

    def _is_deferred(self, _frames: list[bytes]) -> bool:
        """Return whether this request is answered later."""
        return False

    def _tend(self) -> None:
        """Do what is due besides."""

    def _answer(self, frames: list[bytes]) -> list[bytes]:
        """Return the reply to one ZAP request: status 200 and the client's name, or 300 or 400."""
        head = [*frames[:2], b"1.0", *frames[3:4]]  # whom to answer, and which request
        reason, user = self._judged(frames)
        if reason:
            self.counts["refused"] += 1
            self.counts[reason] += 1
            status = b"300" if reason in self.temporary else b"400"
            return [*head, status, self.refusals[reason].encode(), b"", b""]
        self.counts["accepted"] += 1
        return [*head, b"200", b"OK", user.encode(), b""]

    @abstractmethod
    def _judged(self, frames: list[bytes]) -> tuple[str, str]:
        """Return why the handshake is refused, or nothing and what to call the connection."""
