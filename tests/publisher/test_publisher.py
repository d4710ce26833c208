"""A real XPUB and real subscribers: interest, frames, and addresses that cannot be taken.

Private access: the socket, whose poll waits until libzmq has something without reading it and whose options cannot be
read elsewhere, and the counters of the publisher that `bus` makes.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import pytest
import zmq

from mt4pump.errors import BindError
from mt4pump.publisher import publisher as publisher_module
from mt4pump.publisher.binding import bind_failure
from mt4pump.publisher.publisher import Publisher
from tests.bus import ANY_PORT, LIMIT_MS, Bus, bus, context, subscriber, sync, until, wire_settings


@pytest.fixture
def publisher_port() -> Iterator[tuple[Publisher, int]]:
    with context() as own:
        made = Publisher(own, wire_settings())
        yield made, int(made.endpoint.rpartition(":")[2])
        made.close()


def await_subscription(made: Bus, topic: bytes, *, wanted: bool) -> None:
    """Read subscriptions until ``topic`` has a subscriber, or none."""

    def seen() -> bool:
        made.publisher.read_subscriptions()
        return made.publisher.subscriptions.has_subscriber(topic) is wanted

    until(seen, f"interest in {topic!r} is {wanted}")


def test_a_subscriber_receives_two_frames_as_they_were_sent() -> None:
    with bus(b"quote.") as made:
        sent = made.publisher.sent
        made.publisher.send(b"quote.EURUSD", b"body")
        assert made.socket.poll(LIMIT_MS)
        assert made.socket.recv_multipart() == [b"quote.EURUSD", b"body"]
        assert made.publisher.sent == sent + 1


def test_the_raw_sender_takes_the_two_frames_one_by_one() -> None:
    with bus(b"quote.") as made:
        made.publisher.send_frame(b"quote.A", zmq.SNDMORE)
        made.publisher.send_frame(b"body")
        assert made.socket.poll(LIMIT_MS)
        assert made.socket.recv_multipart() == [b"quote.A", b"body"]


def test_a_new_subscription_is_noticed_and_a_withdrawn_one_too() -> None:
    with bus(b"quote.") as made:
        assert not made.publisher.subscriptions.has_subscriber(b"trade.1")
        made.socket.setsockopt(zmq.SUBSCRIBE, b"trade.")
        await_subscription(made, b"trade.1", wanted=True)
        made.socket.setsockopt(zmq.UNSUBSCRIBE, b"trade.")
        await_subscription(made, b"trade.1", wanted=False)
        assert made.publisher.subscriptions.has_subscriber(b"quote.A")


def test_a_prefix_is_wanted_until_its_last_subscriber_left() -> None:
    with bus(b"quote.") as made, context() as other:
        second = subscriber(other, made.publisher.endpoint, b"quote.", b"second")
        await_subscription(made, b"second", wanted=True)
        made.socket.setsockopt(zmq.UNSUBSCRIBE, b"quote.")
        made.socket.setsockopt(zmq.SUBSCRIBE, b"first")
        await_subscription(made, b"first", wanted=True)
        assert made.publisher.subscriptions.has_subscriber(b"quote.A")
        second.close(0)
        await_subscription(made, b"quote.A", wanted=False)


def test_reading_returns_whether_a_subscription_changed() -> None:
    with bus(b"quote.") as made:
        await_subscription(made, b"sync", wanted=False)
        assert made.publisher.read_subscriptions() is False
        made.socket.setsockopt(zmq.SUBSCRIBE, b"trade.")
        until(made.publisher.read_subscriptions, "a change of interest")
        assert made.publisher.subscriptions.has_subscriber(b"trade.1")


def test_many_subscriptions_are_taken_in_bounded_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "SUBSCRIPTIONS_PER_READ", 3)
    with bus(b"quote.") as made:
        for number in range(500):
            made.socket.setsockopt(zmq.SUBSCRIBE, b"storm.%d" % number)
        taken: list[int] = []

        def all_taken() -> bool:
            before = len(made.publisher.subscriptions)
            made.publisher.read_subscriptions()
            taken.append(len(made.publisher.subscriptions) - before)
            return made.publisher.subscriptions.has_subscriber(b"storm.499")

        until(all_taken, "all subscriptions taken")
        assert max(taken) == 3


def test_who_pushes_a_message_upstream_loses_its_connection_and_nobody_else_does() -> None:
    with bus(b"quote.") as made, context() as other:
        pusher: zmq.Socket[bytes] = other.socket(zmq.XSUB)
        pusher.setsockopt(zmq.RECONNECT_IVL, -1)
        pusher.connect(made.publisher.endpoint)
        pusher.send(b"\x01pushed")
        await_subscription(made, b"pushed", wanted=True)
        pusher.send(b"hello")
        await_subscription(made, b"pushed", wanted=False)
        assert made.publisher.connections.counters().items() >= {"now": 1, "accepted": 2, "shut_out": 1}.items()
        assert made.publisher._fault_counters.counts["pushed_upstream"] == 1  # noqa: SLF001
        made.publisher.send(b"quote.A", b"body")
        assert made.socket.poll(LIMIT_MS)


def test_a_frame_waits_until_it_is_known_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that come and go faster than they are counted cost nobody a connection."""
    with context() as own, context() as other:
        made = Publisher(own, wire_settings())
        read, answers = made.connections.read_events, [True, False]
        monkeypatch.setattr(made.connections, "read_events", lambda *limit: answers.pop(0) if answers else read(*limit))
        reader = subscriber(other, made.endpoint, b"quote.")
        assert made._socket.poll(LIMIT_MS)  # noqa: SLF001
        made.read_subscriptions()
        assert made.has_more
        assert not made.subscriptions.has_subscriber(b"quote.A")
        until(lambda: (made.read_subscriptions(), made.subscriptions.has_subscriber(b"quote.A"))[1], "it is subscribed")
        assert made.connections.accepted == 1
        reader.close(0)
        made.close()


def test_the_endpoint_names_the_port_that_was_taken() -> None:
    with bus() as made:
        assert made.publisher.endpoint.startswith("tcp://127.0.0.1:")
        assert made.publisher.endpoint != ANY_PORT


def test_the_options_reach_the_socket() -> None:
    settings = wire_settings(
        sndhwm=77,
        zmtp_heartbeat_ivl_s=1.5,
        zmtp_heartbeat_timeout_s=2.5,
        tcp_keepalive=True,
        tcp_keepalive_idle_s=9,
        ipv6=True,
        linger_s=0.3,
    )
    with context() as own:
        made = Publisher(own, settings)
        names = (
            "SNDHWM",
            "HEARTBEAT_IVL",
            "HEARTBEAT_TIMEOUT",
            "TCP_KEEPALIVE",
            "TCP_KEEPALIVE_IDLE",
            "IPV6",
            "LINGER",
        )
        values = [made._socket.getsockopt(getattr(zmq, name)) for name in names]  # noqa: SLF001
        assert values == [77, 1500, 2500, 1, 9, 1, 300]
        made.close()


def test_a_slow_subscriber_does_not_hold_up_the_publisher() -> None:
    with context() as own:
        made = Publisher(own, wire_settings(sndhwm=10))
        stalled_reader = subscriber(own, made.endpoint, b"")
        sync(made, stalled_reader)
        for _ in range(20_000):
            made.send(b"quote.A", b"x" * 1000)
        assert made.sent >= 20_000
        made.close()


def test_closing_lets_queued_messages_go_out() -> None:
    with context() as own:
        made = Publisher(own, wire_settings(linger_s=5))
        reader = subscriber(own, made.endpoint, b"last")
        sync(made, reader)
        made.send(b"last", b"word")
        made.close()
        while (frames := reader.recv_multipart())[0] == b"sync":
            pass
        assert frames == [b"last", b"word"]


def test_an_address_in_use_is_named_with_what_to_do() -> None:
    with bus() as first, context() as own:
        with pytest.raises(BindError) as caught:
            Publisher(own, wire_settings(first.publisher.endpoint))
        text = str(caught.value)
        assert first.publisher.endpoint in text
        assert "is taken by" in text
        assert "stop it, or publish on another address" in text
        assert isinstance(caught.value.__cause__, zmq.ZMQError)


def test_the_holder_of_an_address_in_use_is_named_where_known(monkeypatch: pytest.MonkeyPatch) -> None:
    error = zmq.ZMQError(zmq.EADDRINUSE)
    monkeypatch.setattr("mt4pump.publisher.binding.holder_of", lambda endpoint: f"pid 4 on {endpoint}")
    assert "is taken by pid 4 on tcp://127.0.0.1:1" in bind_failure("tcp://127.0.0.1:1", error)
    monkeypatch.setattr("mt4pump.publisher.binding.holder_of", lambda _endpoint: None)
    assert "is taken by another program" in bind_failure("tcp://127.0.0.1:1", error)


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("tcp://203.0.113.7:*", "this machine has no such address"),
        ("tcp://no_such_interface:*", "this machine has no such address"),
        ("carrierpigeon://x", "this transport does not work here"),
        ("nonsense", "write it as tcp://127.0.0.1:5556"),
        ("tcp://127.0.0.1", "write it as tcp://127.0.0.1:5556"),
    ],
)
def test_an_address_that_cannot_be_bound_is_named_with_the_reason(endpoint: str, reason: str) -> None:
    if sys.platform == "win32" and "interface" in endpoint:
        pytest.skip("Windows has no names for interfaces")
    with context() as own, pytest.raises(BindError) as caught:
        Publisher(own, wire_settings(endpoint))
    assert endpoint in str(caught.value)
    assert reason in str(caught.value)


def test_a_failed_bind_leaves_no_socket_behind() -> None:
    own: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with pytest.raises(BindError):
        Publisher(own, wire_settings("nonsense", linger_s=60))
    own.term()  # would wait for an open socket for ever
    assert own.closed


def test_the_setting_of_an_address_is_named() -> None:
    text = bind_failure("tcp://127.0.0.1:1", zmq.ZMQError(zmq.EADDRNOTAVAIL), setting="query_endpoint")
    assert text.startswith("query_endpoint tcp://127.0.0.1:1:")


def test_the_second_subscriber_of_the_heartbeat_is_noticed_as_well() -> None:
    with bus(b"quote.") as made, context() as other:
        assert not made.publisher.heartbeat_subscribed
        sockets = []  # a forgotten one would be closed
        for prefix in (b"heartbeat", b"heartbeat|", b"", b"heart"):
            sockets.append(subscriber(other, made.publisher.endpoint, prefix, b"mark" + prefix))
            await_subscription(made, b"mark" + prefix + b"!", wanted=True)
            until(
                lambda: (made.publisher.read_subscriptions(), made.publisher.heartbeat_subscribed)[1],
                "it is subscribed",
            )
            made.publisher.heartbeat_subscribed = False
        made.socket.setsockopt(zmq.SUBSCRIBE, b"later.heartbeat")
        await_subscription(made, b"later.heartbeat", wanted=True)
        assert not made.publisher.heartbeat_subscribed


def test_subscribers_that_vanish_take_their_interest_along() -> None:
    with bus(b"quote.") as made, context() as other:
        await_subscription(made, b"sync", wanted=False)
        held = len(made.publisher.subscriptions)
        sockets = [subscriber(other, made.publisher.endpoint, b"quote.", b"%d" % number) for number in range(10)]
        for number in range(10):
            await_subscription(made, b"%d" % number, wanted=True)
        assert len(made.publisher.subscriptions) == held + 10
        assert made.publisher.connections.now == 11
        for socket in sockets:
            socket.close(0)
        for number in range(10):
            await_subscription(made, b"%d" % number, wanted=False)
        assert len(made.publisher.subscriptions) == held
        assert made.publisher.connections.now == 1
        assert made.publisher.subscriptions.has_subscriber(b"quote.A")


def test_many_subscriptions_are_taken_in_bounded_numbers_and_dropped_at_once() -> None:
    with bus(b"quote.") as made, context() as other:
        await_subscription(made, b"sync", wanted=False)
        held = len(made.publisher.subscriptions)
        storm: zmq.Socket[bytes] = other.socket(zmq.SUB)
        storm.setsockopt(zmq.SNDHWM, 0)  # else libzmq loses what is over 1,000
        for number in range(20_000):
            storm.setsockopt(zmq.SUBSCRIBE, b"storm.%05d" % number)
        storm.connect(made.publisher.endpoint)
        largest = 0

        def all_taken() -> bool:
            nonlocal largest
            before = len(made.publisher.subscriptions)
            made.publisher.read_subscriptions()
            largest = max(largest, len(made.publisher.subscriptions) - before)
            made.publisher.send(b"quote.A", b"x")
            return made.publisher.subscriptions.has_subscriber(b"storm.19999")

        until(all_taken, "all subscriptions taken")
        assert largest <= publisher_module.SUBSCRIPTIONS_PER_READ
        storm.close(0)
        await_subscription(made, b"storm.00001", wanted=False)
        assert len(made.publisher.subscriptions) == held


def test_a_reading_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "READ_LIMIT_S", 0.0)
    with bus(b"quote.") as made:
        for number in range(100):
            made.socket.setsockopt(zmq.SUBSCRIBE, b"storm.%02d" % number)
        await_subscription(made, b"storm.99", wanted=True)
        assert len(made.publisher.subscriptions) >= 100


def test_a_subscriber_behind_many_short_connections_is_served(publisher_port: tuple[Publisher, int]) -> None:
    """More connections came and went than one reading has time for."""
    made, port = publisher_port
    for _ in range(800):
        socket.create_connection(("127.0.0.1", port)).close()
    with context() as other:
        reader = subscriber(other, made.endpoint, b"quote.")
        assert made._socket.poll(LIMIT_MS)  # its subscription waits behind 2,400 events  # noqa: SLF001
        until(lambda: (made.read_subscriptions(), made.subscriptions.has_subscriber(b"quote.A"))[1], "it is subscribed")
        until(lambda: (made.read_subscriptions(), made.connections.now == 1)[1], "the others are gone")
        assert made.subscriptions.has_subscriber(b"quote.A")
        reader.close(0)


def test_subscriptions_wait_while_connections_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with context() as own, context() as other:
        made = Publisher(own, wire_settings())
        reader = subscriber(other, made.endpoint, b"quote.")
        assert made._socket.poll(LIMIT_MS)  # noqa: SLF001
        monkeypatch.setattr(publisher_module, "READ_LIMIT_S", 0.0)  # one event per look
        assert not made.read_subscriptions()
        assert made.has_more
        until(lambda: (made.read_subscriptions(), made.subscriptions.has_subscriber(b"quote.A"))[1], "it is subscribed")
        reader.close(0)
        made.close()


def test_an_oversized_subscription_costs_its_sender_the_connection() -> None:
    with bus(b"quote.") as made, context() as other:
        oversized = b"x" * publisher_module.WIRE_BYTES_MAX
        bad = subscriber(other, made.publisher.endpoint, oversized)

        def is_closed() -> bool:
            made.publisher.read_subscriptions()
            return made.publisher.subscriptions.has_subscriber(oversized) or made.publisher.connections.accepted > 2

        until(is_closed, "the connection was cut and made again")
        assert not made.publisher.subscriptions.has_subscriber(oversized)
        bad.close(0)
        made.publisher.send(b"quote.A", b"body")
        assert made.socket.poll(LIMIT_MS)
