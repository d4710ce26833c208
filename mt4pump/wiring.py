"""From the settings to the plain values that the rooms take."""

from __future__ import annotations

from mt4pump.codes import PumpFlag
from mt4pump.intake import IntakeOptions
from mt4pump.publisher import SocketOptions
from mt4pump.session import SessionPlan
from mt4pump.settings import Settings


def socket_options(settings: Settings) -> SocketOptions:
    """Return the publisher's part of the settings."""
    return SocketOptions(
        sndhwm=settings.sndhwm,
        zmtp_heartbeat_ivl_s=settings.zmtp_heartbeat_ivl_s,
        zmtp_heartbeat_timeout_s=settings.zmtp_heartbeat_timeout_s,
        tcp_keepalive=settings.tcp_keepalive,
        tcp_keepalive_idle_s=settings.tcp_keepalive_idle_s,
        ipv6=settings.ipv6,
        linger_s=settings.linger_s,
    )


def intake_options(settings: Settings) -> IntakeOptions:
    """Return the intake's part of the settings."""
    return IntakeOptions(
        encoding=settings.encoding,
        symbols=settings.symbols,
        user_fields=frozenset(settings.user_fields),
        plugin_parameters=settings.plugin_parameters,
    )


def session_plan(settings: Settings) -> SessionPlan:
    """Return the supervisor's part of the settings; the simulator needs no account."""
    simulated = settings.source == "simulator"
    return SessionPlan(
        servers=settings.servers or (("simulator",) if simulated else ()),
        login=settings.login or (1 if simulated else 0),
        password=settings.password.get_secret_value() if settings.password else "",
        flags=pump_flags(settings),
        start_timeout_s=settings.start_timeout_s,
        liveness_timeout_s=settings.liveness_timeout_s,
        watch_interval_s=settings.watch_interval_s,
        reconnect_delay_s=settings.reconnect_delay_s,
        reconnect_delay_max_s=settings.reconnect_delay_max_s,
        refused_delay_s=settings.refused_delay_s,
    )


def pump_flags(settings: Settings) -> int:
    """Return the CLIENT_FLAGS_* that leave out what nobody wants."""
    flags = PumpFlag(0)
    for wanted, flag in (
        (settings.quotes, PumpFlag.HIDETICKS),
        (settings.news, PumpFlag.HIDENEWS),
        (settings.mail, PumpFlag.HIDEMAIL),
        (settings.online, PumpFlag.HIDEONLINE),
        (settings.users, PumpFlag.HIDEUSERS),
        (not settings.full_news, PumpFlag.SENDFULLNEWS),
    ):
        if not wanted:
            flags |= flag
    return int(flags)
