"""Settings to the plain values that the packages take: every one arrives, under its own name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from pydantic import SecretStr

from mt4pump.publisher.publisher import SocketOptions
from mt4pump.settings import Settings
from mt4pump.wiring import options_of

ACCOUNT: dict[str, Any] = {"servers": ("one:443", "two:443"), "login": 7, "password": SecretStr("CANARY")}


def settings(**values: Any) -> Settings:
    return Settings(**{**ACCOUNT, **values})


def test_the_publishers_options_are_the_settings_of_the_same_names() -> None:
    chosen: dict[str, Any] = {
        "sndhwm": 77,
        "zmtp_heartbeat_ivl_s": 1.5,
        "zmtp_heartbeat_timeout_s": 2.5,
        "tcp_keepalive": False,
        "tcp_keepalive_idle_s": 9,
        "ipv6": True,
        "linger_s": 0.3,
        "max_connections": 70,
        "max_connections_per_client": 7,
    }
    options = options_of(SocketOptions, settings(**chosen))
    assert {field.name: getattr(options, field.name) for field in fields(options)} == chosen
    assert options_of(SocketOptions, settings()) == SocketOptions()
