"""The authenticator: handshakes of real sockets, a folder that changes, and faults that affect one client only.

Private access: the reply to one request, because a handshake of real sockets shows yes or no and neither code nor
text; the faults of the folder, the bans and the socket show nowhere else. Steps of its thread, because they must fail.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from threading import enumerate as enumerate_threads
from types import SimpleNamespace
from typing import Any

import pytest
import zmq

from mt4pump.daemon import Daemon, authenticator_of
from mt4pump.errors import StartError
from mt4pump.log import FaultCounters
from mt4pump.security import EVERYTHING, NOTHING, PlainAuthenticator, ZapAuthenticator
from mt4pump.security import authenticator as authenticator_module
from mt4pump.security.keys import KeyFileError, new_pair, raw_key
from mt4pump.security.permissions import split_user_id
from mt4pump.security.zap import (
    FAILURES_LIMIT,
    PAUSE_LIMIT_S,
    QUERIED,
    QUERY_CONNECTIONS,
    QUERY_WINDOW_S,
    ZapServer,
    pause_s,
)
from mt4pump.session_source import Source
from mt4pump.settings import load
from tests.bus import ANY_PORT, LIMIT_MS, LIMIT_S, context, until
from tests.fake_manager import FakeManager
from tests.security.keyring import Keyring, secured


@pytest.fixture
def keys(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path)


@contextmanager
def authenticating(keys: Keyring, **options: Any) -> Iterator[ZapAuthenticator]:
    """Give an authenticator whose thread is not started: the test asks it itself."""
    with context() as own:
        made = ZapAuthenticator(own, keys.secret, keys.clients, **options)
        yield made
        made.stop()


def zap(key: bytes, *, domain: bytes = b"mt4pump.pub", mechanism: bytes = b"CURVE") -> list[bytes]:
    return [b"peer", b"", b"1.0", b"7", domain, b"10.0.0.9", b"", mechanism, key]


def answered(authenticator: ZapAuthenticator, frames: list[bytes]) -> list[bytes]:
    """Return the reply to a request, as its thread sends it."""
    return authenticator._answer(frames)  # noqa: SLF001


def user_of(authenticator: ZapAuthenticator, keys: Keyring, name: str) -> str:
    return split_user_id(answered(authenticator, zap(raw_key(keys.pairs[name].public)))[6].decode())[0]


def test_a_known_key_is_accepted_under_its_name(keys: Keyring) -> None:
    keys.admit("alice", "quote.*")
    with authenticating(keys) as authenticator:
        answer = answered(authenticator, zap(raw_key(keys.pairs["alice"].public)))
        assert answer[:6] == [b"peer", b"", b"1.0", b"7", b"200", b"OK"]
        assert authenticator.allowed(split_user_id(answer[6].decode())[0]).allowed == (b"heartbeat", b"quote.")


def test_an_unknown_key_is_refused_counted_and_logged_with_its_address(
    keys: Keyring, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = new_pair()
    counters = FaultCounters(authenticator_module.log)
    with context() as own:
        authenticator = ZapAuthenticator(own, keys.secret, keys.clients, fault_counters=counters)
        for _ in range(50):
            assert answered(authenticator, zap(raw_key(unknown.public)))[4:7] == [b"400", b"unknown key", b""]
        assert counters.counts == {"refused_key": 50}
        lines = [record.getMessage() for record in caplog.records if unknown.public in record.getMessage()]
        assert len(lines) == 1
        assert "10.0.0.9" in lines[0]
        authenticator.stop()


@pytest.mark.parametrize(
    "frames",
    [
        [b"peer", b""],
        [b"peer", b"", b"2.0", b"7", b"d", b"a", b"", b"CURVE", b"k" * 32],
        zap(b"short"),
        zap(b"k" * 32, mechanism=b"NULL"),
        [*zap(b"k" * 32), b"more"],
        zap(b"\xff" * 32),
    ],
)
def test_what_is_no_curve_handshake_is_refused(keys: Keyring, frames: list[bytes]) -> None:
    with authenticating(keys) as authenticator:
        answer = answered(authenticator, frames)
        assert b"400" in answer
        assert b"200" not in answer


def test_a_client_without_query_is_refused_at_that_socket_only(keys: Keyring) -> None:
    keys.admit("alice", "*", query=False)
    key = raw_key(keys.pairs["alice"].public)
    with authenticating(keys) as authenticator:
        assert answered(authenticator, zap(key, domain=QUERIED.encode()))[4] == b"400"
        answer = answered(authenticator, zap(key))
        assert answer[4] == b"200"
        user = split_user_id(answer[6].decode())[0]
        assert authenticator.allowed_query(user) is NOTHING
        assert authenticator.allowed(user).allowed == EVERYTHING.allowed


def test_who_makes_query_connections_without_end_is_refused_for_a_while(keys: Keyring) -> None:
    keys.admit("alice", "*")
    keys.admit("bob", "*")
    now = [100.0]
    asked = {user: zap(raw_key(keys.pairs[user].public), domain=QUERIED.encode()) for user in ("alice", "bob")}
    with authenticating(keys, now_s=lambda: now[0]) as authenticator:
        codes = [answered(authenticator, asked["alice"])[4] for _ in range(QUERY_CONNECTIONS + 2)]
        assert codes == [b"200"] * QUERY_CONNECTIONS + [b"300"] * 2
        assert answered(authenticator, asked["bob"])[4] == b"200"
        now[0] += QUERY_WINDOW_S
        assert answered(authenticator, asked["alice"])[4] == b"200"


def test_every_connection_has_a_generation_of_its_own_and_none_is_accepted_without(keys: Keyring) -> None:
    keys.admit("alice", "*")
    generations: list[int | None] = [4, 7, None]
    asked = zap(raw_key(keys.pairs["alice"].public))
    counters = FaultCounters(authenticator_module.log)
    with context() as own:
        authenticator = ZapAuthenticator(own, keys.secret, keys.clients, fault_counters=counters)
        socket = own.socket(zmq.XPUB)
        authenticator.secure(socket, lambda: generations.pop(0))
        first, second = (split_user_id(answered(authenticator, asked)[6].decode()) for _ in range(2))
        assert first[0] == second[0]
        assert (first[1], second[1]) == (4, 7)
        assert answered(authenticator, asked)[4] == b"300"  # not for ever: it may try again
        assert counters.counts == {"refused_crowd": 1}
        assert b"/" not in answered(authenticator, zap(asked[8], domain=QUERIED.encode()))[6]
        authenticator.stop()


def test_a_changed_folder_is_read_without_a_request(keys: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authenticator_module, "CHECK_INTERVAL_S", 0.01)
    with context() as own:
        authenticator = ZapAuthenticator(own, keys.secret, keys.clients)
        authenticator.start()
        keys.admit("alice", "quote.*")
        until(lambda: user_of(authenticator, keys, "alice"), "alice is known")
        assert authenticator.revocations == 0
        keys.revoke("alice")
        until(lambda: authenticator.revocations == 1, "the revocation")
        assert user_of(authenticator, keys, "alice") == ""
        assert authenticator.has_new_revocations()
        assert not authenticator.has_new_revocations()
        authenticator.stop()
        assert not authenticator.is_alive()


def test_after_reloading_it_is_known_whether_permissions_were_reduced(keys: Keyring) -> None:
    keys.admit("alice", "quote.*")
    with authenticating(keys) as authenticator:
        authenticator.reload()
        assert not authenticator.has_new_revocations()
        keys.admit("bob", "*")
        authenticator.reload()
        assert not authenticator.has_new_revocations()
        keys.admit("alice", "quote.EUR*")
        authenticator.reload()
        assert authenticator.has_new_revocations()


def test_the_holder_of_a_replaced_key_has_no_permissions(keys: Keyring) -> None:
    keys.admit("alice", "*")
    with authenticating(keys) as authenticator:
        before = user_of(authenticator, keys, "alice")
        keys.admit("alice", "*", pair=new_pair())
        authenticator.reload()
        assert authenticator.has_new_revocations()
        assert authenticator.allowed(before) is NOTHING
        assert authenticator.allowed(user_of(authenticator, keys, "alice")).covers(b"anything")


def test_a_file_that_becomes_faulty_excludes_its_client_and_is_logged_once(
    keys: Keyring, caplog: pytest.LogCaptureFixture
) -> None:
    keys.admit("alice", "*")
    keys.admit("bob", "*")
    with authenticating(keys) as authenticator:
        (keys.clients / "bob.toml").write_text("topics = [")
        authenticator.reload()
        assert authenticator.has_new_revocations()
        (keys.clients / "carl.toml").write_text("topics = [")
        authenticator.reload()
        assert user_of(authenticator, keys, "alice")
        assert not user_of(authenticator, keys, "bob")
        logged = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert [("bob.toml" in text, "carl.toml" in text) for text in logged] == [(True, False), (False, True)]
        assert all("is not TOML" in text for text in logged)


@pytest.mark.parametrize("odd", ["query = " + "1" * 5_000, "topics = " + "[" * 5_000])
def test_a_file_that_cannot_be_parsed_delays_no_revocation(keys: Keyring, odd: str) -> None:
    keys.admit("alice", "*")
    keys.admit("bob", "*")
    with authenticating(keys) as authenticator:
        (keys.clients / "odd.toml").write_text(odd)
        keys.revoke("alice")
        authenticator.reload()
        assert authenticator.has_new_revocations()
        assert not user_of(authenticator, keys, "alice")
        assert user_of(authenticator, keys, "bob")
        assert list(authenticator._clients.faults) == ["odd.toml"]  # noqa: SLF001


def test_a_missing_folder_admits_nobody(keys: Keyring) -> None:
    keys.admit("alice", "*")
    with authenticating(keys) as authenticator:
        keys.revoke("alice")
        keys.clients.rmdir()
        authenticator.reload()
        assert authenticator.has_new_revocations()
        assert not user_of(authenticator, keys, "alice")


def test_a_folder_that_cannot_be_read_for_a_moment_changes_nothing(
    keys: Keyring, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keys.admit("alice", "*")

    def fails(_folder: Path) -> None:
        raise OSError(5, "Input/output error")

    with authenticating(keys) as authenticator:
        monkeypatch.setattr(authenticator_module, "fingerprint", fails)
        authenticator.reload()
        assert not authenticator.has_new_revocations()
        assert user_of(authenticator, keys, "alice")
        assert "Input/output error" in caplog.text


def test_a_banned_client_is_refused_for_a_while(keys: Keyring) -> None:
    keys.admit("alice", "*")
    now = [100.0]
    counters = FaultCounters(authenticator_module.log)
    with authenticating(keys, fault_counters=counters, now_s=lambda: now[0]) as authenticator:
        user = user_of(authenticator, keys, "alice")
        authenticator.ban(user, "for the test")
        assert authenticator.allowed(user) is NOTHING
        assert not user_of(authenticator, keys, "alice")
        assert counters.counts["refused_expelled"] == 1
        now[0] += 61
        assert user_of(authenticator, keys, "alice") == user
        assert authenticator.allowed(user).covers(b"x")
        authenticator.ban("nobody", "who is that")
        assert authenticator._banned_until_s == {}  # noqa: SLF001


def test_a_ban_that_comes_amid_the_question_whether_there_is_one_stays(
    keys: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.admit("alice", "*")
    with authenticating(keys) as authenticator:
        user = user_of(authenticator, keys, "alice")

        class Bans(dict[str, float]):
            def get(self, *name_and_default: Any) -> Any:
                found = super().get(*name_and_default)
                self[user] = math.inf  # as another thread that bans the client
                return found

        monkeypatch.setattr(authenticator, "_banned_until_s", Bans())  # no thread comes between two statements at will
        assert not authenticator.is_banned(user)
        assert authenticator.is_banned(user)


def test_an_error_of_its_own_costs_one_handshake(
    keys: Keyring, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keys.admit("alice", "*")
    with secured(keys) as made:
        answer, failures = made.authenticator._answer, iter([OSError("once")])  # noqa: SLF001

        def fails_once(frames: list[bytes]) -> list[bytes]:
            for failure in failures:
                raise failure
            return answer(frames)

        monkeypatch.setattr(made.authenticator, "_answer", fails_once)
        socket = made.subscriber(keys.pairs["alice"], b"")
        until(lambda: made.fault_counters.counts["gatekeeper_error"], "the error is counted")
        socket.close()
        made.connects(made.subscriber(keys.pairs["alice"], b""))
        assert "once" in caplog.text


def test_nobody_is_accepted_while_the_thread_is_stopped(keys: Keyring) -> None:
    keys.admit("alice", "*")
    with secured(keys) as made:
        made.authenticator.stop()
        socket = made.subscriber(keys.pairs["alice"], b"")
        made.settle(lambda: made.publisher.connections.failed, "the handshake failed")
        assert made.publisher.connections.accepted == 0
        assert made.receives_nothing(socket, 10)


def test_one_context_has_one_authenticator(keys: Keyring) -> None:
    with context() as own:
        authenticator = ZapAuthenticator(own, keys.secret, keys.clients)
        with pytest.raises(StartError, match="a context may have one authenticator"):
            ZapAuthenticator(own, keys.secret, keys.clients)
        authenticator.stop()


def test_the_settings_decide_which_authenticator_is_made(keys: Keyring) -> None:
    keys.admit("alice", "trade.1")

    def made(secret: Path | None, clients: Path | None) -> ZapAuthenticator | PlainAuthenticator:
        settings: Any = SimpleNamespace(curve_secret_key=secret, curve_clients=clients, topic_suffix="|")
        return authenticator_of(own, settings, FaultCounters(logging.getLogger("test")))

    with context() as own:
        authenticator = made(keys.secret, keys.clients)
        assert isinstance(authenticator, ZapAuthenticator)
        assert authenticator.allowed(user_of(authenticator, keys, "alice")).covers(b"trade.1|")
        authenticator.stop()
        for secret, clients in ((keys.secret, None), (None, keys.clients)):
            with pytest.raises(StartError, match="belong together"):
                made(secret, clients)
    with context() as own:
        authenticator = made(None, None)
        assert isinstance(authenticator, PlainAuthenticator)
        authenticator.stop()


def test_keys_that_cannot_be_used_are_reported_at_the_start(keys: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    with context() as own:
        with pytest.raises(KeyFileError, match=r"there is no file .*mt4pump keygen"):
            ZapAuthenticator(own, keys.secret.with_name("none"), keys.clients)
        monkeypatch.setattr(zmq, "has", lambda _what: False)
        with pytest.raises(StartError, match="has no CURVE"):
            ZapAuthenticator(own, keys.secret, keys.clients)


def test_a_secret_that_others_can_read_is_logged(keys: Keyring, caplog: pytest.LogCaptureFixture) -> None:
    keys.secret.chmod(0o644)
    with context() as own:
        ZapAuthenticator(own, keys.secret, keys.clients).stop()
    assert ("chmod 600" in caplog.text) == (os.name == "posix")


def test_a_query_socket_has_its_own_rule(keys: Keyring) -> None:
    keys.admit("alice", "*")
    keys.admit("bob", "*", query=False)
    counters = FaultCounters(authenticator_module.log)
    with context() as own, context() as other:
        authenticator = ZapAuthenticator(own, keys.secret, keys.clients, fault_counters=counters)
        authenticator.start()
        router: zmq.Socket[bytes] = own.socket(zmq.ROUTER)
        authenticator.secure_query(router)
        router.bind(ANY_PORT)
        dealers: list[zmq.Socket[bytes]] = [other.socket(zmq.DEALER) for _ in range(2)]
        for name, dealer in zip(("bob", "alice"), dealers, strict=True):
            keys.set_keys(dealer, keys.pairs[name])
            dealer.connect(router.getsockopt_string(zmq.LAST_ENDPOINT))
            dealer.send(name.encode())
        until(lambda: counters.counts["refused_query"], "bob is refused")
        assert router.poll(LIMIT_MS)
        _, frame = router.recv(), router.recv(copy=False)
        assert frame.bytes == b"alice"
        assert authenticator.allowed_query(str(frame.get("User-Id"))).covers(b"x")
        assert not router.poll(50)
        router.close(0)
        authenticator.stop()


def zap_threads() -> list[Thread]:
    return [each for each in enumerate_threads() if isinstance(each, ZapServer)]


def close_from_within(authenticator: ZapServer) -> None:
    """Close the socket of ``authenticator`` as `zmq.Context.destroy` does, but in the thread that uses it."""
    authenticator._socket.close(0)  # noqa: SLF001
    raise zmq.ZMQError(zmq.ENOTSUP)


@pytest.mark.parametrize("has_keys", [True, False])
@pytest.mark.parametrize("is_closed", [True, False])
def test_the_thread_ends_without_a_log_line_when_its_socket_or_context_ends(
    keys: Keyring, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, *, has_keys: bool, is_closed: bool
) -> None:
    with context() as own:
        authenticator = ZapAuthenticator(own, keys.secret, keys.clients) if has_keys else PlainAuthenticator(own)
        caplog.clear()
        caplog.set_level("DEBUG")
        authenticator.start()
        if is_closed:
            monkeypatch.setattr(authenticator, "_run_periodic", lambda: close_from_within(authenticator))
        else:
            own.term()
        authenticator.join(LIMIT_S)
        assert not authenticator.is_alive()
    assert authenticator.crash is None
    assert [record for record in caplog.records if record.name.startswith("mt4pump.security")] == []


def test_a_thread_that_was_made_but_never_started_leaves_nothing(keys: Keyring) -> None:
    with context() as own:
        authenticator = ZapAuthenticator(own, keys.secret, keys.clients)
        authenticator.stop()

        def is_free() -> bool:  # libzmq frees an inproc address in a thread of its own
            try:
                ZapAuthenticator(own, keys.secret, keys.clients).stop()
            except StartError:
                return False
            return True

        until(is_free, "the address of the authenticator is free again")
    assert not authenticator.is_alive()


def test_a_daemon_that_cannot_be_built_leaves_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_options: object) -> None:
        raise OSError("broken on purpose")

    given = {"source": "simulator", "data_dir": tmp_path, "pub_endpoint": ANY_PORT, "query_endpoint": ANY_PORT}
    settings = load(given, environ={}, config=None)
    before = zap_threads()
    monkeypatch.setattr("mt4pump.daemon.Pump", broken)
    with pytest.raises(OSError, match="broken on purpose"):
        Daemon(settings, Source(FakeManager, dict, lambda: None, lambda: None))
    until(lambda: zap_threads() == before, "the thread ends")


def test_a_thread_that_fails_without_end_backs_off_and_ends_with_a_crash(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[int] = []

    def fail() -> None:
        failures.append(1)
        raise OSError("broken on purpose")

    monkeypatch.setattr("mt4pump.security.zap.PAUSE_LIMIT_S", 0.0)
    with context() as own:
        authenticator = PlainAuthenticator(own)
        monkeypatch.setattr(authenticator, "_step", fail)
        authenticator.start()
        authenticator.join(LIMIT_S)
        assert isinstance(authenticator.crash, OSError)
    assert len(failures) == FAILURES_LIMIT
    assert len(caplog.records) == 2  # the first failure, and the end
    assert "restart the daemon" in caplog.text


def test_pauses_double_up_to_a_limit() -> None:
    pauses = [pause_s(count) for count in range(1, FAILURES_LIMIT + 1)]
    assert pauses == sorted(pauses)
    assert pauses[0] <= 0.02
    assert pauses[-1] == PAUSE_LIMIT_S


def test_a_guard_that_fails_excludes_nobody(keys: Keyring) -> None:
    keys.admit("alice", "*")
    called: list[int] = []

    def guard() -> None:
        called.append(1)
        raise OSError("broken on purpose")

    with secured(keys) as made:
        made.authenticator.add_guards(guard)
        socket = made.subscriber(keys.pairs["alice"], b"quote.")
        until(lambda: called, "the guard is called")
        made.settle(lambda: made.publisher.connections.accepted, "alice is accepted")
        assert made.authenticator.crash is None
        assert made.fault_counters.counts["gatekeeper_error"] >= 1
        socket.close(0)
