"""`Settings`: the fields of the table, and the checks of values that are right one by one and wrong together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mt4pump.process.settings import Disagreement
from mt4pump.process.values import is_loopback
from mt4pump.settings.schema import SettingFields
from mt4pump.settings.validators import collide, endpoint_host

SIMULATOR_ONLY = ("ticks", "speed", "rate", "seed", "accounts", "faults", "wire_faults")
NEEDED_BY_DLL = {"servers": "host:port", "login": "the manager's number", "password": "the manager's password"}

ENDPOINTS = ("pub_endpoint", "query_endpoint")
CURVE = ("curve_secret_key", "curve_clients")
QUOTE = "quote"


class Settings(SettingFields):
    """Everything that can be set, checked: values in their bounds, and no two that contradict each other.

    Made by `mt4pump.settings.load`. Made directly, it takes its arguments and defaults, never the environment.
    """

    def disagreements(self) -> Iterator[Disagreement]:
        """Yield what every check finds."""
        for check in _CHECKS:
            yield from check(self)


def _dll_needs(settings: SettingFields) -> Iterator[Disagreement]:
    if settings.source != "dll":
        return
    for name, what in NEEDED_BY_DLL.items():
        if not getattr(settings, name):
            cure = f"set MT4PUMP_{name.upper()} to {what}, or try without a DLL: --source simulator"
            yield Disagreement((name, "source"), f"is needed by source dll; {cure}")


def _servers_by_ipv4(settings: SettingFields) -> Iterator[Disagreement]:
    if settings.source != "dll":
        return
    for server in settings.servers:
        if server.startswith("["):
            text = "is an IPv6 address, and the vendor's library connects by IPv4 only"
            cure = "write the server's IPv4 address, or a name that has one"
            yield Disagreement(("servers", "source"), f"{server} {text}; {cure}")


def _login_ends_before_a_hang(settings: SettingFields) -> Iterator[Disagreement]:
    """Refuse what was set so; a ``login_timeout_s`` that was not set gives way, see `session_plan`."""
    if "login_timeout_s" not in settings.model_fields_set:
        return
    if 0 < settings.hang_timeout_s <= settings.login_timeout_s:
        text = f"{settings.login_timeout_s:g} is not less than hang_timeout_s {settings.hang_timeout_s:g}"
        cure = (
            "a silent server would end the daemon before the next one is tried; make it less, or hang_timeout_s longer"
        )
        yield Disagreement(("login_timeout_s", "hang_timeout_s"), f"{text}: {cure}")


def _simulator_only(settings: SettingFields) -> Iterator[Disagreement]:
    if settings.source == "simulator":
        return
    for name in SIMULATOR_ONLY:
        if name in settings.model_fields_set:
            yield Disagreement(
                (name, "source"),
                "is a setting of the simulator, and source is dll; set --source simulator or leave it out",
            )


def _replay(settings: SettingFields) -> Iterator[Disagreement]:
    if settings.source == "simulator" and "speed" in settings.model_fields_set and not settings.ticks:
        yield Disagreement(
            ("speed", "ticks"), "is the pace of a replay, and there are no ticks; set --ticks FILE, or --rate instead"
        )


def _publishing(settings: SettingFields) -> Iterator[Disagreement]:
    if settings.full_news and not settings.news:
        yield Disagreement(("full_news", "news"), "is on, and news is off; switch news on, or full_news off")
    if settings.user_fields and not settings.users:
        yield Disagreement(("user_fields", "users"), "is set, and users is off; switch users on, or empty user_fields")
    if settings.mail_fields and not settings.mail:
        yield Disagreement(("mail_fields", "mail"), "is set, and mail is off; switch mail on, or empty mail_fields")


def _reachable(settings: SettingFields) -> Iterator[Disagreement]:
    encrypted = settings.curve_secret_key is not None or settings.curve_clients is not None
    for name in ENDPOINTS:
        endpoint: str | None = getattr(settings, name)
        host = endpoint_host(endpoint) if endpoint else None
        if host is None:
            continue
        if not is_loopback(host) and not settings.allow_plaintext and not encrypted:
            yield Disagreement(
                (name, "allow_plaintext", *CURVE),
                f"{endpoint} may be reached from other machines, where everybody could read trades in plain text; "
                "use tcp://127.0.0.1:PORT, or encrypt with curve_secret_key and curve_clients (mt4pump keygen), "
                "or set --allow-plaintext if the network is yours alone",
            )
        if ":" in host and not settings.ipv6:
            yield Disagreement((name, "ipv6"), f"{endpoint} is an IPv6 address; set --ipv6 too")


def _endpoints_differ(settings: SettingFields) -> Iterator[Disagreement]:
    if settings.query_endpoint and collide(settings.pub_endpoint, settings.query_endpoint):
        text = f"{settings.query_endpoint} is taken by pub_endpoint {settings.pub_endpoint}; use another port, or none"
        yield Disagreement(("query_endpoint", "pub_endpoint"), text)


def _curve(settings: SettingFields) -> Iterator[Disagreement]:
    for name, other, what in (
        (*CURVE, "a folder with the public keys of those who may connect"),
        (*reversed(CURVE), "the file with the daemon's secret key (mt4pump keygen makes it)"),
    ):
        if getattr(settings, name) is not None and getattr(settings, other) is None:
            yield Disagreement((name, other), f"is set, and {other} is not; set {other} to {what}")


def _journal(settings: SettingFields) -> Iterator[Disagreement]:
    if "durable" not in settings.model_fields_set:
        return
    if not settings.journal:
        yield Disagreement(
            ("durable", "journal"),
            "is set, and the journal that would store it is off; switch journal on, or leave durable out",
        )
    if QUOTE in settings.durable and not settings.quotes:
        yield Disagreement(("durable", "quotes"), "has quote, and quotes is off; switch quotes on, or leave quote out")


def _times(settings: SettingFields) -> Iterator[Disagreement]:
    if settings.reconnect_delay_s > settings.reconnect_delay_max_s:
        yield _order("reconnect_delay_s", settings.reconnect_delay_s, "reconnect_delay_max_s")
    if settings.watch_interval_s > settings.liveness_timeout_s:
        yield _order("watch_interval_s", settings.watch_interval_s, "liveness_timeout_s")
    if settings.zmtp_heartbeat_ivl_s > settings.zmtp_heartbeat_timeout_s:
        yield _order("zmtp_heartbeat_ivl_s", settings.zmtp_heartbeat_ivl_s, "zmtp_heartbeat_timeout_s")


def _order(lesser: str, value: float, greater: str) -> Disagreement:
    return Disagreement(
        (lesser, greater), f"{value:g} is more than {greater}; make it at most that, or {greater} longer"
    )


_CHECKS: tuple[Callable[[SettingFields], Iterator[Disagreement]], ...] = (
    _dll_needs,
    _servers_by_ipv4,
    _login_ends_before_a_hang,
    _simulator_only,
    _replay,
    _publishing,
    _reachable,
    _endpoints_differ,
    _curve,
    _journal,
    _times,
)
