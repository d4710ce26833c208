"""Each key and each topic on a stock SUB with CURVE: exactly as declared, and nothing in any other way.

Private access: the clients and subscriptions that are known so far, because the test must wait for them and they send
nothing.
"""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import zmq

from mt4pump.security import zap as zap_module
from mt4pump.security.keys import KeyPair, new_pair
from tests.bus import until
from tests.security.keyring import Keyring, SecuredPublisher, secured

TOPICS = (
    *("quote.EURUSD", "quote.EURUSD.m", "quote.EURJPY", "quote.USDJPY"),
    *("trade.1", "trade.100", "trade.1001", "trade.10"),
    *("user.100", "margin.100", "session.start", "session.ping", "news.7", "symbol.EURUSD", "group.demo"),
)
WITH_SUFFIX = {
    "all": (["*"], set(TOPICS)),
    "quotes": (["quote.*"], {"quote.EURUSD", "quote.EURUSD.m", "quote.EURJPY", "quote.USDJPY"}),
    "euro": (["quote.EUR*"], {"quote.EURUSD", "quote.EURUSD.m", "quote.EURJPY"}),
    "one": (["quote.EURUSD"], {"quote.EURUSD"}),
    "account": (["trade.100", "user.100"], {"trade.100", "user.100"}),
    "accounts": (["trade.100*", "session.start"], {"trade.100", "trade.1001", "session.start"}),
    "mixed": (["session.*", "trade.1", "news.*"], {"session.start", "session.ping", "trade.1", "news.7"}),
    "none": ([], set[str]()),
}
WITHOUT_SUFFIX = {
    name: (
        [entry if entry.endswith("*") else f"{entry}*" for entry in entries],
        {topic for topic in TOPICS if topic.startswith(tuple(entry.removesuffix("*") for entry in entries))},
    )
    for name, (entries, _) in WITH_SUFFIX.items()
}
ASKED = {
    "everything": (b"",),
    "kinds": (b"quote.", b"trade.", b"user", b"s", b"news.7"),
    "trap": (b"trade.100", b"trade.1", b"quote.EURUSD", b"quote.E"),
}


@pytest.fixture
def keys(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path)


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize(("suffix", "matrix"), [("|", WITH_SUFFIX), ("", WITHOUT_SUFFIX)], ids=["suffix", "plain"])
def test_every_key_receives_exactly_what_is_declared(
    keys: Keyring, asked: str, suffix: str, matrix: dict[str, tuple[list[str], set[str]]]
) -> None:
    for name, (entries, _) in matrix.items():
        keys.admit(name, *entries)
    with secured(keys, suffix) as made:
        sockets = {name: made.subscriber(keys.pairs[name], *ASKED[asked]) for name in matrix}
        for socket in sockets.values():
            made.connects(socket)
        topics = [(topic + suffix).encode() for topic in TOPICS]
        for topic in topics:
            made.publisher.send(topic, b"event")
        for name, socket in sockets.items():
            wanted = {f"{topic}{suffix}".encode() for topic in matrix[name][1]}
            assert made.received(socket) == {topic for topic in wanted if topic.startswith(ASKED[asked])}, name


def test_permissions_are_enforced_before_the_wire(keys: Keyring) -> None:
    """A SUB filters by itself; an XSUB shows what is really sent to it."""
    keys.admit("one", "quote.EURUSD")
    with secured(keys, "|") as made:
        socket = made.subscriber(keys.pairs["one"], kind=zmq.XSUB)
        socket.send(b"\x01")
        made.connects(socket)
        topics = [f"{topic}|".encode() for topic in TOPICS]
        assert made.received(socket, *topics) == {b"quote.EURUSD|"}
        assert made.publisher.subscriptions.has_subscriber(b"quote.EURUSD|")
        assert not made.publisher.subscriptions.has_subscriber(b"trade.1|")


def refused(made: SecuredPublisher, pair: KeyPair | None, server: str = "") -> dict[str, int]:
    """Connect one that must be refused beside one that is accepted; return what was counted."""
    made.keys.admit("beside", "*")
    made.authenticator.reload()
    before = made.publisher.connections.counters()
    bad = made.subscriber(pair, b"", server=server)
    connections = made.publisher.connections
    made.settle(lambda: connections.failed + connections.refused > before["failed"] + before["refused"], "a refusal")
    made.connects(made.subscriber(made.keys.pairs["beside"], b""))
    assert made.receives_nothing(bad, 10)
    bad.close(0)
    return connections.counters()


def test_an_unknown_key_receives_nothing(keys: Keyring) -> None:
    with secured(keys) as made:
        counted = refused(made, new_pair())
        assert counted["refused"] >= 1
        assert made.fault_counters.counts["refused_key"] >= 1


def test_a_plaintext_client_receives_nothing(keys: Keyring) -> None:
    with secured(keys) as made:
        assert refused(made, None)["failed"] >= 1
        assert made.fault_counters.counts["handshake_failed"] >= 1


def test_a_client_with_a_wrong_server_key_receives_nothing(keys: Keyring, caplog: pytest.LogCaptureFixture) -> None:
    keys.admit("alice", "*")
    with secured(keys) as made:
        assert refused(made, keys.pairs["alice"], new_pair().public)["failed"] >= 1
        assert "wrong server key" in caplog.text


def test_a_new_key_is_accepted_without_a_restart(keys: Keyring) -> None:
    with secured(keys) as made:
        pair = new_pair()
        made.subscriber(pair, b"quote.")  # a refused SUB of libzmq does not try again
        made.settle(lambda: made.fault_counters.counts["refused_key"], "the refusal")
        keys.admit("late", "quote.*", pair=pair)
        made.settle(lambda: len(made.authenticator._clients), "the file is read")  # noqa: SLF001
        socket = made.subscriber(pair, b"quote.")
        made.connects(socket)
        assert made.received(socket, b"quote.A", b"trade.1") == {b"quote.A"}


def test_a_revoked_key_is_disconnected_after_reload_and_no_other(
    keys: Keyring, caplog: pytest.LogCaptureFixture
) -> None:
    keys.admit("alice", "*")
    keys.admit("bob", "*")
    with secured(keys) as made:
        alice, bob = (made.subscriber(keys.pairs[name], b"") for name in ("alice", "bob"))
        made.connects(alice)
        made.connects(bob)
        keys.revoke("alice")
        made.reload_after_a_revocation()
        assert "a client lost permissions: 1 connections were closed" in caplog.text
        while alice.poll(20):
            alice.recv_multipart()
        made.settle(lambda: made.fault_counters.counts["refused_key"], "the refusal")
        assert made.received(bob, b"quote.A", b"trade.1") == {b"quote.A", b"trade.1"}
        assert made.receives_nothing(alice, 10)
        connections = made.publisher.connections
        made.settle(lambda: connections.now == 1, "the end of the refused connection")
        assert connections.counters().items() >= {"now": 1, "accepted": 2, "shut_out": 1}.items()


def test_a_client_whose_file_was_faulty_for_a_while_reconnects_by_itself(
    keys: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zap_module, "HANDSHAKE_LIMIT_S", 0.2)
    keys.admit("alice", "quote.*")
    with secured(keys) as made:
        alice = made.subscriber(keys.pairs["alice"], b"quote.")
        made.connects(alice)
        (keys.clients / "alice.toml").write_text("topics = [")
        made.reload_after_a_revocation()
        made.settle(lambda: made.fault_counters.counts["refused_fault"] > 1, "alice is refused and tries again")
        keys.admit("alice", "quote.*")
        while alice.poll(20):
            alice.recv_multipart()
        made.connects(alice)
        assert made.received(alice, b"quote.A") == {b"quote.A"}


def test_a_narrowed_permission_holds_and_nobody_else_reconnects(keys: Keyring) -> None:
    keys.admit("alice", "*")
    keys.admit("bob", "*")
    with secured(keys) as made:
        bob = made.subscriber(keys.pairs["bob"], b"")
        made.connects(bob)
        alice = made.subscriber(keys.pairs["alice"], b"quote.", b"trade.")
        made.connects(alice)
        assert made.received(alice, b"quote.A", b"trade.1") == {b"quote.A", b"trade.1"}
        keys.admit("alice", "quote.*")
        made.reload_after_a_revocation()
        connections = made.publisher.connections
        made.settle(lambda: connections.accepted == 3, "she is back")
        while alice.poll(20):
            alice.recv_multipart()
        made.connects(alice)
        assert made.received(alice, b"quote.A", b"trade.1") == {b"quote.A"}
        assert connections.counters().items() >= {"now": 2, "accepted": 3, "shut_out": 1}.items()


def test_unsubscribing_is_as_exact_as_subscribing_and_leaving_frees_all(keys: Keyring) -> None:
    keys.admit("alice", "quote.*", "trade.1*")
    with secured(keys) as made:
        alice = made.subscriber(keys.pairs["alice"], b"", b"q", b"quote.")
        made.connects(alice)
        assert made.received(alice, b"quote.A", b"trade.1") == {b"quote.A", b"trade.1"}
        alice.setsockopt(zmq.UNSUBSCRIBE, b"")
        alice.setsockopt(zmq.UNSUBSCRIBE, b"quote.")
        made.settle(lambda: not made.publisher.subscriptions.has_subscriber(b"trade.1"), "no trade is wanted")
        assert made.received(alice, b"quote.A", b"trade.1") == {b"quote.A"}
        alice.close(0)
        made.settle(lambda: made.publisher.connections.now == 0, "the connection ended")
        assert len(made.publisher.subscriptions) == 0
        assert len(made.publisher._filter) == 0  # noqa: SLF001
        assert not made.publisher.subscriptions.has_subscriber(b"quote.A")


def test_a_client_that_pushes_upstream_to_steal_a_subscription_is_banned(keys: Keyring) -> None:
    """In libzmq 4.3.5 the subscription behind a pushed message is given to the connection that pushed it."""
    keys.admit("thief", "quote.*")
    keys.admit("boss", "*")
    with secured(keys) as made:
        thief = made.subscriber(keys.pairs["thief"], kind=zmq.XSUB)
        boss = made.subscriber(keys.pairs["boss"])
        thief.send(b"\x01heartbeat")
        made.connects(thief)
        made.connects(boss)
        thief.send(b"pushed")
        boss.setsockopt(zmq.SUBSCRIBE, b"trade.")
        thief.send(b"\x01quote.")
        made.settle(lambda: made.fault_counters.counts["refused_expelled"], "the thief is refused")

        def has_boss_subscribed() -> bool:  # a disconnected SUB subscribes again only while its owner reads
            while boss.poll(1):
                boss.recv_multipart()
            return made.publisher.subscriptions.has_subscriber(b"trade.1")

        made.settle(has_boss_subscribed, "the boss subscribes, at once or again")
        made.connects(boss)
        assert made.received(boss, b"trade.1") == {b"trade.1"}
        received = [thief.recv_multipart()[0] for _ in iter(lambda: thief.poll(20), 0)]
        assert set(received) <= {b"heartbeat"}


def connected(made: SecuredPublisher) -> int:
    """Return how many connections the publisher's side has; asks the system, not the publisher."""
    port = int(made.publisher.endpoint.rpartition(":")[2])
    held = psutil.Process().net_connections("tcp")
    return sum(each.laddr.port == port and each.status != psutil.CONN_LISTEN for each in held)


@pytest.mark.not_under_wine(
    "asks psutil whose a socket or a process is: Wine 8 does not know, or searches the whole host for minutes"
)
def test_subscriptions_of_closed_connections_are_not_given_to_the_next_ones_of_their_numbers(keys: Keyring) -> None:
    """All come while the pump is busy, so that the first ones' subscriptions are checked after the others came."""
    keys.admit("alice", "*")
    keys.admit("bob", "quote.*")
    with secured(keys) as made:
        alices = [made.subscriber(keys.pairs["alice"], b"trade.") for _ in range(5)]
        until(lambda: made.authenticator.accepted >= 5, "all are there")
        for alice in alices:
            alice.close(5000)  # once its subscriptions went out
        until(lambda: not connected(made), "they are gone")
        bobs = [made.subscriber(keys.pairs["bob"], b"trade.", b"quote.") for _ in range(5)]
        until(lambda: made.authenticator.accepted >= 10, "others are there")
        for bob in bobs:
            made.connects(bob)
        for bob in bobs:
            assert made.received(bob, b"trade.1", b"quote.A") == {b"quote.A"}
        made.settle(lambda: not made.publisher.subscriptions.has_subscriber(b"trade.1"), "nobody wants trades")


@pytest.mark.not_under_wine(
    "asks psutil whose a socket or a process is: Wine 8 does not know, or searches the whole host for minutes"
)
def test_subscriptions_of_many_closed_connections_are_not_given_to_those_with_their_addresses(
    keys: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections are addresses in memory to libzmq, which are used again while old subscriptions wait."""
    monkeypatch.setattr("mt4pump.publisher.publisher.SUBSCRIPTIONS_PER_READ", 5)
    keys.admit("alice", "*")
    keys.admit("bob", "quote.*")
    asked = [b"trade.%d" % number for number in range(400)]
    with secured(keys) as made:
        first = [made.subscriber(keys.pairs["alice"], *asked) for _ in range(20)]
        made.settle(lambda: made.publisher.connections.accepted == 20, "all are there")
        for each in first:
            each.close(0)
        made.settle(lambda: not connected(made), "all are gone")
        bobs = [made.subscriber(keys.pairs["bob"], b"trade.", b"quote.") for _ in range(20)]
        made.settle(lambda: made.publisher.connections.accepted == 40, "others are there")
        monkeypatch.setattr("mt4pump.publisher.publisher.SUBSCRIPTIONS_PER_READ", 1_000)
        for bob in bobs:
            made.connects(bob)
        for bob in bobs:
            assert made.received(bob, *asked, b"quote.A") == {b"quote.A"}


def test_a_connection_without_a_user_id_receives_nothing(keys: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.admit("alice", "*")
    monkeypatch.setattr("mt4pump.publisher.publisher.user_of", lambda _frame: "")
    with secured(keys) as made:
        socket = made.subscriber(keys.pairs["alice"], b"")
        made.settle(lambda: len(made.publisher._filter), "the subscription")  # noqa: SLF001
        assert made.receives_nothing(socket, 10)
