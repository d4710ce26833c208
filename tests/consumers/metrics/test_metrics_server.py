"""`mt4pump_consumers.http_server`: HTTP, also with clients that misbehave.

Private access: places and open requests, because a request that was ended long ago and still holds its place cannot
be had from a real client.
"""

from __future__ import annotations

import errno
import gzip
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import BoundedSemaphore, Event, Lock, Semaphore, Timer

import pytest
from mt4pump_consumers import http_server as module
from mt4pump_consumers.http_server import REQUESTS_LIMIT, MetricsServer, tls_context
from prometheus_client import CollectorRegistry, Gauge

from tests.consumers.metrics.metrics_run import until

LIMIT_S = 40.0


@contextmanager
def serving(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[MetricsServer]:
    registry = CollectorRegistry()
    Gauge("answer", "The answer.", registry=registry).set(42)
    server = MetricsServer(registry, host, 0, tls)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def ask(server: MetricsServer, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=LIMIT_S)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
        reply = connection.getresponse()
        return reply.status, {name.lower(): text for name, text in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def test_metrics_are_at_their_path_and_a_hint_at_the_root() -> None:
    with serving() as server:
        status, headers, body = ask(server, "/metrics")
        assert (status, body) == (200, b"# HELP answer The answer.\n# TYPE answer gauge\nanswer 42.0\n")
        assert headers["content-type"].startswith("text/plain; version=0.0.4")
        assert b"/metrics" in ask(server, "/")[2]
        assert ask(server, "/elsewhere")[0] == 404
        assert ask(server, "/metrics", "POST")[0] == 405


def test_prometheus_gets_open_metrics_and_compression_if_it_asks() -> None:
    with serving() as server:
        _, headers, body = ask(server, "/metrics", Accept="application/openmetrics-text;version=1.0.0")
        assert headers["content-type"].startswith("application/openmetrics-text")
        assert body.endswith(b"# EOF\n")
        assert b"answer 42.0" in gzip.decompress(ask(server, "/metrics", Accept_Encoding="gzip")[2])


def connect(server: MetricsServer, links: ExitStack, data: bytes = b"") -> socket.socket:
    connection = links.enter_context(socket.create_connection(("127.0.0.1", server.port), LIMIT_S))
    connection.sendall(data)
    return connection


@pytest.mark.parametrize("is_woken", [True, False])
def test_clients_that_say_nothing_give_way_to_those_that_ask(
    *, is_woken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_woken:  # as on Windows: shutdown() does not wake a thread that waits for bytes
        monkeypatch.setattr(socket.socket, "shutdown", lambda *_: None)
    with serving() as server, ExitStack() as links:
        for _ in range(REQUESTS_LIMIT + 5):
            connect(server, links)
        until(lambda: server.ended >= 5, "the oldest give way")
        for _ in range(20):
            assert ask(server, "/metrics")[0] == 200
        assert server.rejected == 0


def test_a_request_that_comes_byte_by_byte_has_a_limit_in_all() -> None:
    with serving() as server, ExitStack() as links:
        slow = [connect(server, links, b"GET /metrics HTTP/1.1\r\nX: ") for _ in range(REQUESTS_LIMIT)]

        def ended() -> bool:
            for connection in slow:
                with suppress(OSError):
                    connection.sendall(b"a")
            return server.ended >= REQUESTS_LIMIT

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module.HttpHandler, "timeout", 1.0)
            until(ended, "all are ended, though none was silent for long")
        assert ask(server, "/metrics")[0] == 200


def test_a_request_waits_for_the_thread_of_one_that_was_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    began, may_end = Semaphore(0), Event()

    def health() -> str:
        began.release()
        may_end.wait(LIMIT_S)
        return ""

    server = MetricsServer(CollectorRegistry(), "127.0.0.1", 0, health=health)
    server.start()
    with ExitStack() as links:
        links.callback(server.stop)
        links.callback(may_end.set)
        for _ in range(REQUESTS_LIMIT):
            connect(server, links, b"GET /healthz HTTP/1.0\r\n\r\n")
        for _ in range(REQUESTS_LIMIT):
            assert began.acquire(timeout=LIMIT_S)
        with monkeypatch.context() as patch:
            patch.setattr(module.HttpHandler, "timeout", 0.0)
            until(lambda: server.ended == REQUESTS_LIMIT, "all took too long")
        Timer(0.2, may_end.set).start()
        assert ask(server, "/")[0] == 200
        assert server.rejected == 0


def test_requests_that_were_ended_long_ago_and_hold_their_place_make_nobody_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "END_WAIT_S", LIMIT_S)
    server = module.Server.__new__(module.Server)
    server._free, server._lock = BoundedSemaphore(1), Lock()  # noqa: SLF001
    assert server._free.acquire(blocking=False)  # noqa: SLF001
    now_s = time.monotonic()
    server._open = {socket.socket(): module.OpenRequest(now_s - 99, ended_s=now_s - LIMIT_S)}  # noqa: SLF001
    assert not server._end_slowest()  # noqa: SLF001
    (request,) = server._open  # noqa: SLF001
    server._open[request].ended_s = now_s  # noqa: SLF001
    assert server._end_slowest()  # noqa: SLF001
    request.close()


def test_clients_that_do_not_take_their_answer_give_way_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOW_ANSWER_S", 0.0)
    many = CollectorRegistry()
    gauge = Gauge("many", "Many.", ["number"], registry=many)
    for number in range(100_000):
        gauge.labels(str(number)).set(1)
    server = MetricsServer(many, "127.0.0.1", 0)
    server.start()
    with ExitStack() as links:
        links.callback(server.stop)
        for _ in range(REQUESTS_LIMIT):
            connection = links.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(LIMIT_S)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        until(lambda: answers(server, "/"), "one that asks for the page is answered")
        assert server.ended >= 1


@pytest.mark.parametrize(
    "headers",
    [
        [b"Host: a", b"Host: b"],
        [b"Host: a", b"Authorization: a", b"authorization: b"],
        [b"Host: a", b"Content-Length: 1", b"Content-Length: 2"],
        [b"Host: a", b"Origin: a", b"Origin: b"],
        [b"Host: a", b"A: x", b" folded"],
        [b"Host: a", b"Space : x"],
        [b"Host: a", b"no colon"],
        [],
    ],
    ids=lambda headers: b" ".join(headers).decode() or "no host",
)
def test_a_request_with_headers_that_cannot_be_right_is_refused(
    headers: list[bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    with serving() as server, ExitStack() as links:
        connection = connect(server, links, b"\r\n".join([b"GET /metrics HTTP/1.1", *headers]) + b"\r\n\r\n")
        assert connection.recv(4096).split()[1] == b"400"
        assert ask(server, "/metrics")[0] == 200
    assert "Traceback" not in "".join(capfd.readouterr())


def test_endless_headers_are_not_kept() -> None:
    with serving() as server, ExitStack() as links:
        connection = connect(server, links, b"GET /metrics HTTP/1.0\r\n")
        with suppress(OSError):
            connection.sendall(b"".join(b"A%d: %s\r\n" % (number, b"x" * 60_000) for number in range(50)))
        with suppress(OSError):
            assert connection.recv(4096).split()[1] == b"431"


def answers(server: MetricsServer, path: str = "/metrics") -> bool:
    try:
        return ask(server, path)[0] == 200
    except (OSError, HTTPException):
        return False


@pytest.mark.parametrize("junk", [b"\x16\x03\x01junk\r\n\r\n", b"GET /metrics\r\n\r\n", b"\r\n\r\n", b"A" * 70_000])
def test_junk_harms_nobody(junk: bytes) -> None:
    with serving() as server:
        with socket.create_connection(("127.0.0.1", server.port), LIMIT_S) as connection:
            connection.sendall(junk)
            connection.shutdown(socket.SHUT_WR)
            try:
                while connection.recv(65_536):
                    pass
            except ConnectionError:
                pass
        until(lambda: answers(server), "the next one is answered")


def test_an_address_that_is_taken_is_an_error_at_once() -> None:
    with serving() as server, pytest.raises(OSError) as caught:  # noqa: PT011 - the words are the system's
        MetricsServer(CollectorRegistry(), "127.0.0.1", server.port)
    assert caught.value.errno == errno.EADDRINUSE


def test_the_port_is_given_back() -> None:
    with serving() as server:
        port = server.port
        assert server.is_alive()
    assert not server.is_alive()
    again = MetricsServer(CollectorRegistry(), "127.0.0.1", port)
    again.stop()


def test_ipv6_is_served_and_named_so_that_it_can_be_pasted() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with serving(host="::1") as server:
        assert server.address == f"http://[::1]:{server.port}/metrics"


def certificate(folder: Path) -> tuple[Path, Path]:
    chain, key = folder / "chain.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(chain), "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("openssl is not installed: it makes the certificate")
    return chain, key


def test_with_a_certificate_it_speaks_tls_and_a_silent_client_stops_nobody(tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    trust = ssl.create_default_context(cafile=str(chain))
    with serving(tls_context(chain, key)) as server, socket.create_connection(("127.0.0.1", server.port), LIMIT_S):
        assert server.address.startswith("https://")
        with (
            socket.create_connection(("127.0.0.1", server.port), LIMIT_S) as connection,
            trust.wrap_socket(connection, server_hostname="localhost") as safe,
        ):
            safe.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            reply = b""
            while part := safe.recv(65_536):
                reply += part
        assert b"answer 42.0" in reply


def test_a_certificate_that_is_none_is_an_error_at_once(tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk", encoding="utf-8")
    with pytest.raises(OSError, match="PEM"):
        tls_context(junk, junk)
