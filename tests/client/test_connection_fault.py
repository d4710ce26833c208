"""Each reason for which nothing arrives is named: by the trial connection, the commands, and a subscriber's notices.

Private access: the read of a trial connection, because its result shows whether the whole read has one limit; a
fault's text does not have the bytes.
"""

from __future__ import annotations

import http.server
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import NamedTuple

import pytest
import zmq

from mt4pump.cli import main
from mt4pump.client import ClientKeys, Notice, Subscriber, connection
from mt4pump.client import connection_fault as faults
from mt4pump.client.connection_fault import TEXTS, connection_fault
from mt4pump.security import ZapAuthenticator
from tests.bus import LIMIT_S, context, until
from tests.client import reading
from tests.client.fake_daemon import FakeDaemon
from tests.security.keyring import Keyring


@contextmanager
def answering(reply: bytes | None, *, keeps_open: bool = False) -> Iterator[str]:
    """Give the address of a server that answers each connection with ``reply``; None: with silence."""
    ending = Event()
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as at_end:

        def run() -> None:
            try:
                while True:
                    connection = at_end.enter_context(server.accept()[0])
                    if ending.is_set():
                        return
                    if reply is not None:
                        connection.recv(1)
                        connection.sendall(reply)
                        if not keeps_open:
                            connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

        thread = Thread(target=run)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        ending.set()
        with suppress(OSError), socket.create_connection(server.getsockname(), LIMIT_S):
            thread.join()


class Place(NamedTuple):
    """An address, and the keys to use."""

    endpoint: str
    keys: ClientKeys | None


def server(at_end: ExitStack, own: zmq.Context[zmq.Socket[bytes]], kind: int, secret: bytes | None = None) -> str:
    bound = at_end.enter_context(own.socket(kind))
    if secret is not None:
        bound.curve_server, bound.curve_secretkey = True, secret
    return f"tcp://127.0.0.1:{bound.bind_to_random_port('tcp://127.0.0.1')}"


def client_keys(server_public: bytes) -> ClientKeys:
    public, secret = zmq.curve_keypair()
    return ClientKeys(public=public.decode(), secret=secret.decode(), server=server_public.decode())


@contextmanager
def authenticating(folder: Path, kind: int) -> Iterator[Place]:
    """Make a socket of the daemon's own authenticator: too many connections already, and queries are forbidden.

    `zmq.auth.thread.ThreadAuthenticator` would not do: on Windows, without Tornado, its thread fails and `stop` hangs.
    """
    keyring = Keyring(folder)
    keyring.admit("alice", "*", query=False)
    pair = keyring.pairs["alice"]
    with context() as own, own.socket(kind) as bound:
        authenticator = ZapAuthenticator(own, keyring.secret, keyring.clients)
        authenticator.start()
        if kind == zmq.ROUTER:
            authenticator.secure_query(bound)
        else:
            authenticator.secure(bound, lambda: None)
        bound.handshake_ivl = 1_000
        endpoint = f"tcp://127.0.0.1:{bound.bind_to_random_port('tcp://127.0.0.1')}"
        try:
            yield Place(endpoint, ClientKeys(pair.public, pair.secret, keyring.server.public))
        finally:
            authenticator.stop()


FAULTS = (
    *(faults.CLOSED, faults.SILENT, faults.HTTP, faults.NOT_ZEROMQ, faults.OTHER_SOCKET),
    *(faults.NEEDS_KEYS, faults.WRONG_KEYS, faults.NO_KEYS, faults.REFUSED, faults.NO_NAME),
)


@contextmanager
def place(fault: str, kind: int) -> Iterator[Place]:
    """Make a place with this fault for a socket of ``kind``."""
    right, other = (zmq.XPUB, zmq.ROUTER) if kind == zmq.SUB else (zmq.ROUTER, zmq.XPUB)
    public, secret = zmq.curve_keypair()
    with context() as own, ExitStack() as at_end:
        if fault == faults.CLOSED:
            nobody = at_end.enter_context(socket.socket())
            nobody.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can listen there
            yield Place(f"tcp://127.0.0.1:{nobody.getsockname()[1]}", None)
        elif fault == faults.NO_NAME:
            yield Place("tcp://no-such-host.invalid:5556", None)
        elif fault in {faults.SILENT, faults.HTTP, faults.NOT_ZEROMQ}:
            replies = {faults.HTTP: b"HTTP/1.1 400 Bad Request\r\n\r\n", faults.NOT_ZEROMQ: b""}
            yield Place(at_end.enter_context(answering(replies.get(fault))), None)
        elif fault == faults.OTHER_SOCKET:
            yield Place(server(at_end, own, other), None)
        elif fault == faults.NO_KEYS:
            yield Place(server(at_end, own, right), client_keys(public))
        elif fault == faults.NEEDS_KEYS:
            yield Place(server(at_end, own, right, secret), None)
        elif fault == faults.WRONG_KEYS:
            yield Place(server(at_end, own, right, secret), client_keys(zmq.curve_keypair()[0]))
        else:
            folder = Path(at_end.enter_context(TemporaryDirectory()))
            endpoint, known = at_end.enter_context(authenticating(folder, right))
            assert known is not None
            yield Place(endpoint, client_keys(known.server.encode()))


@pytest.mark.parametrize("kind", [zmq.SUB, zmq.DEALER])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_trial_connection_names_the_fault_and_the_address(fault: str, kind: int) -> None:
    with place(fault, kind) as found:
        text = f"{found.endpoint}: {TEXTS[fault]}"
        until(lambda: connection_fault(found.endpoint, found.keys, kind)[1] == text, text)


@pytest.mark.parametrize("kind", [zmq.SUB, zmq.DEALER])
def test_a_trial_connection_to_the_right_socket_has_no_fault(kind: int) -> None:
    with context() as own, ExitStack() as at_end:
        endpoint = server(at_end, own, zmq.XPUB if kind == zmq.SUB else zmq.ROUTER)
        assert connection_fault(endpoint, None, kind, LIMIT_S) == ("", "")


def keys_file(folder: Path, keys: ClientKeys | None) -> list[str]:
    if keys is None:
        return []
    file = folder / "alice.client"
    lines = {"public_key": keys.public, "secret_key": keys.secret, "server_key": keys.server}
    file.write_text("".join(f"{name} = '{key}'\n" for name, key in lines.items()), encoding="utf-8")
    file.chmod(0o600)
    return ["--keys", str(file)]


QUERIES = [("describe", fault) for fault in FAULTS] + [(name, faults.CLOSED) for name in ("snapshot", "replay")]
STREAMS = [
    *(("tail", fault) for fault in FAULTS if fault not in {faults.NO_NAME, faults.NO_KEYS, faults.NOT_ZEROMQ}),
    *(("record", fault) for fault in (faults.CLOSED, faults.NEEDS_KEYS)),
]


@pytest.mark.parametrize(("command", "fault"), QUERIES + STREAMS)
def test_a_command_names_the_fault(
    command: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    is_stream = command in {"tail", "record"}
    with place(fault, zmq.SUB if is_stream else zmq.DEALER) as found:
        flags = ["--for", "8" if fault == faults.SILENT else "5"] if is_stream else ["--timeout", "2"]
        after = ["--after", "0"] if command == "replay" else []
        keys, numbers = keys_file(tmp_path, found.keys), count()

        def is_named() -> bool:  # on a busy machine a trial may end before its reason is known
            file = [str(tmp_path / f"recorded-{next(numbers)}")] if command == "record" else []
            assert main([command, *file, *after, "--endpoint", found.endpoint, *flags, *keys]) == (
                0 if is_stream else 1
            )
            return f"{found.endpoint}: {TEXTS[fault]}" in capsys.readouterr().err

        until(is_named, fault)


@contextmanager
def http_server() -> Iterator[str]:
    """Give the address of an HTTP server, which says nothing before it has read a line."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as running:
        thread = Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield f"tcp://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_query_to_an_http_server_does_not_wait_for_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    with http_server() as endpoint:

        def is_named() -> bool:  # on a busy machine a trial may end before its reason is known
            assert main(["describe", "--endpoint", endpoint]) == 1
            lines = capsys.readouterr().err.splitlines()  # the server's own lines as well
            return f"mt4pump describe: {endpoint}: {TEXTS[faults.HTTP]}" in lines

        until(is_named, "the reason alone")


def test_tail_of_an_http_server_reports_that_and_nothing_before(capsys: pytest.CaptureFixture[str]) -> None:
    with http_server() as endpoint:

        def is_named() -> bool:
            assert main(["tail", "--for", "5", "--endpoint", endpoint]) == 0
            shown = capsys.readouterr().err  # on a busy machine the guess may come before a trial is begun
            return "is the daemon running there?" not in shown and f"{endpoint}: {TEXTS[faults.HTTP]}" in shown

        until(is_named, "the reason")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_subscriber_logs_the_fault(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    """So does every consumer: each of them reads by such a subscriber."""
    with (
        place(fault, zmq.SUB) as found,
        caplog.at_level(logging.WARNING, "mt4pump.client"),
        Subscriber(found.endpoint, query_endpoint=None, keys=found.keys, silence_s=1.0) as subscriber,
    ):
        text = f"{found.endpoint}: {TEXTS[fault]}"
        until(lambda: (subscriber.receive(0.1), text in caplog.text)[1], text)


GREETING_OF = {
    name: b"\xff" + bytes(8) + b"\x7f\x03\x00" + name.ljust(20, b"\0") + bytes(32) for name in (b"CURVE", b"NULL")
}


@pytest.mark.parametrize("mechanism", GREETING_OF)
def test_a_trial_gives_no_reason_for_a_handshake_that_only_takes_longer(mechanism: bytes) -> None:
    keys = client_keys(zmq.curve_keypair()[0]) if mechanism == b"CURVE" else None
    with answering(GREETING_OF[mechanism], keeps_open=True) as endpoint:
        until(lambda: connection_fault(endpoint, keys, zmq.DEALER, 0.3) == (faults.SILENT, ""), "no reason")


def test_right_keys_that_are_refused_for_now_are_not_called_wrong(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        authenticating(tmp_path, zmq.XPUB) as found,
        Subscriber(found.endpoint, query_endpoint=None, keys=found.keys, silence_s=LIMIT_S) as subscriber,
    ):
        text = "it refuses this client for now (banned, too many connections"
        until(lambda: (subscriber.receive(0.1), text in caplog.text)[1], text)


def test_a_known_client_that_may_send_no_queries_reads_of_that_cause(tmp_path: Path) -> None:
    with authenticating(tmp_path, zmq.ROUTER) as found:
        text = "at query_endpoint, that file forbids queries (query = false)"
        until(lambda: text in connection_fault(found.endpoint, found.keys, zmq.DEALER)[1], text)


def test_a_program_that_answers_byte_by_byte_does_not_prolong_a_trial() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        end = Event()

        def run() -> None:
            with server.accept()[0] as connection, suppress(OSError):
                for _ in range(100):
                    if end.wait(0.3):
                        return
                    connection.sendall(b"x")

        thread = Thread(target=run)
        thread.start()
        try:
            answer = faults._answer(f"tcp://127.0.0.1:{server.getsockname()[1]}", faults.GREETING)  # noqa: SLF001
        finally:
            end.set()
            thread.join()
        assert len(answer) < faults.MECHANISM.stop, "the whole of it has a limit, not each byte"


class BlockedTrial:
    """Stands for `_answer` or `connection_fault` of an address that takes for ever."""

    def __init__(self) -> None:
        self.started, self.end, self.ended = Event(), Event(), Event()
        self.calls = 0

    def __call__(self, *_: object) -> bytes:
        self.calls += 1
        self.started.set()
        self.end.wait(LIMIT_S)
        self.ended.set()
        return b"HTTP/1.1 400"


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[BlockedTrial]:
    trial = BlockedTrial()
    monkeypatch.setattr(faults, "_answer", trial)
    yield trial
    trial.end.set()


def test_neither_receive_nor_close_waits_for_a_trial(blocked: BlockedTrial) -> None:
    with (
        place(faults.NOT_ZEROMQ, zmq.SUB) as found,
        Subscriber(found.endpoint, query_endpoint=None, silence_s=0.1) as subscriber,
    ):
        until(lambda: (subscriber.receive(0.01), blocked.started.is_set())[1], "a trial")
        for _ in range(3):
            subscriber.receive(0.01)
        subscriber.close()
        assert (blocked.ended.is_set(), blocked.calls) == (False, 1)


def test_a_query_without_a_reply_is_reported_once_its_trial_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = BlockedTrial()
    monkeypatch.setattr(connection, "connection_fault", lambda *_: ("", trial().decode()))
    with FakeDaemon() as daemon, reading.subscriber(daemon, query_timeout_s=0.1, notices=True) as subscriber:
        reading.live(subscriber)
        daemon.do(lambda: setattr(daemon, "mute", True))
        daemon.lose("trade.1")
        daemon.publish("trade.1")
        reading.until(subscriber, trial.started.is_set)
        subscriber.receive(0.01)
        assert not trial.ended.is_set(), "it does not wait"
        trial.end.set()
        reason = "did not answer within 0.1 s: HTTP/1.1 400"
        reading.next_item(subscriber, lambda item: isinstance(item, Notice) and reason in item.text)


def test_a_trial_that_takes_too_long_leaves_the_fault_as_it_is(
    blocked: BlockedTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "TRIAL_LIMIT_S", 0.0)
    diagnosis = faults.ConnectionDiagnosis(has_keys=False)
    diagnosis.handle(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
    assert [diagnosis.text("tcp://x:1") for _ in range(3)] == [f"tcp://x:1: {TEXTS[faults.NOT_ZEROMQ]}"] * 3
    assert blocked.calls <= 1


@pytest.mark.parametrize("before", [(), (zmq.EVENT_HANDSHAKE_SUCCEEDED,)])
def test_a_host_that_does_not_answer_is_named_once_no_connection_under_way_explains_it(
    before: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    diagnosis = faults.ConnectionDiagnosis(has_keys=False)
    for event in (*before, zmq.EVENT_CONNECT_DELAYED):
        diagnosis.handle(event)
    assert diagnosis.text("tcp://x:1") == f"tcp://x:1: {TEXTS[faults.NO_HOST]}"
    assert not diagnosis.is_sure
    monkeypatch.setattr(faults, "SURE_S", -1.0)
    assert diagnosis.is_sure
    for event in (zmq.EVENT_CLOSED, zmq.EVENT_CONNECT_DELAYED):  # as when nothing listens there: tried, and refused
        diagnosis.handle(event)
    assert diagnosis.text("tcp://x:1") == f"tcp://x:1: {TEXTS[faults.CLOSED]}"


def test_a_reason_is_found_out_anew_after_a_connection_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"now": b"HTTP/1.1 400"}
    monkeypatch.setattr(faults, "_answer", lambda *_: answers["now"])
    diagnosis = faults.ConnectionDiagnosis(has_keys=False)
    diagnosis.handle(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
    until(lambda: diagnosis.text("tcp://x:1") == f"tcp://x:1: {TEXTS[faults.HTTP]}", "HTTP")
    answers["now"] = b""
    assert diagnosis.text("tcp://x:1") == f"tcp://x:1: {TEXTS[faults.HTTP]}"
    diagnosis.handle(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    assert diagnosis.text("tcp://x:1") == ""
    diagnosis.handle(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
    until(lambda: diagnosis.text("tcp://x:1") == f"tcp://x:1: {TEXTS[faults.NOT_ZEROMQ]}", "not ZeroMQ")


def test_a_trial_that_fails_leaves_the_fault_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> bytes:
        raise UnicodeError("label too long")

    monkeypatch.setattr(faults, "_answer", failing)
    diagnosis = faults.ConnectionDiagnosis(has_keys=False)
    diagnosis.handle(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
    until(lambda: diagnosis.text("tcp://x:1") == f"tcp://x:1: {TEXTS[faults.NOT_ZEROMQ]}", "the fault itself")
