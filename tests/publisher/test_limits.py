"""A client that floods, pushes or holds too much loses its own connection; the others lose nothing.

Private access: the socket, whose poll has libzmq receive what comes while nothing is read.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq

from mt4pump.log import FaultCounters
from mt4pump.publisher import slow_readers
from mt4pump.publisher.capacity import DescriptorGuard, limit_connections
from mt4pump.publisher.connections import Connections
from mt4pump.publisher.descriptors import EndpointLimits
from mt4pump.publisher.publisher import Publisher, log
from mt4pump.publisher.subscriptions import SubscriptionLimits
from mt4pump.security import PlainAuthenticator
from mt4pump.settings import Settings
from tests.bus import LIMIT_S, context, subscriber, sync, until, wire_settings

GREETING = b"\xff" + bytes(8) + b"\x7f"
NULL_3 = GREETING + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY_XSUB = b"\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x04XSUB"
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux reports how much came")


class Served:
    """A publisher behind a plain authenticator, and an honest subscriber of ``quote.`` that must lose nothing."""

    def __init__(
        self, own: zmq.Context[zmq.Socket[bytes]], other: zmq.Context[zmq.Socket[bytes]], settings: Settings
    ) -> None:
        self.fault_counters = FaultCounters(log)
        self.authenticator = PlainAuthenticator(own, self.fault_counters)
        self.authenticator.start()
        self.publisher = Publisher(own, settings, self.authenticator, self.fault_counters)
        guarded = self.publisher.connections
        self.authenticator.add_guards(guarded.guard, wake_numbers=(guarded.wake_number,))
        self.port = int(self.publisher.endpoint.rpartition(":")[2])
        self.other = other
        self.honest = subscriber(other, self.publisher.endpoint, b"quote.")
        sync(self.publisher, self.honest)
        self.sent = self.received = 0

    def check(self) -> bool:
        """Publish one quote and read subscriptions, as the pump does; receive what the honest one got."""
        self.publisher.read_subscriptions()
        self.publisher.send(b"quote.A", b"%d" % self.sent)
        self.sent += 1
        while self.honest.poll(0):
            topic, body = self.honest.recv_multipart()
            if topic == b"quote.A":
                assert int(body) == self.received, "the honest subscriber lost a message"
                self.received += 1
        return True

    def until(self, name: str, count: int = 1) -> None:
        until(
            lambda: self.check() and self.fault_counters.counts[name] >= count,
            f"{name} in {self.fault_counters.counts}",
        )

    def check_honest(self) -> None:
        until(lambda: self.check() and self.received > self.sent - 100, "the honest subscriber keeps up")

    def raw(self) -> socket.socket:
        """Return a connection of ZMTP 3 whose handshake is over."""
        return raw_link(self.port)


def raw_link(port: int, ready: bytes = READY_XSUB, source: str = "127.0.0.1") -> socket.socket:
    """Return a connection of ZMTP 3 to ``port`` from the address ``source`` whose handshake is over."""
    made = socket.create_connection(("127.0.0.1", port), LIMIT_S, (source, 0))
    made.sendall(NULL_3)
    got = b""
    while len(got) < 64:
        part = made.recv(64 - len(got))
        assert part, "the peer ended the connection amid the handshake"
        got += part
    made.sendall(ready)
    assert b"READY" in made.recv(256)
    return made


@contextmanager
def served(total: int = 1_000, per_client: int = 250) -> Iterator[Served]:
    settings = wire_settings(max_connections=total, max_connections_per_client=per_client)
    with context() as own, context() as other:
        made = Served(own, other, settings)
        try:
            yield made
        finally:
            made.publisher.close()
            made.authenticator.stop()


def has_ended(connection: socket.socket) -> bool:
    """Return whether the peer closed the connection: with a window of 0 it refuses no more bytes, so read its end."""
    try:
        while connection.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def flood(made: Served, frames: bytes) -> None:
    """Send ``frames`` again and again until the connection is cut, while the publisher goes on."""
    with made.raw() as bad:
        bad.setblocking(False)  # noqa: FBT003 - the standard library's
        block, rest = frames * (65_536 // len(frames)), b""

        def is_closed() -> bool:
            nonlocal rest
            made.check()
            try:
                for _ in range(50):
                    rest = rest or block
                    rest = rest[bad.send(rest) :]
            except BlockingIOError:
                return has_ended(bad)
            except OSError:
                return True
            return False

        until(is_closed, f"closed: {made.fault_counters.counts}")


@pytest.mark.parametrize(
    "frames",
    [b"\x00\x01\x02", b"\x00\xfa\x02" + b"x" * 249, b"\x00\x04\x01abc\x00\x04\x00abc"],
    ids=["short messages", "messages", "flips"],
)
def test_a_flood_costs_its_sender_the_connection_and_nobody_else_a_message(frames: bytes) -> None:
    with served() as made:
        flood(made, frames)
        until(lambda: made.check() and made.publisher.connections.now == 1, "only the honest one is there")
        made.check_honest()
        assert made.publisher.connections.shut_out_count == 1
        assert {"pushed_upstream", "flood", "subscription_flood"} & made.fault_counters.counts.keys()


@linux
def test_a_flood_is_detected_while_the_pump_reads_nothing() -> None:
    with served() as made, made.raw() as bad:
        bad.setblocking(False)  # noqa: FBT003 - the standard library's
        block = b"\x00\xfa\x01" + b"x" * 249

        def is_closed() -> bool:
            made.publisher._socket.poll(0)  # libzmq receives what comes, and we read nothing of it  # noqa: SLF001
            try:
                bad.send(block * 100)
            except BlockingIOError:
                return has_ended(bad)
            except OSError:
                return True
            return False

        until(is_closed, "closed")
        assert made.fault_counters.counts["flood"] == 1
        until(lambda: made.check() and made.publisher.connections.now == 1, "only the honest one is there")
        made.check_honest()


@pytest.mark.parametrize(
    "first",
    [
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(100),
        b"\x01\x00" + b"\x02\x00\x01",
        GREETING + b"\x01\x02" + b"\x00\x00" + b"\x00\x01\x01",
        GREETING + b"\x00\x02" + b"\x00\x00" + b"\x00\x01\x01",
    ],
    ids=["TLS", "ZMTP 1", "ZMTP 2", "ZMTP 1 with a version"],
)
def test_what_speaks_no_zmtp_3_gets_no_event_in_plaintext(first: bytes) -> None:
    with served() as made, socket.create_connection(("127.0.0.1", made.port), LIMIT_S) as bad:
        bad.sendall(first)
        got = b""
        bad.settimeout(0.01)

        def is_closed() -> bool:
            nonlocal got
            made.check()
            try:
                more = bad.recv(65_536)
            except TimeoutError:
                return False
            except OSError:
                return True
            got += more
            return not more

        until(is_closed, "closed")
        assert b"quote" not in got
        until(lambda: made.check() and made.publisher.connections.failed == 1, "it is counted")
        assert made.fault_counters.counts["handshake_failed"] == 1
        made.check_honest()


def test_who_has_too_many_subscriptions_is_closed_and_all_is_freed() -> None:
    with served() as made:
        made.publisher.subscriptions.limits = SubscriptionLimits(per_connection=50)
        greedy = subscriber(made.other, made.publisher.endpoint, *(b"storm.%d" % number for number in range(100)))
        made.until("too_many_prefixes")
        greedy.close(0)
        until(lambda: made.check() and made.publisher.connections.now == 1, "only the honest one is there")
        until(
            lambda: made.check() and made.publisher.subscriptions.total.count == 1,
            "the rest is freed",
        )
        assert not made.publisher.subscriptions.has_subscriber(b"storm.1")
        made.check_honest()


def test_where_all_together_have_too_much_the_largest_gives_way() -> None:
    with served() as made:
        made.publisher.subscriptions.limits = SubscriptionLimits(total=60)
        greedy = subscriber(made.other, made.publisher.endpoint, *(b"storm.%d" % number for number in range(55)))
        until(
            lambda: made.check() and made.publisher.subscriptions.has_subscriber(b"storm.54"),
            "the large one is here",
        )
        late = subscriber(made.other, made.publisher.endpoint, *(b"late.%d" % number for number in range(10)))
        until(
            lambda: made.check() and made.publisher.subscriptions.has_subscriber(b"late.9"),
            "the small one is here",
        )
        made.until("too_many_prefixes")
        greedy.close(0)
        until(
            lambda: made.check() and not made.publisher.subscriptions.has_subscriber(b"storm.1"),
            "the large one is gone",
        )
        assert made.publisher.subscriptions.has_subscriber(b"late.9")
        late.close(0)


def test_beyond_the_limit_of_one_client_new_connections_are_closed_and_old_ones_stay() -> None:
    with served(per_client=3) as made:
        more = [made.raw() for _ in range(2)]
        until(lambda: made.check() and made.publisher.connections.now == 3, "all are there")
        with socket.create_connection(("127.0.0.1", made.port), LIMIT_S) as late:
            made.until("too_many_connections")
            assert made.publisher.connections.over_limit >= 1
            late.settimeout(LIMIT_S)
            while late.recv(100):
                pass
        made.check_honest()
        for each in more:
            each.close()


def test_who_has_sent_nothing_gives_way_to_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt4pump.publisher.connections.UNCLAIMED_GRACE_S", 0.0)
    with served(total=3) as made:
        idle = [socket.create_connection(("127.0.0.1", made.port), LIMIT_S) for _ in range(2)]
        until(lambda: made.check() and made.publisher.connections.now == 3, "all are there")
        late = subscriber(made.other, made.publisher.endpoint, b"late")
        until(lambda: made.check() and made.publisher.subscriptions.has_subscriber(b"late"), "the new one is here")
        made.check_honest()
        late.close(0)
        for each in idle:
            each.close()


def test_descriptors_bound_the_connections_below_what_is_set() -> None:
    both = [Connections(FaultCounters(log), EndpointLimits(1_000, 250), lambda _number: None) for _ in range(2)]
    limit_connections(both, None)
    assert [each.limits.total for each in both] == [1_000, 1_000]
    limit_connections(both, 10)
    assert all(1 <= each.limits.total <= 5 for each in both)
    assert all(each.limits.per_client <= each.limits.total for each in both)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_without_a_descriptor_left_those_that_sent_nothing_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_descriptor(*_args: object) -> int:
        raise OSError(24, "Too many open files")

    with served() as made:
        idle = socket.create_connection(("127.0.0.1", made.port), LIMIT_S)
        until(lambda: made.check() and made.publisher.connections.now == 2, "it is there")
        with monkeypatch.context() as patch:
            patch.setattr("mt4pump.publisher.capacity.os.open", no_descriptor)
            DescriptorGuard([made.publisher.connections], made.fault_counters).check()
        until(lambda: made.check() and made.publisher.connections.now == 1, "only the honest one is there")
        assert made.fault_counters.counts["accept_failed"] == 1
        made.check_honest()
        idle.close()


def test_an_address_on_probation_gets_its_connections_one_by_one() -> None:
    with served() as made:
        made.authenticator.ban("127.0.0.1", "a test")
        late = [subscriber(made.other, made.publisher.endpoint, b"late.%d" % number) for number in range(2)]
        until(
            lambda: made.check() and all(made.publisher.subscriptions.has_subscriber(b"late.%d" % n) for n in range(2)),
            "subscribed",
        )
        made.check_honest()
        for each in late:
            each.close(0)


def test_large_bodies_that_wait_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_readers, "WAITING_BYTES_LIMIT", 30_000_000)
    with served() as made, made.raw() as stalled_reader:
        stalled_reader.sendall(b"\x00\x05\x01news")
        until(lambda: made.check() and made.publisher.subscriptions.has_subscriber(b"news.1"), "it is subscribed")
        large = b"x" * 1_000_000
        for _ in range(200):
            made.publisher.send(b"news.1", large)
        assert made.publisher.slow.large_bytes <= 30_000_000
        assert made.publisher.slow.large_dropped > 0
        made.check_honest()
        if sys.platform.startswith("linux"):
            monkeypatch.setattr(slow_readers, "STALLED_S", 0.0)

            def is_closed() -> bool:
                made.publisher.maintain()
                made.publisher.send(b"news.1", large)
                made.check()
                return made.fault_counters.counts["stalled_reader"] == 1

            until(is_closed, "who takes nothing is closed")
            until(lambda: made.check() and made.publisher.connections.now == 1, "it is gone")

            def is_empty() -> bool:
                made.check()  # libzmq frees a queue within a call of its socket's thread
                made.publisher.maintain()
                return made.publisher.slow.large_bytes == 0

            until(is_empty, "nothing waits")
            made.check_honest()
