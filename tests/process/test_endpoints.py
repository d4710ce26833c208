"""Ports and hosts of addresses, and where queries go."""

from __future__ import annotations

import pytest

from mt4pump.process.endpoints import endpoint_host, next_port


@pytest.mark.parametrize(
    ("endpoint", "queries"),
    [
        ("tcp://127.0.0.1:5556", "tcp://127.0.0.1:5557"),
        ("tcp://[::1]:5556", "tcp://[::1]:5557"),
        ("tcp://feed.example.com:1", "tcp://feed.example.com:2"),
        ("tcp://127.0.0.1:65535", "tcp://127.0.0.1:65536"),
        ("tcp://127.0.0.1:65536", None),
        ("tcp://127.0.0.1:" + 5_000 * "9", None),
        ("tcp://127.0.0.1:0", None),
        ("tcp://127.0.0.1:*", None),
        ("tcp://127.0.0.1", None),
        ("ipc:///run/mt4pump.sock:5556", None),
        ("", None),
    ],
)
def test_queries_go_to_the_next_port_of_the_same_host(endpoint: str, queries: str | None) -> None:
    assert next_port(endpoint) == queries


@pytest.mark.parametrize(
    ("endpoint", "host"), [("tcp://[::1]:5556", "::1"), ("tcp://*:5556", "*"), ("ipc:///run/a:1", None)]
)
def test_the_host_of_an_address_has_no_brackets(endpoint: str, host: str | None) -> None:
    assert endpoint_host(endpoint) == host
