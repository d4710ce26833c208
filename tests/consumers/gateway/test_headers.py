"""Headers: what is refused, and whose address counts behind proxies."""

from __future__ import annotations

import pytest
from mt4pump_consumers.gateway.http import HOPS_LIMIT, SINGLE, TrustedProxies, fault_in, group_of
from websockets.datastructures import Headers
from websockets.http11 import Request


def request(*headers: tuple[str, str], protocol: str = "HTTP/1.1") -> Request:
    made = Request("/", Headers(), "GET", protocol)
    for name, value in headers:
        made.headers[name] = value
    return made


@pytest.mark.parametrize("name", SINGLE)
def test_a_header_that_comes_twice_is_a_fault(name: str) -> None:
    others = () if name == "Host" else (("Host", "a.example"),)
    assert (
        fault_in(request(*others, (name, "a.example"), (name.upper(), "a.example"))) == f"more than one {name} header"
    )


@pytest.mark.parametrize(
    "host", ["", " ", "a b", "a.example, b.example", "http://a.example", "a/b", "a@b", "[::1", "a:b", "a:123456", "é"]
)
def test_a_host_that_is_none_is_a_fault(host: str) -> None:
    assert fault_in(request(("Host", host))) == "Host header is not a name or an address"


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "quotes.example.com", "[::1]:8765", "a_b-c.example:", "localhost"])
def test_a_host_that_is_one_is_none(host: str) -> None:
    assert not fault_in(request(("Host", host)))


def test_a_request_without_a_host_is_a_fault_but_for_the_oldest_protocol() -> None:
    assert fault_in(request()) == "no Host header"
    assert not fault_in(request(protocol="HTTP/1.0"))


def forwarded(peer: str, *lines: str, trusted: tuple[str, ...] = ("10.0.0.0/8", "127.0.0.1", "2001:db8::/32")) -> str:
    headers = request(*(("X-Forwarded-For", line) for line in lines)).headers
    return TrustedProxies(trusted).client(peer, headers)


def test_nobody_is_believed_unless_set() -> None:
    assert forwarded("127.0.0.1", "203.0.113.7", trusted=()) == "127.0.0.1"
    assert forwarded("192.0.2.1", "203.0.113.7") == "192.0.2.1"


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        (["203.0.113.7"], "203.0.113.7"),
        (["8.8.8.8, 203.0.113.7"], "203.0.113.7"),  # what the client wrote itself stands to the left
        (["127.0.0.1", "203.0.113.7"], "203.0.113.7"),
        (["203.0.113.7, 10.1.2.3, 10.4.5.6"], "203.0.113.7"),
        (["203.0.113.7", "10.1.2.3"], "203.0.113.7"),
        (["203.0.113.7:4711"], "203.0.113.7"),
        (["[2001:4860::1]:4711"], "2001:4860::1"),
        (["2001:4860::1"], "2001:4860::1"),
        (['"203.0.113.7"'], "203.0.113.7"),
        (["::ffff:203.0.113.7"], "203.0.113.7"),
        (["203.0.113.7, nonsense, 10.1.2.3"], "10.1.2.3"),
        (["nonsense"], "127.0.0.1"),
        ([""], "127.0.0.1"),
        ([], "127.0.0.1"),
        (["10.1.2.3"], "10.1.2.3"),
        (["203.0.113.7" + ", 10.1.2.3" * (HOPS_LIMIT * 2)], "10.1.2.3"),
    ],
)
def test_the_client_is_the_rightmost_address_that_is_no_proxy_of_ours(lines: list[str], client: str) -> None:
    assert forwarded("127.0.0.1", *lines) == client
    assert forwarded("::ffff:127.0.0.1", *lines) in {client, "::ffff:127.0.0.1"}


def test_an_ipv6_client_counts_as_its_network_and_an_ipv4_one_as_itself() -> None:
    assert group_of("2001:db8:1:2:3:4:5:6") == group_of("2001:db8:1:2::1") != group_of("2001:db8:1:3::1")
    assert group_of("::ffff:203.0.113.7") == group_of("203.0.113.7") != group_of("203.0.113.8")
    assert group_of("") == ""
