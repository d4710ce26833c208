"""Why nothing arrives from an address, as far as ZeroMQ's monitor shows it, and a trial connection that finds out."""

from __future__ import annotations

import logging
import socket
import time
import uuid
from collections.abc import Callable, Hashable, Iterator
from contextlib import closing, contextmanager, suppress
from threading import Thread

import zmq
from zmq.utils.monitor import parse_monitor_message

from mt4pump.client.keys import ClientKeys, ZmqContext, client_socket
from mt4pump.errors import ClientError
from mt4pump.process.endpoints import next_port, port_of

FAILURES = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
MONITORED = (
    zmq.EVENT_CONNECT_DELAYED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_CONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_DISCONNECTED
    | FAILURES
)
TRIAL_S, ANSWER_S = 1.0, 0.5
TRIAL_LIMIT_S = 3.0
"""Longest wait for the result of a trial, its resolving of names included."""
SURE_S = 2.0
"""A fault that lasts so long is no handshake under way."""
GREETING = b"\xff" + bytes(7) + b"\x01\x7f\x03"
"""Start of the greeting of ZMTP 3 (rfc.zeromq.org/spec/23): enough for the other side to send all of its own."""
SIGNATURE_ENDS, MECHANISM = (0xFF, 0x7F), slice(12, 32)
NO_NAME, NO_HOST, CLOSED, SILENT, HTTP, REFUSED, NO_KEYS, NEEDS_KEYS, WRONG_KEYS, OTHER_SOCKET, NOT_ZEROMQ = (
    *("no name", "no host", "closed", "silent", "http", "refused", "no keys", "needs keys", "wrong keys"),
    *("other socket", "not zeromq"),
)
TEXTS = {
    NO_NAME: "the host's name cannot be resolved; correct the address, or check DNS",
    NO_HOST: "the host does not answer; correct the address, or check network and firewall",
    CLOSED: "the connection was refused, nothing listens there; correct the address, or start the daemon (mt4pump run)",
    SILENT: "a program accepts the connection, but does not answer: it hangs, or is not mt4pump; correct the address",
    HTTP: "an HTTP server answers there, as a gateway or an exporter is; give the port of the daemon",
    REFUSED: "the daemon refused the connection: it does not know these keys (put their NAME.toml into curve_clients), "
    "or, at query_endpoint, that file forbids queries (query = false)",
    NO_KEYS: "the program there uses no CURVE keys: leave out keys, or correct the address",
    NEEDS_KEYS: "the daemon requires keys: give the file NAME.client that `mt4pump keygen client` made, as keys",
    WRONG_KEYS: "the daemon closes the connection: it refuses this client for now (banned, too many connections, "
    "or its file in curve_clients is faulty), or server_key in the keys is not this daemon's; its log says which",
    OTHER_SOCKET: "a socket of another kind answers there: the daemon publishes on pub_endpoint (5556 by default) and "
    "answers queries on query_endpoint (5557); are the two swapped? If not, read its log: "
    "it may have too many connections",
    NOT_ZEROMQ: "the program there closes the connection at once: it is not mt4pump; correct the address",
}
LASTING = frozenset({REFUSED, NO_KEYS, NEEDS_KEYS, WRONG_KEYS, OTHER_SOCKET, NOT_ZEROMQ})
"""Faults that a further connection keeps until its handshake succeeds."""
UNCLEAR = frozenset({SILENT, NOT_ZEROMQ, WRONG_KEYS, OTHER_SOCKET})
"""Faults whose events may be those of another one."""
PERHAPS_PUBLISHES = frozenset({OTHER_SOCKET, WRONG_KEYS, NOT_ZEROMQ})
"""How the address that the daemon publishes on answers a query socket: without keys, and with them."""
DECIDED = frozenset(TEXTS) - {NO_HOST, SILENT}
"""Faults that do not need more time to be sure."""

log = logging.getLogger("mt4pump.client")


class TrialThread:
    """Runs one trial at a time in a daemon thread, as resolving a name, connecting and reading may take long."""

    def __init__(self) -> None:
        self._results: dict[Hashable, str] = {}
        self._thread: Thread | None = None
        self._end_s = 0.0

    def result(self, key: Hashable, trial: Callable[[], str]) -> str | None:
        """Return the result of the trial for ``key``, which is started if need be; never waits.

        None while it runs; empty when it failed, or did not end within `TRIAL_LIMIT_S`.
        """
        if key not in self._results and (self._thread is None or not self._thread.is_alive()):
            results = self._results = {}  # its own: what ends late changes no later one
            self._end_s = time.monotonic() + TRIAL_LIMIT_S
            self._thread = Thread(target=_run, args=(results, key, trial), name="mt4pump-client-trial", daemon=True)
            self._thread.start()
        return self._results.get(key, None if time.monotonic() < self._end_s else "")


def _run(results: dict[Hashable, str], key: Hashable, trial: Callable[[], str]) -> None:
    result = ""
    try:
        result = trial()
    except Exception as error:  # noqa: BLE001 - without a reason the fault itself is still reported
        log.warning("the trial connection that finds out why nothing arrives failed: %r", error)
    finally:
        results[key] = result


class ConnectionDiagnosis:
    """Follows the monitor events of one socket; ``fault`` is a key of `TEXTS`, empty while it is connected.

    ``is_trying``: the last call of `text` found a trial that is not over.
    """

    def __init__(self, *, has_keys: bool) -> None:
        self.fault = NO_NAME
        self.is_fresh = True
        self.is_trying = False
        self._has_keys = has_keys
        self._since_s = time.monotonic()
        self._handshakes = 0
        self._trial = TrialThread()

    @property
    def is_sure(self) -> bool:
        """Return whether there is a fault that no handshake under way explains."""
        if not self.fault or self.is_fresh:
            return False
        return self.fault in DECIDED or time.monotonic() - self._since_s > SURE_S

    def handle(self, event: int) -> None:
        """Handle one event."""
        self.is_fresh = False
        before = self.fault
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.fault = ""
            self._handshakes += 1
        elif event & FAILURES:
            self.fault = self._handshake_fault(event)
        elif event == zmq.EVENT_CONNECT_DELAYED and self.fault in {NO_NAME, ""}:
            self.fault = NO_HOST
        elif event == zmq.EVENT_CLOSED:
            self.fault = CLOSED
        elif event == zmq.EVENT_CONNECTED:
            self.fault = self.fault if self.fault in LASTING else SILENT
        elif event == zmq.EVENT_DISCONNECTED and self.fault == SILENT:
            self.fault = OTHER_SOCKET
        if self.fault != before:
            self._since_s = time.monotonic()

    def _handshake_fault(self, event: int) -> str:
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return REFUSED
        if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            return NO_KEYS if self._has_keys else NEEDS_KEYS
        return WRONG_KEYS if self._has_keys else NOT_ZEROMQ

    def refined(self, endpoint: str, fault: str) -> str:
        """Return the fault by what the program's first bytes show: who closes first may be chance. May take long."""
        if fault not in UNCLEAR:
            return fault
        answer = _answer(endpoint, GREETING)
        if (*answer[:1], *answer[9:10]) == SIGNATURE_ENDS:
            has_curve = answer[MECHANISM].rstrip(b"\0") == b"CURVE"
            if has_curve != self._has_keys:
                return NEEDS_KEYS if has_curve else NO_KEYS
            return WRONG_KEYS if has_curve and fault != OTHER_SOCKET else OTHER_SOCKET
        is_http = answer.startswith(b"HTTP/") or _answer(endpoint, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/")
        return HTTP if is_http else NOT_ZEROMQ if fault != SILENT else SILENT

    def text(self, endpoint: str) -> str:
        """Return what is wrong, with the address and what to do.

        Empty while connected, before any event, and while a trial finds out; a trial of each connection is a new one.
        """
        fault, self.is_trying = self.fault, False
        if not fault or self.is_fresh:
            return ""
        if fault in UNCLEAR:
            refined = self._trial.result((self._handshakes, fault), lambda: self.refined(endpoint, fault))
            if refined is None:
                self.is_trying = True
                return ""
            fault = refined or fault
        return f"{endpoint}: {TEXTS[fault]}"


def monitor_of(connection: zmq.Socket[bytes], context: ZmqContext) -> zmq.Socket[bytes]:
    """Return the socket on which the monitor events of ``connection`` are received."""
    address = f"inproc://mt4pump-client-{uuid.uuid4().hex}"
    connection.monitor(address, MONITORED)
    monitor = context.socket(zmq.PAIR)
    monitor.setsockopt(zmq.LINGER, 0)
    monitor.connect(address)
    return monitor


def events_of(monitor: zmq.Socket[bytes]) -> Iterator[tuple[int, int]]:
    """Yield the events that wait in a monitor, each with its value: of EVENT_CONNECTED a descriptor."""
    with suppress(zmq.Again):
        while True:
            message = parse_monitor_message(monitor.recv_multipart(zmq.NOBLOCK))
            yield int(message["event"]), int(message["value"])


def connection_fault(endpoint: str, keys: ClientKeys | None, kind: int, limit_s: float = TRIAL_S) -> tuple[str, str]:
    """Try a connection of a socket of this ``kind``; return the fault and its text, both empty for none.

    The fault is what the program's first bytes show. The text is also empty for a handshake that only takes longer than
    ``limit_s``. Raises ClientError (``arguments``) for an address that ZeroMQ refuses.
    """
    diagnosis = ConnectionDiagnosis(has_keys=keys is not None)
    with _trial(endpoint, keys, kind) as monitor:
        end_s = time.monotonic() + limit_s
        while diagnosis.fault and (left_s := end_s - time.monotonic()) > 0:
            if monitor.poll(int(left_s * 1000) or 1):
                for event, _ in events_of(monitor):
                    diagnosis.handle(event)
            if diagnosis.fault in DECIDED and not diagnosis.is_fresh:
                break
    fault = diagnosis.fault
    if not fault or diagnosis.is_fresh:
        return fault, ""
    refined = diagnosis.refined(endpoint, fault)
    is_slow = fault == SILENT and refined in {WRONG_KEYS, OTHER_SOCKET}
    return (fault, "") if is_slow else (refined, f"{endpoint}: {TEXTS[refined]}")


def query_address(
    endpoint: str, keys: ClientKeys | None, limit_s: float = TRIAL_S, *, or_next_port: bool
) -> tuple[str, str, str]:
    """Try a connection for queries; return the address that answers them, its fault and its text.

    ``or_next_port``: ``endpoint`` may be the address that the daemon publishes on. Fault, text
    and what is raised are those of `connection_fault`.
    """
    fault, text = connection_fault(endpoint, keys, zmq.DEALER, limit_s)
    other = next_port(endpoint) if or_next_port and fault in PERHAPS_PUBLISHES else None
    if other is None or port_of(other) is None:
        return endpoint, fault, text
    if not connection_fault(other, keys, zmq.DEALER, limit_s)[0]:
        return other, "", ""
    if text and fault == OTHER_SOCKET:
        text = f"{text}. Nothing answers queries on the next port either: give --query-endpoint"
    return endpoint, fault, text


@contextmanager
def with_reason(fault: str, text: str) -> Iterator[None]:
    """Raise ClientError (``timeout``) for a fault that is sure; else add its ``text`` to the time-out of a query."""
    if fault in DECIDED and text:
        raise ClientError("timeout", text)
    try:
        yield
    except ClientError as error:
        if error.code != "timeout" or not text:
            raise
        raise ClientError(error.code, f"{error}: {text}") from error


@contextmanager
def _trial(endpoint: str, keys: ClientKeys | None, kind: int) -> Iterator[zmq.Socket[bytes]]:
    context: ZmqContext = zmq.Context()
    try:
        connection = client_socket(context, kind, endpoint, keys)
        monitor = monitor_of(connection, context)
        try:
            connection.connect(endpoint)
        except zmq.ZMQError as error:
            raise ClientError("arguments", f"cannot connect to {endpoint}: {error}") from error
        yield monitor
    finally:
        context.destroy(linger=0)


def _answer(endpoint: str, request: bytes) -> bytes:
    """Return the first bytes with which the program at a ``tcp://`` address answers ``request``, empty for none."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    answer = b""
    if not (endpoint.startswith("tcp://") and port.isdecimal()):
        return answer
    with suppress(OSError), closing(socket.create_connection((host.strip("[]"), int(port)), ANSWER_S)) as asked:
        end_s = time.monotonic() + ANSWER_S
        asked.sendall(request)
        while len(answer) < MECHANISM.stop and (left_s := end_s - time.monotonic()) > 0:
            asked.settimeout(left_s)  # each recv has this limit: together they end in time, byte by byte as well
            if not (part := asked.recv(MECHANISM.stop)):
                break
            answer += part
    return answer
