"""Who may connect, and settings that are refused.

Private access: the tables by owner and address, because what stays behind in them shows only after very many
connections.
"""

from __future__ import annotations

import pytest
from mt4pump_consumers.gateway.limits import SLACK, ConnectionLimiter, CountedConnection, Origins
from mt4pump_consumers.gateway.settings import GatewaySettings
from pydantic import ValidationError

from mt4pump.process.values import is_loopback


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, "127.0.0.1:8765", True),
        ("http://127.0.0.1:8765", "127.0.0.1:8765", True),
        ("http://localhost:8765", "localhost:8765", True),
        ("http://[::1]:8765", "[::1]:8765", True),
        ("https://app.example.com", "quotes.example.com", True),
        ("http://evil.example", "127.0.0.1:8765", False),
        ("http://evil.example:8765", "evil.example:8765", False),  # DNS rebinding: its own name, our address
        ("http://127.0.0.1:9999", "127.0.0.1:8765", False),
        ("null", "127.0.0.1:8765", False),
        ("file://127.0.0.1", "127.0.0.1", False),
    ],
)
def test_only_our_own_page_and_those_named_may_connect(origin: str | None, host: str, allowed: bool) -> None:  # noqa: FBT001
    assert Origins(["https://app.example.com/"]).allow(origin, host) is allowed


class Connection:
    """Stands in for a connection; ``ended`` says that the limiter ended it, and it has left since."""

    def __init__(self, limiter: ConnectionLimiter, group: str, owner: str = "") -> None:
        self.limiter, self.counted = limiter, CountedConnection(self.abort, group)
        self.ended = False
        self.delay_s = limiter.arrived(self.counted)
        self.fits = self.delay_s is not None
        if owner:
            self.enter(owner)

    def enter(self, owner: str) -> bool:
        return self.limiter.admitted(self.counted, owner)

    def abort(self) -> None:
        self.ended = True
        self.leave()

    def leave(self) -> None:
        self.limiter.left(self.counted)

    def refusal(self) -> str:
        return self.limiter.refusal(self.counted)


def limiter(
    connections: int = 3, per_address: int = 2, per_token: int = 100, new_per_s: float = 1000
) -> ConnectionLimiter:
    settings = GatewaySettings(
        anonymous=True,
        connections=connections,
        connections_per_address=per_address,
        connections_per_token=per_token,
        new_connections_per_s=new_per_s,
    )
    return ConnectionLimiter(settings, lambda: 0.0)


def test_connections_are_counted_over_all_and_per_address() -> None:
    full = limiter()
    first, second, third, other = (Connection(full, group, "token") for group in ("a", "a", "a", "b"))
    assert "too many connections" in third.refusal()
    assert "try again later" in other.refusal()
    first.leave()
    second.leave()
    assert not other.refusal()
    many = [Connection(full, "c", "token") for _ in range(SLACK + 3)]
    assert many[0].fits
    assert not many[-1].fits


def test_the_oldest_connection_that_has_not_logged_in_gives_way_to_a_new_one() -> None:
    full = limiter(connections=4, per_address=2)
    inside = Connection(full, "a", "token")
    silent = Connection(full, "a")
    new = Connection(full, "a")
    assert (inside.ended, silent.ended, new.ended) == (False, True, False)
    assert not new.refusal()
    new.enter("token")
    assert "your address" in Connection(full, "a").refusal()  # who is logged in gives way to nobody
    others = [Connection(full, group) for group in ("b", "c")]
    assert others[0].ended or full.count <= 4
    assert full.gave_way >= 2


def test_new_connections_of_one_address_come_at_a_bounded_rate_and_others_do_not_notice() -> None:
    busy = limiter(connections=10_000, per_address=10_000, new_per_s=2)
    delays = [Connection(busy, "a").delay_s for _ in range(30)]
    assert delays == [0] * 10 + [number / 2 for number in range(1, 11)] + [None] * 10
    assert busy.too_fast == 20
    assert Connection(busy, "b").delay_s == 0


def test_a_token_has_a_limit_of_connections_and_another_login_of_the_same_one_counts_once() -> None:
    full = limiter(connections=100, per_address=100, per_token=2)
    first, second = Connection(full, "a", "support"), Connection(full, "b", "support")
    third = Connection(full, "c")
    assert not third.enter("support")
    assert first.enter("support")
    assert second.enter("other")
    assert third.enter("support")
    for connection in (first, second, third):
        connection.leave()
    assert full.count == 0
    assert not full._by_owner  # noqa: SLF001
    assert not full._by_address  # noqa: SLF001
    assert not full._unauthenticated  # noqa: SLF001


def test_behind_a_trusted_proxy_the_limit_is_that_of_the_client() -> None:
    full = limiter(connections=100, per_address=1)
    ones = [Connection(full, "") for _ in range(5)]
    assert all(connection.fits for connection in ones)
    for number, connection in enumerate(ones):
        assert full.moved(connection.counted, f"203.0.113.{number % 4}")
        connection.enter("token")
    assert [bool(connection.refusal()) for connection in ones] == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({}, "nobody could log in"),
        ({"anonymous": True, "host": "0.0.0.0", "allow_plaintext": True}, "anonymous"),  # noqa: S104 - it is refused
        ({"jwt_secret": "x", "host": "0.0.0.0"}, "open to other machines"),  # noqa: S104 - it is refused
        ({"anonymous": True, "tls_key": "k.pem"}, "go together"),
        ({"jwt_secret": "x", "jwt_public_key": "k.pem"}, "both set; give one of them"),
        ({"anonymous": True, "trusted_proxies": ("proxy.example",)}, "no address or network"),
    ],
)
def test_settings_that_are_unsafe_or_of_no_use_are_refused(flags: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        GatewaySettings(**flags)  # type: ignore[arg-type]


def test_loopback_is_known_in_every_spelling() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost", "::ffff:127.0.0.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.com", "127.0.0.1.example.com")))  # noqa: S104
