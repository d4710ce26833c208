"""Who may connect, and settings that are refused."""

from __future__ import annotations

import pytest
from mt4pump_consumers.gateway.gate import SLACK, Gate, Origins
from mt4pump_consumers.gateway.settings import GatewaySettings, is_loopback
from pydantic import ValidationError


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, "127.0.0.1:8765", True),
        ("http://127.0.0.1:8765", "127.0.0.1:8765", True),
        ("http://localhost:8765", "localhost:8765", True),
        ("http://[::1]:8765", "[::1]:8765", True),
        ("https://desk.example.com", "quotes.example.com", True),
        ("http://evil.example", "127.0.0.1:8765", False),
        ("http://evil.example:8765", "evil.example:8765", False),  # DNS rebinding: its own name, our address
        ("http://127.0.0.1:9999", "127.0.0.1:8765", False),
        ("null", "127.0.0.1:8765", False),
        ("file://127.0.0.1", "127.0.0.1", False),
    ],
)
def test_only_our_own_page_and_those_named_may_connect(origin: str | None, host: str, allowed: bool) -> None:  # noqa: FBT001
    assert Origins(["https://desk.example.com/"]).allow(origin, host) is allowed


def test_connections_are_counted_over_all_and_per_address() -> None:
    gate = Gate(3, 2)
    for address in ("a", "a", "a", "b"):
        assert gate.arrived(address)
    assert "your address" in gate.refusal("a") or "too many" in gate.refusal("a")
    assert "try again later" in gate.refusal("b")
    gate.left("a")
    gate.left("a")
    assert not gate.refusal("b")
    for _ in range(SLACK + 1):
        gate.arrived("c")
    assert not gate.arrived("c")


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({}, "nobody could log in"),
        ({"anonymous": True, "host": "0.0.0.0", "allow_plaintext": True}, "anonymous"),  # noqa: S104 - it is refused
        ({"jwt_secret": "x", "host": "0.0.0.0"}, "open to other machines"),  # noqa: S104 - it is refused
        ({"anonymous": True, "tls_key": "k.pem"}, "go together"),
        ({"jwt_secret": "x", "jwt_public_key": "k.pem"}, "not both"),
    ],
)
def test_settings_that_are_unsafe_or_of_no_use_are_refused(flags: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        GatewaySettings(**flags)  # type: ignore[arg-type]


def test_loopback_is_known_in_every_spelling() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost", "::ffff:127.0.0.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.com", "127.0.0.1.example.com")))  # noqa: S104
