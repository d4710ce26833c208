"""A real gateway, a real daemon, real clients."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from subprocess import Popen
from typing import Any

import jwt
import pytest
from mt4pump_consumers.gateway.tokens import digest_of
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.chaos.processes import free_endpoints
from tests.consumers.gateway.gateway_run import Running, addresses, ask, daemon, gateway, kind, until
from tests.programs import LIMIT_S, Program

SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105 - of these tests alone


def token(*topics: str, life_s: float = 300) -> str:
    return jwt.encode({"exp": time.time() + life_s, "topics": topics, "sub": "test"}, SECRET, "HS256")


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    with daemon(tmp_path_factory.mktemp("daemon")) as run:
        yield addresses(run)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, feed: tuple[str, str]) -> Iterator[Running]:
    flags = ["--anonymous", "--anonymous-topics", "*", "--jwt-secret", SECRET, "--message-bytes", "2048"]
    with gateway(tmp_path_factory.mktemp("gateway"), *feed, *flags) as run:
        run.program.line("the feed is live")
        yield run


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, feed: tuple[str, str]) -> Iterator[Running]:
    flags = ["--jwt-secret", SECRET, "--authenticate-s", "5", "--messages-per-s", "10", "--subscriptions", "5"]
    with gateway(tmp_path_factory.mktemp("gateway"), *feed, *flags) as run:
        run.program.line("the feed is live")
        yield run


def test_the_protocol_of_the_design_word_for_word(served: Running) -> None:
    with served.connect() as link:
        ask(link, action="subscribe", symbols=["EURUSD"])
        assert json.loads(link.recv(LIMIT_S)) == {"type": "subscription", "status": "success", "symbols": ["EURUSD"]}
        quote = json.loads(link.recv(LIMIT_S))
        assert list(quote) == ["type", "data"]
        assert list(quote["data"]) == ["symbol", "bid", "ask", "spread", "time", "digits"]
        ask(link, action="subscribe", symbols=["GBPUSD"])
        assert until(link, kind("subscription"))["symbols"] == ["EURUSD", "GBPUSD"]
        ask(link, action="unsubscribe", symbols=["EURUSD"])
        assert until(link, kind("subscription"))["symbols"] == ["GBPUSD"]
        ask(link, action="unsubscribe", symbols=["GBPUSD"])
        assert until(link, kind("subscription"))["symbols"] == []


def test_a_wildcard_gives_every_symbol_and_the_last_value_at_once(served: Running) -> None:
    with served.connect() as link:
        ask(link, action="subscribe", symbols=["*"])
        symbols: set[str] = set()
        while len(symbols) < 25:
            symbols.add(until(link, kind("quote"))["data"]["symbol"])


def test_trades_come_whole_open_orders_first(served: Running) -> None:
    with served.connect() as link:
        ask(link, action="subscribe", topics=["trade.*"])
        first = until(link, kind("trade"))
        assert first["snapshot"]
        live = until(link, lambda message: message["type"] == "trade" and "snapshot" not in message)
        assert live["topic"] == f"trade.{live['data']['login']}"
        assert {"change", "offset", "order", "profit"} <= set(live["data"])


@pytest.mark.parametrize("text", ["{", "[]", '{"action": 1}', '{"action": "subscribe", "symbols": 5}', b"\x00"])
def test_a_mistake_gets_an_answer_and_the_connection_lives(served: Running, text: str | bytes) -> None:
    with served.connect() as link:
        link.send(text)
        assert until(link, kind("error"))["message"]
        ask(link, action="status", id="after")
        assert until(link, kind("status"))["id"] == "after"


def test_a_batch_is_an_array(served: Running) -> None:
    with served.connect() as link:
        ask(link, action="batch", window_s=0.2)
        until(link, kind("batch"))
        ask(link, action="subscribe", symbols=["*"])
        deadline_s = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline_s:
            received = json.loads(link.recv(LIMIT_S))
            if isinstance(received, list) and len(received) > 3:
                assert all(message["type"] == "quote" for message in received)
                return
        pytest.fail("no array came")


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_clients_with_and_without_compression_read_the_same(served: Running, compression: str | None) -> None:
    with served.connect(compression=compression) as link:
        ask(link, action="subscribe", topics=["trade.*"])  # long enough to be compressed
        assert until(link, kind("trade"))["data"]["order"] > 0
        ask(link, action="batch", window_s=0.1)
        ask(link, action="subscribe", symbols=["*"])
        until(link, kind("quote"))


def test_no_symbol_comes_more_often_than_the_throttle_lets_it(served: Running) -> None:
    with served.connect() as link:
        count, began_s = 0, time.monotonic()  # before the first may be sent
        ask(link, action="subscribe", symbols=["EURUSD"])
        while time.monotonic() - began_s < 2:
            count += json.loads(link.recv(LIMIT_S))["type"] == "quote"
    assert count <= 2 * 10 + 3  # the last value at once, and both edges of the window


def test_resume_gives_what_was_missed_once_and_then_what_is_live(served: Running) -> None:
    with served.connect() as link:
        ask(link, action="status")
        log = until(link, kind("status"))["log"]
        ask(link, action="subscribe", topics=["trade.*"])
        start = until(link, lambda message: message["type"] == "trade" and "snapshot" not in message)["data"]["offset"]
    with served.connect() as other, served.connect() as link:
        ask(other, action="subscribe", topics=["trade.*"])
        target = until(
            other, lambda m: m["type"] == "trade" and "snapshot" not in m and m["data"]["offset"] > start + 20
        )
        ask(link, action="resume", topics=["trade.*"], offset=start, log=log)
        offsets, answers = [], []

        def check(message: dict[str, object]) -> bool:
            if message["type"] == "resume":
                answers.append(message)
            data = message.get("data")
            if message["type"] == "trade" and isinstance(data, dict):
                offsets.append(data["offset"])
            return bool(answers) and bool(offsets) and offsets[-1] > target["data"]["offset"] + 20

        until(link, check)
    assert answers[0]["whole"] is True
    assert offsets == sorted(set(offsets))
    assert offsets[0] > start
    assert target["data"]["offset"] in offsets


def test_resume_from_another_journal_says_so_and_gives_last_values(served: Running) -> None:
    with served.connect() as link:
        ask(link, action="resume", topics=["trade.*"], offset=5, log="another")
        assert until(link, kind("resume"))["whole"] is False
        assert until(link, kind("trade"))["snapshot"]


def test_nobody_gets_anything_without_a_token(guarded: Running) -> None:
    with guarded.connect() as link:
        ask(link, action="subscribe", symbols=["EURUSD"])
        assert until(link, kind("error"))["code"] == "unauthenticated"
        ask(link, action="auth", token="no token")  # noqa: S106
        assert until(link, kind("error"))["code"] == "unauthenticated"
        assert closed(link)[0] == 4401


def test_nobody_gets_what_the_token_does_not_allow(guarded: Running) -> None:
    with guarded.connect() as link:
        ask(link, action="auth", token=token("quote.EURUSD", "trade.*"))
        assert until(link, kind("auth"))["status"] == "success"
        ask(link, action="subscribe", symbols=["GBPUSD"])
        assert until(link, kind("error"))["code"] == "forbidden"
        ask(link, action="subscribe", topics=["margin.*"])
        assert until(link, kind("error"))["code"] == "forbidden"
        ask(link, action="subscribe", symbols=["*"], topics=["*"])
        for _ in range(200):
            message = until(link, lambda message: message["type"] not in {"subscription", "status", "notice"})
            assert message["type"] in {"quote", "trade"}
            assert message["type"] == "trade" or message["data"]["symbol"] == "EURUSD"


def test_a_token_that_expires_ends_the_connection(guarded: Running) -> None:
    headers = {"Authorization": f"Bearer {token('quote.*', life_s=8)}"}
    with guarded.connect(additional_headers=headers) as link:
        ask(link, action="subscribe", symbols=["EURUSD"])
        assert closed(link) == (4403, "token has expired")


def test_a_bad_token_in_the_header_and_a_foreign_page_are_refused_and_logged_with_the_reason(guarded: Running) -> None:
    for headers, status in (({"Authorization": "Bearer x"}, 401), ({"Origin": "http://evil.example"}, 403)):
        with pytest.raises(InvalidStatus) as caught:
            guarded.connect(additional_headers=headers)
        assert caught.value.response.status_code == status
    guarded.program.line(": a token was refused: ")
    guarded.program.line(": a page of origin 'http://evil.example' was refused: it is not one of the setting origins")


def test_too_many_subscriptions_and_messages_are_refused(guarded: Running) -> None:
    with guarded.connect(additional_headers={"Authorization": f"Bearer {token('*')}"}) as link:
        ask(link, action="subscribe", symbols=[f"S{number}" for number in range(6)])
        assert until(link, kind("error"))["code"] == "too_many"
        for _ in range(30):
            ask(link, action="status")
        assert until(link, kind("error"))["code"] == "too_fast"
        with suppress(ConnectionClosed):
            for number in range(5000):
                ask(link, action="status")
                if number % 50 == 0:  # a client that does not read misses the reason, and is cut off after 3 s
                    read_what_came(link)
        assert closed(link)[0] == 4429


def test_a_client_that_does_not_read_is_closed_and_the_others_do_not_notice(
    tmp_path: Path, feed: tuple[str, str]
) -> None:
    flags = [
        "--anonymous",
        "--anonymous-topics",
        "*",
        "--slow-s",
        "1",
        "--write-buffer-bytes",
        "4096",
        "--queue",
        "100",
    ]
    with gateway(tmp_path, *feed, *flags) as run, run.connect() as good:
        run.program.line("the feed is live")
        with deaf(run.port, b'{"action": "subscribe", "topics": ["*"]}'):
            assert "too slow" in run.program.line("closed with 4408")
            ask(good, action="subscribe", symbols=["EURUSD"])
            until(good, kind("quote"))
            deadline_s = time.monotonic() + LIMIT_S
            while clients_of(run) > 1:  # it takes not even the close
                assert time.monotonic() < deadline_s, "the slow client keeps its place"


@pytest.mark.parametrize("leaves", [False, True])
def test_a_client_that_does_not_read_its_answers_does_not_hold_up_the_end(tmp_path: Path, *, leaves: bool) -> None:
    nobody = "tcp://127.0.0.1:9"
    flags = ["--anonymous", "--anonymous-topics", "*", "--write-buffer-bytes", "4096", "--slow-s", "1000"]
    names = ", ".join(f'"trade.{number:0150}"' for number in range(400))
    with gateway(tmp_path, nobody, nobody, *flags) as run:
        asked = b'{"action": "subscribe", "topics": [%s]}' % names.encode()
        with deaf(run.port, *[asked] * 15) as slow:
            deadline_s = time.monotonic() + LIMIT_S
            while clients_of(run) < 1:
                assert time.monotonic() < deadline_s, "the client was not let in"
            slow.settimeout(0.5)
            with suppress(TimeoutError):  # it asks until its questions are not read any more
                while True:
                    slow.sendall(frame(asked))
            if leaves:
                slow.close()
            stop(run.program)


def test_what_an_event_confirms_is_where_to_resume_from(served: Running) -> None:
    with served.connect() as link:
        ask(link, action="subscribe", topics=["trade.*", "quote.EURUSD"])
        trade = until(link, lambda message: message["type"] == "trade" and "snapshot" not in message)
        assert 0 < trade["confirmed"] < trade["data"]["offset"]
        assert "confirmed" not in until(link, kind("quote"))
        ask(link, action="status")
        status = until(link, kind("status"))
        assert trade["confirmed"] <= status["confirmed"] <= status["offset"]
    with served.connect() as link:
        ask(link, action="resume", topics=["trade.*"], offset=trade["confirmed"], log=status["log"])
        offsets = set[int]()

        def check(message: dict[str, Any]) -> bool:
            if message["type"] == "trade":
                offsets.add(message["data"]["offset"])
            return kind("resume")(message)

        assert until(link, check)["whole"]
        assert trade["data"]["offset"] in offsets


def test_the_page_is_served_with_a_strict_policy_and_nothing_else_is(served: Running) -> None:
    for path, status in (("/", 200), ("/app.js", 200), ("/../settings.py", 404), ("/health", 200)):
        link = HTTPConnection("127.0.0.1", served.port, timeout=40)
        link.request("GET", path)
        response = link.getresponse()
        assert response.status == status
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        response.read()
        link.close()


@contextmanager
def killable_feed(folder: Path) -> Iterator[tuple[tuple[str, str], Popen[str], Running, ClientConnection]]:
    """Yield a daemon's addresses and its process, a gateway that its feed is live in, and a client of that."""
    where = free_endpoints()
    with (
        daemon(folder, *where) as first,
        gateway(folder, *where, "--anonymous", "--anonymous-topics", "*") as run,
        run.connect() as link,
    ):
        run.program.line("the feed is live")
        yield where, first.process, run, link


def test_a_daemon_that_goes_and_comes_back_is_reported(tmp_path: Path) -> None:
    with killable_feed(tmp_path) as (where, first, run, link):
        ask(link, action="subscribe", symbols=["EURUSD"])
        until(link, kind("quote"))
        first.kill()
        first.wait(LIMIT_S)
        until(link, lambda message: message["type"] == "status" and message["feed"] == "silent")
        with daemon(tmp_path, *where):
            until(link, lambda message: message["type"] == "status" and message["feed"] == "live")
            until(link, kind("quote"))
        stop(run.program)


def test_a_resume_is_cut_short_and_goes_on_where_it_ended(tmp_path: Path, feed: tuple[str, str]) -> None:
    flags = ["--anonymous", "--anonymous-topics", "*", "--resume-events", "1"]
    with gateway(tmp_path, *feed, *flags) as run, run.connect() as link:
        run.program.line("the feed is live")
        offsets: list[int] = []
        answers: list[dict[str, Any]] = []
        offset = 0
        while not answers or answers[-1]["more"]:
            ask(link, action="resume", topics=["trade.*"], offset=offset)
            while (message := until(link, lambda one: one["type"] in {"trade", "resume"}))["type"] == "trade":
                offsets.append(message["data"]["offset"])
            answers.append(message)
            offset = message["offset"]
        assert len(answers) > 1
        assert all(answer["whole"] for answer in answers)
        assert offsets == sorted(set(offsets))
        assert len(offsets) >= sum(answer["count"] for answer in answers)  # between two parts live ones may come
        assert until(link, kind("trade"))["data"]["offset"] > offsets[-1]
        stop(run.program)


def test_after_a_loss_only_open_orders_are_last_values_and_readers_get_a_notice(tmp_path: Path) -> None:
    with killable_feed(tmp_path) as (where, first, _, link):
        ask(link, action="subscribe", topics=["trade.*", "user.*"])
        old = until(link, kind("user"))["data"]["epoch"]
        first.kill()
        first.wait(LIMIT_S)
        (tmp_path / "other").mkdir()
        with daemon(tmp_path / "other", *where):  # its journal knows nothing of the one before
            until(link, lambda message: message["type"] == "notice" and message["kind"] == "refreshed")
            ask(link, action="subscribe", id="again", topics=["trade.*", "user.*"])
            until(link, lambda message: message.get("id") == "again")
            seen = set[str]()

            def check(message: dict[str, Any]) -> bool:
                if message.get("snapshot"):
                    assert message["data"]["epoch"] > old
                    seen.add(message["type"])
                return seen == {"trade", "user"}

            until(link, check)


def test_a_token_that_is_withdrawn_ends_the_connection_and_others_stay(tmp_path: Path, feed: tuple[str, str]) -> None:
    file = tmp_path / "tokens.toml"
    tables = {name: f'[{name}]\nsha256 = "{digest_of(name)}"\ntopics = ["quote.*"]\n' for name in ("one", "two")}
    file.write_text("".join(tables.values()))
    with gateway(tmp_path, *feed, "--tokens", str(file), "--batch-window-s", "0.05") as run:
        run.program.line("the feed is live")
        one, two = (run.connect(additional_headers={"Authorization": f"Bearer {name}"}) for name in tables)
        with one, two:
            for link in (one, two):
                ask(link, action="subscribe", symbols=["EURUSD"])
                until(link, kind("quote"))
            file.write_text("nonsense")
            run.program.line("the tokens before stay")
            file.write_text(tables["two"])
            assert closed(one) == (4403, "token was withdrawn or changed")
            assert any(isinstance(json.loads(two.recv(LIMIT_S)), list) for _ in range(100))  # batches, as it is set
        with pytest.raises(InvalidStatus):
            run.connect(additional_headers={"Authorization": "Bearer one"})


def frame(message: bytes) -> bytes:
    """Return a text frame as a client sends it."""
    length = bytes([0x80 | len(message)]) if len(message) < 126 else b"\xff" + len(message).to_bytes(8, "big")
    return b"\x81" + length + bytes(4) + message


@contextmanager
def deaf(port: int, *messages: bytes) -> Iterator[socket.socket]:
    """Connect a client that sends ``messages`` once it is accepted, and never reads them."""
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", port))
        key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        head = f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}"
        slow.settimeout(30)
        slow.sendall(head.encode())
        answer = b""
        while b"\r\n\r\n" not in answer and (part := slow.recv(1)):
            answer += part
        slow.settimeout(1)
        with suppress(TimeoutError):
            for message in messages:
                slow.sendall(frame(message))
        yield slow


def clients_of(run: Running) -> int:
    """Return how many clients the gateway says it has."""
    link = HTTPConnection("127.0.0.1", run.port, timeout=40)
    try:
        link.request("GET", "/health")
        return int(json.loads(link.getresponse().read())["clients"])
    finally:
        link.close()


def read_what_came(link: ClientConnection) -> None:
    with suppress(TimeoutError):
        while True:
            link.recv(0)


def closed(link: ClientConnection) -> tuple[int, str]:
    """Return the code and the reason that the gateway closes with; what comes before is read."""
    with suppress(ConnectionClosed):
        while True:
            link.recv(LIMIT_S)
    return link.close_code or 0, link.close_reason or ""


def stop(run: Program) -> None:
    """End a gateway as a service manager does; it must say that it stops."""
    run.process.terminate()
    assert run.end() == 0
    assert "stopped" in run.text
