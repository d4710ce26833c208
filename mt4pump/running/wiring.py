"""From the settings to the plain values that the rooms take."""

from __future__ import annotations

from pathlib import Path

from mt4pump.journal import JournalOptions
from mt4pump.manager_api.codes import PumpFlag
from mt4pump.publishing.peers import ConnectionLimits
from mt4pump.publishing.publisher import SocketOptions
from mt4pump.pumping.intake import IntakeOptions
from mt4pump.query import QueryOptions
from mt4pump.session import SessionPlan
from mt4pump.settings import Settings

COMPARISON_SLICE_S = 0.003
"""How long the pump thread compares whole tables in one go, before it looks for events again."""


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
        max_connections=settings.max_connections,
        max_connections_per_client=settings.max_connections_per_client,
    )


def query_limits(settings: Settings) -> ConnectionLimits:
    """Return how many connections the query endpoint may have: as many as the events endpoint."""
    return ConnectionLimits(
        settings.max_connections,
        settings.max_connections_per_client,
        burst_bytes=0,
        by_address=settings.curve_secret_key is None,
    )


def query_options(settings: Settings) -> QueryOptions:
    """Return the query endpoint's part of the settings."""
    return QueryOptions(transport=socket_options(settings))


def journal_path(settings: Settings) -> Path:
    """Return where the journal is."""
    return settings.data_dir / "journal.sqlite3"


def journal_options(settings: Settings) -> JournalOptions:
    """Return the journal's part of the settings.

    The open orders that it remembers are those of one account on one broker's servers: of another, they are no use.
    """
    servers = ",".join(sorted(settings.servers))
    return JournalOptions(
        synchronous=settings.journal_synchronous,
        max_age_s=settings.journal_max_age_s,
        max_bytes=settings.journal_max_bytes,
        identity=f"{settings.source}:{settings.login or 0}@{servers}",
    )


def intake_options(settings: Settings) -> IntakeOptions:
    """Return the intake's part of the settings."""
    return IntakeOptions(
        slice_s=COMPARISON_SLICE_S,
        encoding=settings.encoding,
        symbols=settings.symbols,
        user_fields=frozenset(settings.user_fields),
        mail_fields=frozenset(settings.mail_fields),
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
        login_timeout_s=login_timeout_s(settings),
        start_timeout_s=settings.start_timeout_s,
        liveness_timeout_s=settings.liveness_timeout_s,
        watch_interval_s=settings.watch_interval_s,
        reconnect_delay_s=settings.reconnect_delay_s,
        reconnect_delay_max_s=settings.reconnect_delay_max_s,
        refused_delay_s=settings.refused_delay_s,
    )


def login_timeout_s(settings: Settings) -> float:
    """Return the time limit of a login: before `hang_timeout_s` would end the daemon, also where that is short."""
    hang_s = settings.hang_timeout_s
    return (
        min(settings.login_timeout_s, hang_s / 2)
        if 0 < hang_s <= settings.login_timeout_s
        else settings.login_timeout_s
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
