"""Messages without an end, and floods: whoever sends them loses the connection, however many there are.

Private access: the table of connections, because messages of such sizes would have to be sent through real ones.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

import pytest

from mt4pump.publisher.descriptors import INCOMPLETE_BYTES, NOTED_BYTES, Connection, EndpointLimits
from mt4pump.publisher.received import CONNECTIONS_PER_CHECK, IncompleteMessages, Traffic
from tests.bus import until
from tests.publisher.test_limits import Served, served

EMPTY_FRAME = b"\x01\x00"
"""A frame without content that is not the last of its message."""
SMALL_BYTES = 64 * 1024
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux reports how much came")


def limit(made: Served, **limits: Any) -> None:
    """Have other limits of messages without an end."""
    made.publisher.connections.limits = replace(made.publisher.connections.limits, **limits)


@linux
@pytest.mark.parametrize("count", [1, 8], ids=["one connection", "many of one client"])
def test_who_sends_messages_without_an_end_loses_the_connection(count: int) -> None:
    with served() as made, ExitStack() as open_links:
        limit(made, incomplete_bytes_per_client=INCOMPLETE_BYTES)
        links = [open_links.enter_context(made.raw()) for _ in range(count)]
        block = EMPTY_FRAME * (INCOMPLETE_BYTES // count)  # where there are many, each stays below its own limit
        rest = dict.fromkeys(links, block)
        for each in links:
            each.setblocking(False)  # noqa: FBT003 - the standard library's

        def is_closed() -> bool:
            made.check()
            for each, left in rest.items():
                with suppress(OSError):
                    rest[each] = left[each.send(left) :]
            return made.fault_counters.counts["incomplete_message"] > 0

        until(is_closed, "one is closed")
        assert made.publisher.connections.senders_closed == made.publisher.connections.shut_out_count
        made.check_honest()


@linux
def test_complete_messages_do_not_count_as_one_without_an_end() -> None:
    with served() as made, made.raw() as eager:
        limit(made, incomplete_bytes=SMALL_BYTES)
        eager.sendall(b"".join(b"\x00\x15\x01quote.%014d" % number for number in range(10_000)))
        last = b"quote.%014d" % 9_999
        until(lambda: made.check() and made.publisher.subscriptions.has_subscriber(last), "all are subscribed")
        assert not made.publisher.connections.shut_out_count
        made.check_honest()


@linux
def test_subscriptions_that_wait_for_a_busy_pump_are_no_message_without_an_end() -> None:
    with served() as made, made.raw() as eager:
        limit(made, incomplete_bytes=SMALL_BYTES)
        count = 2 * SMALL_BYTES // 24
        eager.setblocking(False)  # noqa: FBT003 - the standard library's
        rest = b"".join(b"\x00\x15\x01quote.%014d" % number for number in range(count))

        def is_sent() -> bool:
            nonlocal rest
            made.publisher.send(b"quote.A", b"%d" % made.sent)  # libzmq takes what came, and nobody reads it
            made.sent += 1
            with suppress(BlockingIOError):
                rest = rest[eager.send(rest) :]
            return not rest

        until(is_sent, "all is sent")
        last = b"quote.%014d" % (count - 1)
        until(lambda: made.check() and made.publisher.subscriptions.has_subscriber(last), "all are subscribed")
        assert not made.publisher.connections.shut_out_count
        made.check_honest()


def test_every_connection_is_checked_in_turn_without_epoll() -> None:
    made = Traffic(0)
    made.close()
    numbers = range(CONNECTIONS_PER_CHECK + 10)
    first, *others = (set(made.take(numbers, 0.0)) for _ in range(3))
    assert first | others[0] == others[0] | others[1] == set(numbers)


def connection(client: str, size: int) -> Connection:
    made = Connection(f"{client}:1", 0.0, 0, EndpointLimits(1_000, 250))
    made.incomplete.size = size
    made.client = client
    return made


@pytest.mark.parametrize(
    ("sizes", "closed"),
    [
        ({"a": [60, 30], "b": [40]}, None),
        ({"a": [60, 50], "b": [90]}, "a"),
        ({"": [60, 50, 90]}, None),
        ({"a": [90], "b": [80], "c": [80], "d": [80]}, "a"),
        ({"": [60, 50], "b": [95], "c": [95]}, ""),
    ],
    ids=["within all limits", "one client", "clients that are not known yet", "all together", "the unknown together"],
)
def test_the_largest_of_the_client_that_sent_most_is_closed(sizes: dict[str, list[int]], closed: str | None) -> None:
    limits = EndpointLimits(
        *(1_000, 250), incomplete_bytes=10**6, incomplete_bytes_per_client=100_000, incomplete_bytes_total=290_000
    )
    messages, every = IncompleteMessages(), [(client, size * 1_000) for client in sizes for size in sizes[client]]
    for number, (client, size) in enumerate(every):
        assert size > NOTED_BYTES
        made = connection(client, size)
        messages._connections[number] = made  # noqa: SLF001
    found = messages.excess(limits)
    assert (found and found[1].client) == closed
    if found:
        assert found[1].incomplete.size == max(size for client, size in every if client == closed)
        messages.forget(found[0])
        assert messages.excess(limits) is None
