"""A real XPUB and real subscribers: interest, frames, and addresses that cannot be taken."""

from __future__ import annotations

import sys

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from mt4pump import publisher as publisher_module
from mt4pump.errors import BindError
from mt4pump.publisher import Interest, Publisher, SocketOptions, bind_failure
from tests.bus import ANY_PORT, Bus, bus, context, subscriber, sync, until

SUB, UNSUB = b"\x01", b"\x00"


def interest(*messages: bytes) -> Interest:
    made = Interest()
    for message in messages:
        made.take(message)
    return made


def test_nobody_wants_anything_at_first() -> None:
    assert not Interest().wants(b"quote.EURUSD")
    assert len(Interest()) == 0


@pytest.mark.parametrize(
    ("prefix", "topic", "wanted"),
    [
        (b"", b"quote.EURUSD", True),
        (b"quote.", b"quote.EURUSD", True),
        (b"quote.EURUSD", b"quote.EURUSD", True),
        (b"trade.100", b"trade.1001", True),
        (b"quote.EURUSD.m", b"quote.EURUSD", False),
        (b"trade.", b"quote.EURUSD", False),
        (b"\xff\x00", b"\xff\x00x", True),
    ],
)
def test_a_topic_is_wanted_by_its_prefix(prefix: bytes, topic: bytes, *, wanted: bool) -> None:
    assert interest(SUB + prefix).wants(topic) is wanted


def test_interest_ends_with_the_unsubscription() -> None:
    made = interest(SUB + b"a", SUB + b"b", UNSUB + b"a")
    assert (made.wants(b"a1"), made.wants(b"b1"), len(made)) == (False, True, 1)


def test_taking_tells_whether_anything_changed() -> None:
    made = Interest()
    assert [made.take(message) for message in (SUB + b"a", SUB + b"a", UNSUB + b"a", UNSUB + b"a")] == [
        *(True, False, True, False)
    ]


@pytest.mark.parametrize("message", [b"", b"\x02a", b"hello", b"\xff"])
def test_a_message_that_is_no_subscription_is_ignored(message: bytes) -> None:
    made = Interest()
    assert made.take(message) is False
    assert len(made) == 0


@given(st.lists(st.tuples(st.sampled_from([SUB, UNSUB]), st.sampled_from([b"", b"a", b"b", b"ab", b"ba"]))))
def test_random_subscriptions_leave_what_is_left(messages: list[tuple[bytes, bytes]]) -> None:
    made, expected = Interest(), set[bytes]()
    for word, prefix in messages:
        made.take(word + prefix)
        (expected.add if word == SUB else expected.discard)(prefix)
        for topic in (b"", b"a", b"ab", b"b", b"ba", b"bb"):
            assert made.wants(topic) == any(topic.startswith(wanted) for wanted in expected)


def looked(made: Bus, topic: bytes, *, wanted: bool) -> None:
    """Look for subscriptions until ``topic`` is wanted, or not."""

    def seen() -> bool:
        made.publisher.look_for_subscriptions()
        return made.publisher.interest.wants(topic) is wanted

    until(seen, f"interest in {topic!r} is {wanted}")


def test_a_subscriber_receives_two_frames_as_they_were_sent() -> None:
    with bus(b"quote.") as made:
        sent = made.publisher.sent
        made.publisher.send(b"quote.EURUSD", b"body")
        assert made.socket.poll(5000)
        assert made.socket.recv_multipart() == [b"quote.EURUSD", b"body"]
        assert made.publisher.sent == sent + 1


def test_the_raw_sender_takes_the_two_frames_one_by_one() -> None:
    with bus(b"quote.") as made:
        made.publisher.send_frame(b"quote.A", zmq.SNDMORE)
        made.publisher.send_frame(b"body")
        assert made.socket.poll(5000)
        assert made.socket.recv_multipart() == [b"quote.A", b"body"]


def test_a_new_subscription_is_noticed_and_a_withdrawn_one_too() -> None:
    with bus(b"quote.") as made:
        assert not made.publisher.interest.wants(b"trade.1")
        made.socket.setsockopt(zmq.SUBSCRIBE, b"trade.")
        looked(made, b"trade.1", wanted=True)
        made.socket.setsockopt(zmq.UNSUBSCRIBE, b"trade.")
        looked(made, b"trade.1", wanted=False)
        assert made.publisher.interest.wants(b"quote.A")


def test_a_prefix_is_wanted_until_its_last_subscriber_left() -> None:
    with bus(b"quote.") as made, context() as other:
        second = subscriber(other, made.publisher.endpoint, b"quote.", b"second")
        looked(made, b"second", wanted=True)
        made.socket.setsockopt(zmq.UNSUBSCRIBE, b"quote.")
        made.socket.setsockopt(zmq.SUBSCRIBE, b"first")
        looked(made, b"first", wanted=True)
        assert made.publisher.interest.wants(b"quote.A")
        second.close(0)
        looked(made, b"quote.A", wanted=False)


def test_looking_tells_whether_interest_changed() -> None:
    with bus(b"quote.") as made:
        looked(made, b"sync", wanted=False)
        assert made.publisher.look_for_subscriptions() is False
        made.socket.setsockopt(zmq.SUBSCRIBE, b"trade.")
        until(made.publisher.look_for_subscriptions, "a change of interest")
        assert made.publisher.interest.wants(b"trade.1")


def test_a_storm_of_subscriptions_is_taken_in_bounded_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "SUBSCRIPTIONS_PER_LOOK", 3)
    with bus(b"quote.") as made:
        for number in range(500):
            made.socket.setsockopt(zmq.SUBSCRIBE, b"storm.%d" % number)
        taken: list[int] = []

        def all_taken() -> bool:
            before = len(made.publisher.interest)
            made.publisher.look_for_subscriptions()
            taken.append(len(made.publisher.interest) - before)
            return made.publisher.interest.wants(b"storm.499")

        until(all_taken, "all subscriptions taken")
        assert max(taken) == 3


def test_a_message_that_a_subscriber_pushes_upstream_does_no_harm() -> None:
    with bus(b"quote.") as made, context() as other:
        pusher: zmq.Socket[bytes] = other.socket(zmq.XSUB)
        pusher.connect(made.publisher.endpoint)
        pusher.send(b"hello")
        pusher.send(b"\x01pushed")
        looked(made, b"pushed", wanted=True)
        assert not made.publisher.interest.wants(b"hello")


def test_the_endpoint_tells_the_port_that_was_taken() -> None:
    with bus() as made:
        assert made.publisher.endpoint.startswith("tcp://127.0.0.1:")
        assert made.publisher.endpoint != ANY_PORT


def test_the_options_reach_the_socket() -> None:
    options = SocketOptions(77, 1.5, 2.5, tcp_keepalive=True, tcp_keepalive_idle_s=9, ipv6=True, linger_s=0.3)
    with context() as own:
        made = Publisher(own, ANY_PORT, options)
        names = (
            "SNDHWM",
            "HEARTBEAT_IVL",
            "HEARTBEAT_TIMEOUT",
            "TCP_KEEPALIVE",
            "TCP_KEEPALIVE_IDLE",
            "IPV6",
            "LINGER",
        )
        values = [made._socket.getsockopt(getattr(zmq, name)) for name in names]
        assert values == [77, 1500, 2500, 1, 9, 1, 300]
        made.close()


def test_a_slow_subscriber_does_not_hold_up_the_publisher() -> None:
    with context() as own:
        made = Publisher(own, ANY_PORT, SocketOptions(sndhwm=10, linger_s=0))
        lazy = subscriber(own, made.endpoint, b"")
        sync(made, lazy)
        for _ in range(20_000):
            made.send(b"quote.A", b"x" * 1000)
        assert made.sent >= 20_000
        made.close()


def test_closing_lets_queued_messages_go_out() -> None:
    with context() as own:
        made = Publisher(own, ANY_PORT, SocketOptions(linger_s=5))
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
            Publisher(own, first.publisher.endpoint, SocketOptions())
        text = str(caught.value)
        assert first.publisher.endpoint in text
        assert "is taken by" in text
        assert "stop it, or publish on another address" in text
        assert isinstance(caught.value.__cause__, zmq.ZMQError)


def test_the_holder_of_an_address_in_use_is_named_where_known(monkeypatch: pytest.MonkeyPatch) -> None:
    error = zmq.ZMQError(zmq.EADDRINUSE)
    monkeypatch.setattr("mt4pump.binding.holder_of", lambda endpoint: f"pid 4 on {endpoint}")
    assert "is taken by pid 4 on tcp://127.0.0.1:1" in bind_failure("tcp://127.0.0.1:1", error)
    monkeypatch.setattr("mt4pump.binding.holder_of", lambda _endpoint: None)
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
        Publisher(own, endpoint, SocketOptions())
    assert endpoint in str(caught.value)
    assert reason in str(caught.value)


def test_a_failed_bind_leaves_no_socket_behind() -> None:
    own: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with pytest.raises(BindError):
        Publisher(own, "nonsense", SocketOptions(linger_s=60))
    own.term()  # would wait for an open socket for ever
    assert own.closed
