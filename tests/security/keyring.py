"""Keys, a folder of clients, and a publisher with CURVE and real subscribers, for the tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq

from mt4pump.log import FaultCounters
from mt4pump.publisher.publisher import Publisher, log
from mt4pump.security import ZapAuthenticator
from mt4pump.security.keys import KeyPair, new_pair
from tests.bus import LIMIT_MS, context, until, wire_settings

Socket = zmq.Socket[bytes]
END = b"heartbeat"
"""Every known client may receive it; the tests' topics end with it."""


class Keyring:
    """``folder/server.secret`` and ``folder/clients/``; ``pairs`` are the clients' keys by name."""

    def __init__(self, folder: Path) -> None:
        self.server = new_pair()
        self.secret, self.clients = folder / "server.secret", folder / "clients"
        self.clients.mkdir()
        self.secret.write_text(f'public_key = "{self.server.public}"\nsecret_key = "{self.server.secret}"\n')
        self.secret.chmod(0o600)
        self.pairs: dict[str, KeyPair] = {}

    def admit(self, name: str, *topics: str, query: bool = True, pair: KeyPair | None = None) -> None:
        """Write the file of a client; a new one gets new keys."""
        pair = self.pairs[name] = pair or self.pairs.get(name) or new_pair()
        entries = json.dumps(topics)
        rules = f'public_key = "{pair.public}"\ntopics = {entries}\nquery = {str(query).lower()}\n'
        fresh = self.clients / f".{name}.new"
        fresh.write_text(rules)
        fresh.replace(self.clients / f"{name}.toml")

    def revoke(self, name: str) -> None:
        """Remove the file of a client."""
        (self.clients / f"{name}.toml").unlink()

    def set_keys(self, socket: Socket, pair: KeyPair, server: str = "") -> Socket:
        """Give a client's socket its keys."""
        socket.curve_publickey, socket.curve_secretkey = pair.public.encode(), pair.secret.encode()
        socket.curve_serverkey = (server or self.server.public).encode()
        return socket


class CountingAuthenticator(ZapAuthenticator):
    """Counts the connections that it accepts."""

    accepted = 0

    def _check_handshake(self, frames: list[bytes]) -> tuple[str, str]:
        reason, user = super()._check_handshake(frames)
        self.accepted += not reason
        return reason, user


class SecuredPublisher:
    """A publisher with an authenticator, and subscribers in a context of their own."""

    def __init__(self, own: zmq.Context[Socket], other: zmq.Context[Socket], keys: Keyring, suffix: str = "") -> None:
        self.keys, self._other = keys, other
        self._sockets: list[Socket] = []  # a forgotten one would be closed, with a warning, before its time
        self.fault_counters = FaultCounters(log)
        self.authenticator = CountingAuthenticator(
            own, keys.secret, keys.clients, suffix=suffix, fault_counters=self.fault_counters
        )
        self.authenticator.start()
        self.publisher = Publisher(own, wire_settings(linger_s=0.2), self.authenticator, self.fault_counters)
        self.suffix = suffix.encode()

    def subscriber(self, pair: KeyPair | None, *prefixes: bytes, server: str = "", kind: int = zmq.SUB) -> Socket:
        """Return a SUB that is connecting; ``heartbeat`` is its last subscription."""
        socket: Socket = self._other.socket(kind)
        self._sockets.append(socket)
        socket.setsockopt(zmq.RCVHWM, 0)
        if pair is not None:
            self.keys.set_keys(socket, pair, server)
        for prefix in (*prefixes, END):
            if kind == zmq.SUB:
                socket.setsockopt(zmq.SUBSCRIBE, prefix)
        socket.connect(self.publisher.endpoint)
        return socket

    def settle(self, condition: Callable[[], object], what: str) -> None:
        """Read subscriptions until ``condition`` holds."""

        def settled() -> object:
            self.publisher.read_subscriptions()
            return condition()

        until(settled, what)

    def reload_after_a_revocation(self) -> None:
        """Read the clients' files: one connection that lost permissions must be closed at the next reading."""
        before = self.publisher.connections.shut_out_count
        self.authenticator.reload()
        self.publisher.read_subscriptions()
        assert self.publisher.connections.shut_out_count == before + 1

    def connects(self, socket: Socket) -> None:
        """Send heartbeats until ``socket`` receives one: then all its subscriptions work."""

        def received() -> object:
            self.publisher.read_subscriptions()
            self.publisher.send(END + self.suffix, b"probe")
            return socket.poll(5)

        until(received, "a heartbeat")

    def received(self, socket: Socket, *topics: bytes) -> set[bytes]:
        """Publish ``topics`` and return which of them ``socket`` got."""
        for topic in topics:
            self.publisher.send(topic, b"event")
        self.publisher.send(END + self.suffix, b"end")
        got: set[bytes] = set()
        while True:
            assert socket.poll(LIMIT_MS), "the heartbeat never came"
            topic, body = socket.recv_multipart()
            if body == b"end":
                return got
            if body == b"event":
                got.add(topic)

    def receives_nothing(self, socket: Socket, rounds: int = 60) -> bool:
        """Return whether ``socket`` receives nothing of what is sent while others connect."""
        for _ in range(rounds):
            self.publisher.read_subscriptions()
            self.publisher.send(END + self.suffix, b"probe")
            if socket.poll(5):
                return False
        return True

    def close(self) -> None:
        self.publisher.close()
        self.authenticator.stop()


@contextmanager
def secured(keys: Keyring, suffix: str = "") -> Iterator[SecuredPublisher]:
    """Yield a `SecuredPublisher` and close it, the authenticator after the publisher."""
    with context() as own, context() as other:
        made = SecuredPublisher(own, other, keys, suffix)
        try:
            yield made
        finally:
            made.close()
