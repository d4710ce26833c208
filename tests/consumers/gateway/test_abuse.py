"""A real gateway and clients that mean it ill: each is closed with a clear code, and others do not notice."""

from __future__ import annotations

import json
import socket
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import Any

import jwt
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from tests import bus
from tests.consumers.gateway.gateway_run import Running, addresses, ask, daemon, gateway, kind, started, until
from tests.programs import program

SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105 - of these tests alone
NOBODY = "tcp://127.0.0.1:9"
LIMIT_S = 60.0
UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)
HOST = "Host: 127.0.0.1"
numbers = count()


def token(*topics: str, **claims: Any) -> str:
    owner = f"test {next(numbers)}"  # each its own: connections of one token are counted together
    return jwt.encode({"exp": time.time() + 300, "topics": topics, "sub": owner, **claims}, SECRET, "HS256")


def bearer(*topics: str, **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(*topics, **claims)}"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway without a daemon: what it does with requests does not depend on one."""
    flags = ["--jwt-secret", SECRET, "--authenticate-s", "100", "--connections-per-token", "3"]
    with gateway(tmp_path_factory.mktemp("gateway"), NOBODY, NOBODY, *flags) as run:
        yield run


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, deflated: bool = False) -> bytes:
    """Return a frame as a client sends it, with a mask of zeros."""
    head = bytes([opcode | 0x80 * fin | 0x40 * deflated])
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return head + length + bytes(4) + data


def raw(port: int, *lines: str | bytes, more: bytes = b"") -> socket.socket:
    """Return a connection that has sent ``lines`` as its request."""
    link = socket.create_connection(("127.0.0.1", port), LIMIT_S)
    link.settimeout(LIMIT_S)
    data = b"\r\n".join(line.encode("latin-1") if isinstance(line, str) else line for line in lines)
    link.sendall(data + b"\r\n\r\n" + more)
    return link


def opened(port: int, *headers: str) -> socket.socket:
    """Return a WebSocket whose frames are made by hand."""
    link = socket.create_connection(("127.0.0.1", port), LIMIT_S)
    asked_to_open(link, *headers)
    return link


def asked_to_open(link: socket.socket, *headers: str) -> None:
    """Send the request that makes a connection a WebSocket, and read the answer."""
    link.settimeout(LIMIT_S)
    link.sendall("\r\n".join(["GET / HTTP/1.1", HOST, *UPGRADE, *headers, "", ""]).encode("latin-1"))
    head = b""
    while b"\r\n\r\n" not in head:
        head += link.recv(4096)
    assert b" 101 " in head


def status_of(port: int, *lines: str | bytes) -> int:
    """Return the status of the response to a request, 0 for none."""
    with raw(port, *lines) as link:
        head = b""
        with suppress(ConnectionError):
            while b"\r\n" not in head and (part := link.recv(4096)):
                head += part
        return int(head.split()[1]) if head else 0


def close_code(link: socket.socket) -> tuple[int, str]:
    """Return the code and reason of the close frame that comes, whatever comes before it."""
    data = b""
    with suppress(ConnectionError):
        while part := link.recv(65_536):
            data += part
    while data:
        length, size = data[1] & 0x7F, 2
        if length == 126:
            length, size = int.from_bytes(data[2:4], "big"), 4
        body, opcode = data[size : size + length], data[0] & 0x0F
        if opcode == 8:
            return int.from_bytes(body[:2], "big"), body[2:].decode()
        data = data[size + length :]
    return 0, ""


def flood(link: socket.socket, data: bytes) -> None:
    """Send until the other side has had enough, or all is sent."""
    with suppress(ConnectionError, TimeoutError):
        link.sendall(data)


def counts(run: Running) -> dict[str, int]:
    with raw(run.port, "GET /health HTTP/1.1", HOST) as link:
        data = b""
        while part := link.recv(65_536):
            data += part
    found: dict[str, int] = json.loads(data.partition(b"\r\n\r\n")[2])["counts"]
    return found


@pytest.mark.parametrize(
    "headers",
    [
        [HOST, "Host: evil.example"],
        [HOST, HOST],
        [HOST, "Origin: http://evil.example", "Origin: http://127.0.0.1"],
        [HOST, "Authorization: Bearer a", "Authorization: Bearer b"],
        [HOST, "authorization: Bearer a", "AUTHORIZATION: Bearer b"],
        [HOST, "Upgrade: websocket"],
        [HOST, "Sec-WebSocket-Version: 13"],
        [HOST, "If-None-Match: a", "If-None-Match: b"],
        ["Host: a b"],
        ["Host: http://127.0.0.1/"],
        ["Host:"],
        [],
        [HOST, "no colon"],
        [HOST, "Space : x"],
        [HOST, "A: x", " folded"],
        [HOST, b"A: \x00"],
        [HOST, ": x"],
        [HOST, "Content-Length: 5"],
        [HOST, "Transfer-Encoding: chunked"],
        [HOST, "Sec-WebSocket-Extensions: ;;;"],
        [
            HOST,
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99; =",
            "Sec-WebSocket-Protocol: ,",
        ],
        [HOST, *[f"A{number}: x" for number in range(200)]],
        [HOST, "A: " + "x" * 9000],
    ],
    ids=lambda headers: " ".join(map(str, headers))[:60],
)
def test_a_request_with_headers_that_cannot_be_right_gets_an_answer_and_leaves_no_traceback(
    served: Running, headers: list[str | bytes]
) -> None:
    for path in ("/", "/health"):
        upgrade = UPGRADE if path == "/" else ()
        if not headers and path == "/":
            assert status_of(served.port, "GET / HTTP/1.1", *UPGRADE) == 400
        elif path == "/" or "Sec-" not in str(headers[1:]):
            expected = {400, 431} if path == "/" or "Upgrade" not in str(headers) else {400, 404, 426, 503}
            assert status_of(served.port, f"GET {path} HTTP/1.1", *upgrade, *headers) in expected
    assert "Traceback" not in served.program.printed()


@pytest.mark.parametrize(
    "line",
    ["GET /", "GET / HTTP/9", "G\u00e9T / HTTP/1.1", "GET /\u00e9 HTTP/1.1", "", "\x16\x03\x01", "GET  / HTTP/1.1"],
)
def test_a_request_line_that_is_none_is_refused(served: Running, line: str) -> None:
    assert status_of(served.port, line, HOST, *UPGRADE) in {400, 404}
    assert "Traceback" not in served.program.printed()


@pytest.mark.parametrize("headers", [UPGRADE, ()], ids=["handshake", "page"])
@pytest.mark.parametrize(
    "early",
    [
        frame(8, b"\x03\xe8"),
        frame(8) * 2,
        frame(9),
        frame(1, b"{}"),
        frame(3, b"x"),
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ],
    ids=["close", "closes", "ping", "text", "opcode", "request"],
)
def test_data_sent_before_the_request_is_answered_is_refused_and_leaves_no_traceback(
    served: Running, headers: Sequence[str], early: bytes
) -> None:
    with raw(served.port, "GET / HTTP/1.1", HOST, *headers, more=early) as link:
        assert link.recv(4096).startswith(b"HTTP/1.1 400 ")
    assert status_of(served.port, "GET /health HTTP/1.1", HOST) in {200, 503}
    assert "Traceback" not in served.program.printed()


def test_endless_headers_are_not_kept(served: Running) -> None:
    with socket.create_connection(("127.0.0.1", served.port), LIMIT_S) as link:
        flood(link, b"GET / HTTP/1.1\r\n" + b"".join(b"A%d: %s\r\n" % (number, b"x" * 4000) for number in range(100)))
        with suppress(ConnectionError):
            assert b" 431 " in link.recv(4096)


@pytest.mark.parametrize("login", [False, True], ids=["before the login", "after it"])
@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (frame(9, b"x" * 125) * 5_000, "too many pings, pongs or parts"),
        (frame(10) * 20_000, "too many pings, pongs or parts"),
        (frame(1, fin=False) + frame(0, fin=False) * 20_000, "too many pings, pongs or parts"),
        (frame(1, b"{}") * 20_000, "too many messages"),
        (frame(2) * 20_000, "too many messages"),
    ],
    ids=["pings", "pongs", "parts of one message", "messages", "empty messages"],
)
def test_a_flood_is_closed_with_a_code_that_says_so(
    served: Running, frames: bytes, reason: str, *, login: bool
) -> None:
    before = counts(served)["floods_closed"]
    with opened(served.port, *([f"Authorization: {bearer('*')['Authorization']}"] if login else [])) as link:
        flood(link, frames)
        code, words = close_code(link)
        assert (code, reason in words) == (4429, True)
    assert counts(served)["floods_closed"] >= before + ("messages" not in reason)


@pytest.mark.parametrize(
    "end",
    [frame(8, b"\x03\xe8"), frame(1, b"\xff"), b"\x82\xff" + (2**40).to_bytes(8, "big") + bytes(4)],
    ids=["its own close frame", "no UTF-8", "a message that is too long"],
)
def test_who_sends_on_after_the_end_is_not_read_for_long(served: Running, end: bytes) -> None:
    sent = 0
    with opened(served.port) as link:
        link.sendall(end)
        with suppress(ConnectionError):
            while sent < 2**30:
                sent += link.send(bytes(2**20))
    assert sent < 2**30


def test_pings_within_reason_are_answered_before_and_after_the_login(served: Running) -> None:
    for headers in ([], [f"Authorization: {bearer('*')['Authorization']}"]):
        with opened(served.port, *headers) as link:
            for number in range(20):
                link.sendall(frame(9, b"%d" % number))
                assert link.recv(64)[2:] == b"%d" % number


def test_clients_that_leave_amid_their_pings_fill_no_log(served: Running) -> None:
    for _ in range(10):
        with opened(served.port) as link:
            link.sendall(frame(9, b"x") * 90)
    with opened(served.port) as link:
        link.sendall(frame(9, b"last"))
        assert link.recv(64)[2:] == b"last"
    bus.until(lambda: counts(served)["connections"] <= 1, "all are gone")  # the one that asks
    assert "socket.send()" not in served.program.printed()


def test_what_grows_by_decompression_is_bounded(served: Running) -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = (bomb.compress(b" " * 60_000) + bomb.flush(zlib.Z_SYNC_FLUSH))[:-4]
    with opened(served.port, "Sec-WebSocket-Extensions: permessage-deflate") as link:
        flood(link, frame(1, data, deflated=True) * 1_000)
        assert close_code(link)[0] == 4429
    huge = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = (huge.compress(b" " * 50_000_000) + huge.flush(zlib.Z_SYNC_FLUSH))[:-4]
    with opened(served.port, "Sec-WebSocket-Extensions: permessage-deflate") as link:
        flood(link, frame(1, data[:60_000], deflated=True))
        assert close_code(link)[0] == 1009


@pytest.mark.parametrize(
    "text",
    [
        "[" * 30_000,
        '{"action": "subscribe", "symbols": ' + "[" * 10_000 + "]" * 10_000 + "}",
        '{"action": ' * 5_000 + "1" + "}" * 5_000,
        '{"action": "status", "id": 1' + "0" * 5_000 + "}",
        '{"action": "status", "id": 1' + "0" * 4_000 + "}",
        '{"action": "batch", "window_s": 1' + "0" * 4_000 + "}",
        '{"action": "batch", "window_s": NaN}',
        '{"action": "batch", "window_s": 1e999}',
        '{"action": "resume", "topics": ["trade.*"], "offset": 1' + "0" * 4_000 + "}",
        '{"action": "resume", "topics": ["trade.*"], "offset": 1.5}',
        '{"action": "subscribe", "topics": ["\\ud800"]}',
        '{"action": "auth", "token": "\\ud800.\\ud800.\\ud800"}',
        '{"action": "auth", "token": 1' + "0" * 4_000 + "}",
        '{"action": {"a": 1}}',
        '{"id": {"a": 1}, "action": "status"}',
    ],
    ids=lambda text: text[:40],
)
def test_odd_json_gets_an_error_in_plain_words_and_never_internal(served: Running, text: str) -> None:
    with served.connect(additional_headers=bearer("*")) as link:
        link.send(text)
        assert until(link, kind("error"))["code"] != "internal"
    assert "Traceback" not in served.program.printed()


def test_a_token_has_a_limit_of_connections_which_come_free_again(served: Running) -> None:
    with ExitStack() as links:
        first, *_ = [links.enter_context(served.connect(additional_headers=bearer("*", sub="busy"))) for _ in range(3)]
        with pytest.raises(InvalidStatus) as caught:
            served.connect(additional_headers=bearer("*", sub="busy"))
        assert caught.value.response.status_code == 429
        late = links.enter_context(served.connect())
        ask(late, action="auth", token=token("*", sub="busy"))
        assert until(late, kind("error"))["code"] == "too_many"
        first.close()
        until_true(lambda: accepted(served, sub="busy"))


def until_true(holds: Any) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline_s, "it never came to be"


def accepted(run: Running, **claims: Any) -> bool:
    try:
        with run.connect(additional_headers=bearer("*", **claims)):
            return True
    except InvalidStatus:
        return False


def test_the_reason_of_a_refused_token_is_in_the_log_and_the_token_is_not(served: Running) -> None:
    ahead = token("*", iat=time.time() + 3600)
    with pytest.raises(InvalidStatus) as caught:
        served.connect(additional_headers={"Authorization": f"Bearer {ahead}"})
    assert caught.value.response.status_code == 401
    assert "a token was refused: iat is " in served.program.line("iat is ")
    assert ahead not in served.program.printed()
    for _ in range(100):
        with pytest.raises(InvalidStatus):
            served.connect(additional_headers={"Authorization": "Bearer a.b.c"})
    served.program.line("no JSON Web Token")
    assert served.program.printed().count("it is no JSON Web Token") <= 60  # 20 lines in 10 s, whatever comes


def test_behind_a_trusted_proxy_limits_are_those_of_each_client(tmp_path: Path) -> None:
    flags = ["--jwt-secret", SECRET, "--connections-per-address", "2", "--trusted-proxies", "127.0.0.0/8"]
    with gateway(tmp_path, NOBODY, NOBODY, *flags) as run, ExitStack() as links:

        def enter(client: str) -> ClientConnection:
            headers = {**bearer("*"), "X-Forwarded-For": f"8.8.8.8, {client}"}
            return links.enter_context(run.connect(additional_headers=headers))

        for number in range(5):
            enter(f"203.0.113.{number}")
            enter(f"203.0.113.{number}")
        with pytest.raises(InvalidStatus) as caught:
            enter("203.0.113.1")
        assert caught.value.response.status_code == 503
        assert "203.0.113.4 by 127.0.0.1:" in run.program.line("203.0.113.4 by")
        assert "203.0.113.1 by 127.0.0.1:" in run.program.line(": a connection was refused: ")


def test_status_names_no_server_version_or_reason_to_those_without_the_right(tmp_path: Path) -> None:
    with daemon(tmp_path) as source, gateway(tmp_path, *addresses(source), "--jwt-secret", SECRET) as run:
        run.program.line("the feed is live")
        with (
            run.connect(additional_headers=bearer("quote.*", sub="a")) as plain,
            run.connect(additional_headers=bearer("quote.*", "heartbeat", sub="b")) as trusted,
        ):
            for link in (plain, trusted):
                ask(link, action="subscribe", symbols=["EURUSD"])
                until(link, kind("quote"))
                ask(link, action="status")
            public, whole = until(plain, kind("status")), until(trusted, kind("status"))
            assert (public["server"], "version" in public, "reason" in public) == ("", False, False)
            assert whole["server"]
            assert whole["version"]
            assert {"feed", "log", "confirmed", "offset", "epoch"} <= set(public)
            source.process.kill()
            for link, known in ((plain, False), (trusted, True)):
                found: dict[str, Any] = {}

                def check(one: dict[str, Any], found: dict[str, Any] = found) -> bool:
                    if one["type"] == "status" and one["feed"] == "silent":
                        found["server"] = one["server"]
                    if one["type"] == "notice" and one["kind"] == "silent":
                        found["message"] = one["message"]
                    return len(found) == 2

                until(link, check)
                assert (found["message"] == "no heartbeat of the daemon arrives") is not known
                assert bool(found["server"]) is known


def test_silent_connections_give_way_to_those_that_log_in(tmp_path: Path) -> None:
    flags = ["--jwt-secret", SECRET, "--connections-per-address", "10"]
    with gateway(tmp_path, NOBODY, NOBODY, *flags) as run, ExitStack() as links:
        for _ in range(10):
            links.enter_context(socket.create_connection(("127.0.0.1", run.port), LIMIT_S))
            links.enter_context(opened(run.port))
        for _ in range(10):
            links.enter_context(run.connect(additional_headers=bearer("*")))
        assert counts(run)["connections_gave_way"] >= 10


def test_a_gateway_with_a_well_known_token_does_not_start(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"  # of "test", which stood in an example
    file.write_text(f'[support]\nsha256 = "{digest}"\ntopics = ["*"]\n')
    with program(started(tmp_path, "mt4pump_consumers.gateway", "--tokens", str(file), "--port", "0")) as run:
        assert "new_token" in run.line("everybody would try")
        assert run.end() == 3
