"""The gate: handshakes of real sockets, a folder that changes, and faults that keep out one and not all."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from threading import Thread
from threading import enumerate as enumerate_threads
from types import SimpleNamespace

import pytest
import zmq

from mt4pump.daemon import Daemon
from mt4pump.errors import StartError
from mt4pump.security import EVERYTHING, NOTHING, PlainGate, ZapAuthenticator
from mt4pump.security import authenticator as gatekeeper_module
from mt4pump.security.keys import KeyFileError, new_pair, raw_key
from mt4pump.security.subscription_filter import split_user_id
from mt4pump.security.zap import FAILURES_LIMIT, PAUSE_LIMIT_S, QUERIED, ZapServer, pause_s
from mt4pump.settings import load
from mt4pump.wiring import Source
from tests.bus import ANY_PORT, LIMIT_MS, LIMIT_S, context, until
from tests.fake_manager import FakeManager
from tests.security.keyring import Keyring, gated


@pytest.fixture
def keys(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path)


def zap(key: bytes, *, domain: bytes = b"mt4pump.pub", mechanism: bytes = b"CURVE") -> list[bytes]:
    return [b"peer", b"", b"1.0", b"7", domain, b"10.0.0.9", b"", mechanism, key]


def user_of(gate: ZapAuthenticator, keys: Keyring, name: str) -> str:
    return split_user_id(gate._answer(zap(raw_key(keys.pairs[name].public)))[6].decode())[0]


def test_a_known_key_gets_in_under_its_name(keys: Keyring) -> None:
    keys.admit("alice", "quote.*")
    with context() as own:
        gate = ZapAuthenticator(own, keys.secret, keys.clients)
        answer = gate._answer(zap(raw_key(keys.pairs["alice"].public)))
        assert answer[:6] == [b"peer", b"", b"1.0", b"7", b"200", b"OK"]
        assert gate.allowed(split_user_id(answer[6].decode())[0]).allowed == (b"heartbeat", b"quote.")
        assert gate.counts == {"accepted": 1}
        assert gate.server_key == keys.server.public
        gate.stop()


def test_an_unknown_key_is_refused_counted_and_told_with_its_address(
    keys: Keyring, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = new_pair()
    with context() as own:
        gate = ZapAuthenticator(own, keys.secret, keys.clients)
        for _ in range(50):
            assert gate._answer(zap(raw_key(stranger.public)))[4:7] == [b"400", b"unknown key", b""]
        assert gate.counts == {"refused": 50, "refused_key": 50}
        lines = [record.getMessage() for record in caplog.records if stranger.public in record.getMessage()]
        assert len(lines) == 1
        assert "10.0.0.9" in lines[0]
        gate.stop()


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
    with context() as own:
        gate = ZapAuthenticator(own, keys.secret, keys.clients)
        answer = gate._answer(frames)
        assert b"400" in answer
        assert b"200" not in answer
        gate.stop()


def test_who_may_not_query_is_kept_from_that_socket_alone(keys: Keyring) -> None:
    keys.admit("alice", "*", query=False)
    key = raw_key(keys.pairs["alice"].public)
    with context() as own:
        gate = ZapAuthenticator(own, keys.secret, keys.clients)
        assert gate._answer(zap(key, domain=QUERIED.encode()))[4] == b"400"
        answer = gate._answer(zap(key))
        assert answer[4] == b"200"
        user = split_user_id(answer[6].decode())[0]
        assert gate.allowed_query(user) is NOTHING
        assert gate.allowed(user).allowed == EVERYTHING.allowed
        gate.stop()


def test_every_connection_has_a_mark_of_its_own_and_none_gets_in_without(keys: Keyring) -> None:
    keys.admit("alice", "*")
    marks: list[int | None] = [4, 7, None]
    asked = zap(raw_key(keys.pairs["alice"].public))
    with context() as own:
        gate, socket = ZapAuthenticator(own, keys.secret, keys.clients), own.socket(zmq.XPUB)
        gate.secure(socket, lambda: marks.pop(0))
        first, second = (split_user_id(gate._answer(asked)[6].decode()) for _ in range(2))
        assert first[0] == second[0]
        assert (first[1], second[1]) == (4, 7)
        assert gate._answer(asked)[4] == b"300"  # not for ever: it may try again
        assert gate.counts == {"accepted": 2, "refused": 1, "refused_crowd": 1}
        assert b"/" not in gate._answer(zap(asked[8], domain=QUERIED.encode()))[6]
        gate.stop()


def test_a_changed_folder_is_read_by_itself(keys: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gatekeeper_module, "CHECK_INTERVAL_S", 0.01)
    with context() as own:
        gate = ZapAuthenticator(own, keys.secret, keys.clients)
        gate.start()
        keys.admit("alice", "quote.*")
        until(lambda: user_of(gate, keys, "alice"), "alice is known")
        assert gate.revocations == 0
        keys.revoke("alice")
        until(lambda: gate.revocations == 1, "the revocation")
        assert user_of(gate, keys, "alice") == ""
        assert gate.has_new_revocations()
        assert not gate.has_new_revocations()
        gate.stop()
        assert not gate.is_alive()


def test_reloading_tells_whether_something_was_taken_away(keys: Keyring) -> None:
    keys.admit("alice", "quote.*")
    with context() as own:
        gate = ZapAuthenticator(own, keys.secret, keys.clients)
        assert not gate.reload()
        keys.admit("bob", "*")
        assert not gate.reload()
        keys.admit("alice", "quote.EUR*")
        assert gate.reload()
        assert gate.has_new_revocations()
        gate.stop()


def test_the_holder_of_a_replaced_key_is_a_stranger(keys: Keyring) -> None:
    keys.admit("alice", "*")
    with context() as own:
        gate = ZapAuthenticator(own, keys.secret, keys.clients)
        before = user_of(gate, keys, "alice")
        keys.admit("alice", "*", pair=new_pair())
        assert gate.reload()
        assert gate.allowed(before) is NOTHING
        assert gate.allowed(user_of(gate, keys, "alice")).covers(b"anything")
        gate.stop()


def test_a_file_that_breaks_keeps_out_its_client_and_is_told_once(
    keys: Keyring, caplog: pytest.LogCaptureFixture
) -> None:
    keys.admit("alice", "*")
    keys.admit("bob", "*")
    with context() as own:
        gate = ZapAuthenticator(own, keys.secret, keys.clients)
        (keys.clients / "bob.toml").write_text("topics = [")
        assert gate.reload()
        (keys.clients / "carl.toml").write_text("topics = [")
        gate.reload()
        assert user_of(gate, keys, "alice")
        assert not user_of(gate, keys, "bob")
        told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert [("bob.toml" in text, "carl.toml" in text) for text in told] == [(True, False), (False, True)]
        assert all("is not TOML" in text for text in told)
        gate.stop()


@pytest.mark.parametrize("odd", ["query = " + "1" * 5_000, "topics = " + "[" * 5_000])
def test_a_file_that_the_reader_chokes_on_holds_up_no_revocation(keys: Keyring, odd: str) -> None:
    keys.admit("alice", "*")
    keys.admit("bob", "*")
    with context() as own:
        gate = ZapAuthenticator(own, keys.secret, keys.clients)
        (keys.clients / "odd.toml").write_text(odd)
        keys.revoke("alice")
        assert gate.reload()
        assert not user_of(gate, keys, "alice")
        assert user_of(gate, keys, "bob")
        assert list(gate._clients.faults) == ["odd.toml"]
        gate.stop()


def test_a_folder_that_is_gone_lets_nobody_in(keys: Keyring) -> None:
    keys.admit("alice", "*")
    with context() as own:
        gate = ZapAuthenticator(own, keys.secret, keys.clients)
        keys.revoke("alice")
        keys.clients.rmdir()
        assert gate.reload()
        assert not user_of(gate, keys, "alice")
        gate.stop()


def test_a_folder_that_cannot_be_read_for_a_moment_changes_nothing(
    keys: Keyring, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keys.admit("alice", "*")

    def fails(_folder: Path) -> None:
        raise OSError(5, "Input/output error")

    with context() as own:
        gate = ZapAuthenticator(own, keys.secret, keys.clients)
        monkeypatch.setattr(gatekeeper_module, "fingerprint", fails)
        assert not gate.reload()
        assert user_of(gate, keys, "alice")
        assert "Input/output error" in caplog.text
        gate.stop()


def test_an_expelled_client_is_refused_for_a_while(keys: Keyring) -> None:
    keys.admit("alice", "*")
    now = [100.0]
    with context() as own:
        gate = ZapAuthenticator(own, keys.secret, keys.clients, now_s=lambda: now[0])
        user = user_of(gate, keys, "alice")
        gate.ban(user, "for the test")
        assert gate.allowed(user) is NOTHING
        assert not user_of(gate, keys, "alice")
        assert gate.counts["refused_expelled"] == 1
        now[0] += 61
        assert user_of(gate, keys, "alice") == user
        assert gate.allowed(user).covers(b"x")
        gate.ban("nobody", "who is that")
        assert gate._banned_until_s == {}
        gate.stop()


def test_an_error_of_its_own_costs_one_handshake(
    keys: Keyring, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keys.admit("alice", "*")
    with gated(keys) as made:
        answer, failures = made.gate._answer, iter([OSError("once")])

        def fails_once(frames: list[bytes]) -> list[bytes]:
            for failure in failures:
                raise failure
            return answer(frames)

        monkeypatch.setattr(made.gate, "_answer", fails_once)
        socket = made.subscriber(keys.pairs["alice"], b"")
        until(lambda: made.fault_counters.counts["gatekeeper_error"], "the error is counted")
        socket.close()
        made.hears(made.subscriber(keys.pairs["alice"], b""))
        assert "once" in caplog.text


def test_nobody_gets_in_while_the_gate_is_shut(keys: Keyring) -> None:
    keys.admit("alice", "*")
    with gated(keys) as made:
        made.gate.stop()
        socket = made.subscriber(keys.pairs["alice"], b"")
        made.settle(lambda: made.publisher.connections.failed, "the handshake failed")
        assert made.publisher.connections.accepted == 0
        assert made.is_deaf(socket, 10)


def test_one_context_has_one_gate(keys: Keyring) -> None:
    with context() as own:
        gate = ZapAuthenticator(own, keys.secret, keys.clients)
        with pytest.raises(StartError, match="a context may have one authenticator"):
            ZapAuthenticator(own, keys.secret, keys.clients)
        gate.stop()


def test_the_settings_make_a_gate_that_runs(keys: Keyring) -> None:
    settings = SimpleNamespace(curve_secret_key=keys.secret, curve_clients=keys.clients, topic_suffix="|")
    keys.admit("alice", "trade.1")
    with context() as own:
        gate = ZapAuthenticator.of(own, settings)
        assert gate.is_alive()
        assert gate.allowed(user_of(gate, keys, "alice")).covers(b"trade.1|")
        gate.stop()
        gate.stop()
        with pytest.raises(StartError, match="belong together"):
            ZapAuthenticator.of(own, SimpleNamespace(curve_secret_key=keys.secret, curve_clients=None, topic_suffix=""))


def test_keys_that_cannot_be_used_are_told_at_the_start(keys: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    with context() as own:
        with pytest.raises(KeyFileError, match="make it with mt4pump keygen"):
            ZapAuthenticator(own, keys.secret.with_name("none"), keys.clients)
        monkeypatch.setattr(zmq, "has", lambda _what: False)
        with pytest.raises(StartError, match="has no CURVE"):
            ZapAuthenticator(own, keys.secret, keys.clients)


def test_a_secret_that_others_can_read_is_told(keys: Keyring, caplog: pytest.LogCaptureFixture) -> None:
    keys.secret.chmod(0o644)
    with context() as own:
        ZapAuthenticator(own, keys.secret, keys.clients).stop()
    assert ("chmod 600" in caplog.text) == (os.name == "posix")


def test_a_query_socket_is_judged_by_its_own_rule(keys: Keyring) -> None:
    keys.admit("alice", "*")
    keys.admit("bob", "*", query=False)
    with context() as own, context() as other:
        gate = ZapAuthenticator(own, keys.secret, keys.clients)
        gate.start()
        router: zmq.Socket[bytes] = own.socket(zmq.ROUTER)
        gate.secure_query(router)
        router.bind(ANY_PORT)
        dealers: list[zmq.Socket[bytes]] = [other.socket(zmq.DEALER) for _ in range(2)]
        for name, dealer in zip(("bob", "alice"), dealers, strict=True):
            keys.arm(dealer, keys.pairs[name])
            dealer.connect(router.getsockopt_string(zmq.LAST_ENDPOINT))
            dealer.send(name.encode())
        until(lambda: gate.counts["refused_query"], "bob is refused")
        assert router.poll(LIMIT_MS)
        _, frame = router.recv(), router.recv(copy=False)
        assert frame.bytes == b"alice"
        assert gate.allowed_query(str(frame.get("User-Id"))).covers(b"x")
        assert not router.poll(50)
        router.close(0)
        gate.stop()


def gate_threads() -> list[Thread]:
    return [each for each in enumerate_threads() if isinstance(each, ZapServer)]


def close_from_within(gate: ZapServer) -> None:
    """Close the socket of ``gate`` as `zmq.Context.destroy` does, but in the thread that uses it."""
    gate._socket.close(0)
    raise zmq.ZMQError(zmq.ENOTSUP)


@pytest.mark.parametrize("has_keys", [True, False])
@pytest.mark.parametrize("is_closed", [True, False])
def test_the_thread_ends_without_a_log_line_when_its_socket_or_context_ends(
    keys: Keyring, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, *, has_keys: bool, is_closed: bool
) -> None:
    with context() as own:
        gate = ZapAuthenticator(own, keys.secret, keys.clients) if has_keys else PlainGate(own)
        caplog.clear()
        caplog.set_level("DEBUG")
        gate.start()
        if is_closed:
            monkeypatch.setattr(gate, "_run_periodic", lambda: close_from_within(gate))
        else:
            own.term()
        gate.join(LIMIT_S)
        assert not gate.is_alive()
    assert gate.crash is None
    assert [record for record in caplog.records if record.name.startswith("mt4pump.security")] == []


def test_a_thread_that_was_made_but_never_started_leaves_nothing(keys: Keyring) -> None:
    with context() as own:
        gate = ZapAuthenticator(own, keys.secret, keys.clients)
        gate.stop()

        def is_free() -> bool:  # libzmq frees an inproc address in a thread of its own
            try:
                ZapAuthenticator(own, keys.secret, keys.clients).stop()
            except StartError:
                return False
            return True

        until(is_free, "the address of the authenticator is free again")
    assert not gate.is_alive()


def test_a_daemon_that_cannot_be_built_leaves_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_options: object) -> None:
        raise OSError("broken on purpose")

    given = {"source": "simulator", "data_dir": tmp_path, "pub_endpoint": ANY_PORT, "query_endpoint": ANY_PORT}
    settings = load(given, environ={}, config=None)
    before = gate_threads()
    monkeypatch.setattr("mt4pump.daemon.Pump", broken)
    with pytest.raises(OSError, match="broken on purpose"):
        Daemon(settings, Source(FakeManager, dict, lambda: None, lambda: None))
    until(lambda: gate_threads() == before, "the thread ends")


def test_a_thread_that_fails_without_end_backs_off_and_ends_with_a_crash(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[int] = []

    def fail() -> None:
        failures.append(1)
        raise OSError("broken on purpose")

    monkeypatch.setattr("mt4pump.security.zap.PAUSE_LIMIT_S", 0.0)
    with context() as own:
        gate = PlainGate(own)
        monkeypatch.setattr(gate, "_turn", fail)
        gate.start()
        gate.join(LIMIT_S)
        assert isinstance(gate.crash, OSError)
    assert len(failures) == FAILURES_LIMIT
    assert len(caplog.records) == 2  # the first failure, and the end
    assert "restart the daemon" in caplog.text


def test_pauses_double_up_to_a_limit() -> None:
    pauses = [pause_s(count) for count in range(1, FAILURES_LIMIT + 1)]
    assert pauses == sorted(pauses)
    assert pauses[0] <= 0.02
    assert pauses[-1] == PAUSE_LIMIT_S


def test_a_guard_that_fails_keeps_nobody_out(keys: Keyring) -> None:
    keys.admit("alice", "*")
    called: list[int] = []

    def guard() -> None:
        called.append(1)
        raise OSError("broken on purpose")

    with gated(keys) as made:
        made.gate.add_guards(guard)
        socket = made.subscriber(keys.pairs["alice"], b"quote.")
        until(lambda: called, "the guard is called")
        made.settle(lambda: made.publisher.connections.accepted, "alice is let in")
        assert made.gate.crash is None
        assert made.fault_counters.counts["gatekeeper_error"] >= 1
        socket.close(0)
