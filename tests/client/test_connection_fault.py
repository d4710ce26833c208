"""Each reason for which nothing arrives is named: by the trial connection, the commands, and a subscriber's notices."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import pytest
import zmq
from zmq.auth.thread import ThreadAuthenticator

from mt4pump.cli import main
from mt4pump.client import ClientKeys, Subscriber
from mt4pump.client import connection_fault as faults
from mt4pump.client.connection_fault import TEXTS, connection_fault
from tests.bus import LIMIT_S, context, until
from tests.chaos.processes import free_ports


@contextmanager
def answering(reply: bytes | None) -> Iterator[str]:
    """Give the address of a server that answers each connection with ``reply``; None: with silence."""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as at_end:

        def run() -> None:
            try:
                while True:
                    connection = at_end.enter_context(server.accept()[0])
                    if reply is not None:
                        connection.recv(1)
                        connection.sendall(reply)
                        connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

        thread = Thread(target=run)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
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
            yield Place(f"tcp://127.0.0.1:{free_ports(1)[0]}", None)
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
            authenticator = ThreadAuthenticator(own)
            authenticator.start()
            at_end.callback(authenticator.stop)
            authenticator.deny("127.0.0.1")
            yield Place(server(at_end, own, right, secret), client_keys(public))


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
        flags = ["--for", "5"] if is_stream else ["--timeout", "2"]
        file = [str(tmp_path / "recorded")] if command == "record" else []
        after = ["--after", "0"] if command == "replay" else []
        words = [command, *file, *after, "--endpoint", found.endpoint, *flags, *keys_file(tmp_path, found.keys)]
        assert main(words) == (0 if is_stream else 1)
        assert f"{found.endpoint}: {TEXTS[fault]}" in capsys.readouterr().err


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
