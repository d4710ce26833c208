"""Settings to the plain values that the packages take: every one arrives, under its own name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from pydantic import SecretStr

from mt4pump.mt4.codes import PumpFlag
from mt4pump.publisher.publisher import SocketOptions
from mt4pump.settings import Settings
from mt4pump.wiring import options_of, pump_flags, session_plan

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


def test_the_supervisors_plan_is_the_settings_of_the_same_names() -> None:
    chosen: dict[str, Any] = {
        "login_timeout_s": 10.0,
        "start_timeout_s": 11.0,
        "liveness_timeout_s": 12.0,
        "watch_interval_s": 0.5,
        "reconnect_delay_s": 2.0,
        "reconnect_delay_max_s": 13.0,
        "refused_delay_s": 14.0,
    }
    plan = session_plan(settings(**chosen))
    assert {name: getattr(plan, name) for name in chosen} == chosen
    assert (plan.servers, plan.login, plan.password) == (("one:443", "two:443"), 7, "CANARY")
    assert plan.flags == pump_flags(settings(**chosen))


def test_every_field_of_the_plan_is_set_from_the_settings() -> None:
    plan = session_plan(settings())
    assert {field.name for field in fields(plan)} == {
        *("servers", "login", "password", "flags", "start_timeout_s", "liveness_timeout_s", "watch_interval_s"),
        *("login_timeout_s", "reconnect_delay_s", "reconnect_delay_max_s", "refused_delay_s"),
    }


@pytest.mark.parametrize(("hang_s", "login_s"), [(0.0, 30.0), (240.0, 30.0), (31.0, 30.0), (30.0, 15.0), (2.0, 1.0)])
def test_a_login_ends_before_the_daemon_would_though_nobody_set_its_limit(hang_s: float, login_s: float) -> None:
    assert session_plan(settings(hang_timeout_s=hang_s)).login_timeout_s == login_s


def test_the_password_is_not_in_what_the_plan_shows() -> None:
    assert "CANARY" not in repr(session_plan(settings()))


def test_the_simulator_needs_no_account() -> None:
    plan = session_plan(Settings(source="simulator"))
    assert (plan.servers, plan.login, plan.password) == (("simulator",), 1, "")


def test_the_simulator_takes_an_account_that_is_given() -> None:
    plan = session_plan(settings(source="simulator", servers=("demo:443",), login=65))
    assert (plan.servers, plan.login, plan.password) == (("demo:443",), 65, "CANARY")


@pytest.mark.parametrize(
    ("chosen", "flags"),
    [
        ({}, PumpFlag(0)),
        ({"quotes": False}, PumpFlag.HIDETICKS),
        ({"news": False}, PumpFlag.HIDENEWS),
        ({"mail": False}, PumpFlag.HIDEMAIL),
        ({"online": False}, PumpFlag.HIDEONLINE),
        ({"users": False}, PumpFlag.HIDEUSERS),
        ({"full_news": True}, PumpFlag.SENDFULLNEWS),
        (
            {"quotes": False, "news": False, "mail": False, "online": False, "users": False},
            PumpFlag.HIDETICKS | PumpFlag.HIDENEWS | PumpFlag.HIDEMAIL | PumpFlag.HIDEONLINE | PumpFlag.HIDEUSERS,
        ),
    ],
)
def test_flags_leave_out_what_nobody_wants(chosen: dict[str, bool], flags: PumpFlag) -> None:
    assert pump_flags(settings(**chosen)) == int(flags)
