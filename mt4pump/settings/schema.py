"""The table of settings, and the checks of values that are right one by one and wrong together.

Descriptions become ``--help``; bounds stand in the types; units end the names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import BeforeValidator, Field, SecretStr

from mt4pump.process.endpoints import endpoint_host
from mt4pump.process.settings import Disagreement, ProgramSettings, setting
from mt4pump.process.values import ByteSize, LogFormat, LogLevel, PathValue, Seconds, is_loopback, lower
from mt4pump.settings.validators import (
    USUAL,
    DurableKinds,
    Encoding,
    Endpoint,
    EndpointOrNone,
    Faults,
    MailFields,
    Paths,
    Rate,
    ServerCode,
    Servers,
    Speed,
    SymbolPatterns,
    TickSymbol,
    TickZone,
    TopicSuffix,
    UserFields,
    WireFaultTexts,
    collide,
)
from mt4pump.wire import QUOTE

MANAGER, PUBLISHED, WIRE = "Manager session", "What is published", "Wire"
SAFETY, JOURNAL = "Safety", "Journal"
CARE, SIMULATOR, LOGS = "Session care", "Simulator", "Logs"
LOGIN_MAX = 2**31 - 1
SIMULATOR_ONLY = ("ticks", "speed", "rate", "seed", "accounts", "faults", "wire_faults")
NEEDED_BY_DLL = {"servers": "host:port", "login": "the manager's number", "password": "the manager's password"}
ENDPOINTS = ("pub_endpoint", "query_endpoint")
CURVE = ("curve_secret_key", "curve_clients")
NOT_LONGER = {
    "reconnect_delay_s": "reconnect_delay_max_s",
    "watch_interval_s": "liveness_timeout_s",
    "zmtp_heartbeat_ivl_s": "zmtp_heartbeat_timeout_s",
}
"""Times, and the one that each may reach at most."""


def _data_dir() -> Path:
    return Path(platformdirs.user_data_dir("mt4pump", appauthor=False))


class Settings(ProgramSettings):
    """Everything that can be set, checked: values in their bounds, and no two that contradict each other.

    Made by `mt4pump.settings.load`. Made directly, it takes its arguments and defaults, never the environment.
    """

    program = "mt4pump"
    help_command = "mt4pump run"

    source: Annotated[Literal["dll", "simulator"], BeforeValidator(lower)] = setting(
        MANAGER, "where events come from: the vendor's library, or the built-in simulator", "dll"
    )
    dll_path: PathValue | None = setting(MANAGER, "mtmanapi.dll or mtmanapi64.dll; looked for if not set")
    servers: Servers = setting(MANAGER, "MT4 servers as host:port, tried in turn; without a port 443", ())
    login: Annotated[int, Field(ge=1, le=LOGIN_MAX)] | None = setting(MANAGER, "manager account number")
    password: Annotated[SecretStr, Field(min_length=1)] | None = setting(
        MANAGER, "manager password; other users of the machine see flags: better the environment or .env"
    )
    encoding: Encoding = setting(MANAGER, "code page of the server's text", "cp1252")
    server_utc_offset_s: Annotated[int, Field(ge=-50_400, le=50_400, multiple_of=900)] | None = setting(
        MANAGER, "server clock minus UTC, in quarters of an hour; found from live quotes if not set"
    )

    server_code: ServerCode = setting(
        PUBLISHED, "short name of the MT4 server in heartbeats, for readers that store events of several servers", ""
    )
    symbols: SymbolPatterns = setting(
        PUBLISHED, "symbols to ask quotes for: patterns with * and ?, a ! before those to leave out", ("*",)
    )
    quotes: bool = setting(PUBLISHED, "publish quotes", default=True)
    news: bool = setting(PUBLISHED, "publish news", default=True)
    full_news: bool = setting(PUBLISHED, "have the server send news with their bodies", default=False)
    mail: bool = setting(PUBLISHED, "publish internal mail", default=True)
    online: bool = setting(PUBLISHED, "publish clients that come and go", default=True)
    users: bool = setting(PUBLISHED, "publish account changes", default=True)
    user_fields: UserFields = setting(PUBLISHED, "personal fields of accounts to publish too, as name,email", ())
    mail_fields: MailFields = setting(PUBLISHED, "personal parts of mails to publish too: from,subject,body", ())
    plugin_parameters: bool = setting(PUBLISHED, "publish the parameters of server plugins", default=False)

    pub_endpoint: Endpoint = setting(
        WIRE, "address to publish on: tcp:// or ipc://", "tcp://127.0.0.1:5556", metavar="ADDRESS"
    )
    query_endpoint: EndpointOrNone = setting(
        WIRE,
        "address that answers describe, snapshot and replay; none for no answers",
        "tcp://127.0.0.1:5557",
        metavar="ADDRESS",
    )
    sndhwm: Annotated[int, Field(ge=1, le=100_000_000)] = setting(
        WIRE, "messages kept for a slow subscriber before it loses some", 100_000
    )
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = setting(
        WIRE, "connections that each of the two addresses takes at most", 1_000
    )
    max_connections_per_client: Annotated[int, Field(ge=1, le=100_000)] = setting(
        WIRE, "connections of one client at most: of one key, or of one address where there are no keys", 250
    )
    heartbeat_interval_s: Annotated[Seconds, Field(ge=0.05, le=60)] = setting(WIRE, "seconds between heartbeats", 1.0)
    zmtp_heartbeat_ivl_s: Annotated[Seconds, Field(ge=0, le=3600)] = setting(
        WIRE, "seconds between pings that find dead subscribers; 0 for none", 5.0
    )
    zmtp_heartbeat_timeout_s: Annotated[Seconds, Field(ge=0.1, le=3600)] = setting(
        WIRE, "seconds without an answer after which a subscriber is dropped", 15.0
    )
    tcp_keepalive: bool = setting(WIRE, "have the system probe idle connections", default=True)
    tcp_keepalive_idle_s: Annotated[int, Field(ge=1, le=32_767)] = setting(
        WIRE, "idle seconds before the system's first probe", 60
    )
    ipv6: bool = setting(WIRE, "use IPv6 as well", default=False)
    linger_s: Annotated[Seconds, Field(ge=0, le=60)] = setting(
        WIRE, "seconds to get out the last messages at stop", 0.2
    )

    allow_plaintext: bool = setting(SAFETY, "allow addresses that other machines reach, unencrypted", default=False)
    curve_secret_key: PathValue | None = setting(
        SAFETY, "file with the daemon's secret key (mt4pump keygen makes it): encrypts both addresses"
    )
    curve_clients: PathValue | None = setting(
        SAFETY, "folder with one file per client that may connect: its public key, and the topics it may read"
    )
    topic_suffix: TopicSuffix = setting(
        SAFETY,
        "character that ends every topic, so that a prefix can mean one topic alone: | ; , or a control character, "
        r"as \x1f (or us, which is the same); none for no such character",
        "",
        metavar="CHARACTER",
        shown="none",
    )

    journal: bool = setting(
        JOURNAL, "store durable events before they are published, so that readers can have them again", default=True
    )
    durable: DurableKinds = setting(
        JOURNAL, "kinds of event to store: a list, or changes to the usual one, as +quote,-mail", USUAL, metavar="KIND"
    )
    journal_synchronous: Annotated[Literal["off", "normal", "full", "extra"], BeforeValidator(lower)] = setting(
        JOURNAL,
        "what a power loss may cost (a crash of the daemon costs nothing with any of them): off the whole journal; "
        "normal the commits of the last seconds; full nothing, but each commit waits for the disk; extra is an old "
        "name of full",
        "normal",
    )
    journal_max_age_s: Annotated[Seconds, Field(ge=0, le=3_155_760_000)] = setting(
        JOURNAL, "seconds after which stored events may be deleted; 0 for no limit", 7 * 86_400.0
    )
    journal_max_bytes: ByteSize = setting(
        JOURNAL,
        "size of the journal, write-ahead log included, above which its oldest events are deleted, as 500MB or 4GiB",
        4 * 1024**3,
    )

    inbox_limit: Annotated[int, Field(ge=1, le=100_000_000)] = setting(
        CARE, "events that may wait to be published; more are refused and counted", 200_000
    )
    login_timeout_s: Annotated[Seconds, Field(ge=0.1, le=3600)] = setting(
        CARE, "seconds that connecting and logging in may take together; then the next server is tried", 30.0
    )
    start_timeout_s: Annotated[Seconds, Field(ge=0.1, le=3600)] = setting(
        CARE, "seconds that the server may take to start pumping", 60.0
    )
    liveness_timeout_s: Annotated[Seconds, Field(ge=0.1, le=3600)] = setting(
        CARE, "seconds without any sign of life after which the session is dead", 60.0
    )
    watch_interval_s: Annotated[Seconds, Field(ge=0.01, le=60)] = setting(
        CARE, "seconds between checks of the session", 1.0
    )
    reconnect_delay_s: Annotated[Seconds, Field(ge=0.01, le=3600)] = setting(
        CARE, "seconds before the first new attempt; doubles with each further one", 1.0
    )
    reconnect_delay_max_s: Annotated[Seconds, Field(ge=0.01, le=86_400)] = setting(
        CARE, "longest seconds between two attempts", 60.0
    )
    refused_delay_s: Annotated[Seconds, Field(ge=0.01, le=86_400)] = setting(
        CARE, "seconds between attempts while the server refuses the login", 300.0
    )
    reconcile_interval_s: Annotated[Seconds, Field(ge=0, le=86_400)] = setting(
        CARE, "seconds between comparisons of all trades and accounts with the server's; 0 for never", 300.0
    )
    hang_timeout_s: Annotated[Seconds, Field(ge=0, le=86_400)] = setting(
        CARE,
        "seconds that one call into the library may take; then the daemon ends with code 1, for its service manager to "
        "start it again; 0 for no limit. The library itself gives up after 180",
        240.0,
    )
    switch_interval_s: Annotated[Seconds, Field(ge=0.000_01, le=0.1)] = setting(
        CARE, "seconds after which a busy Python thread lets the next one run", 0.0005
    )
    data_dir: PathValue = setting(CARE, "folder for what the daemon and the library keep", default_factory=_data_dir)

    ticks: Paths = setting(
        SIMULATOR,
        "tick files to replay in place of a random market: CSV time_ms,symbol,bid,ask, or as MT5, Dukascopy, HistData, "
        "TrueFX have them",
        (),
    )
    tick_symbol: TickSymbol = setting(SIMULATOR, "symbol of tick files that have none; else from the file's name", "")
    tick_zone: TickZone = setting(
        SIMULATOR,
        "time zone of dates in tick files, as UTC, +02:00 or Europe/Athens; else the format's own, or UTC",
        "",
    )
    tick_dates: Annotated[Literal["dmy", "mdy"], BeforeValidator(lower)] | None = setting(
        SIMULATOR, "whether dates as 02/03/2010 in tick files begin with the day (dmy) or the month (mdy)"
    )
    speed: Speed = setting(SIMULATOR, "replay at this many times the original pace, or max", 1.0, or_max=True)
    rate: Rate = setting(SIMULATOR, "quotes per second of the random market, or max", 200.0, or_max=True)
    seed: Annotated[int, Field(ge=0)] = setting(
        SIMULATOR, "start of the random numbers: the same gives the same run", 1
    )
    accounts: Annotated[int, Field(ge=1, le=100_000)] = setting(SIMULATOR, "trading accounts", 200)
    faults: Faults = setting(SIMULATOR, "faults on demand: kind@second, as drop@10,skip@5+20:3", ())
    wire_faults: WireFaultTexts = setting(
        SIMULATOR,
        "what is lost, repeated or late on its way to subscribers, so that they can be tried: "
        "drop=1%,duplicate=1%,restart=30s,mute=60s:5s,slow=200ms",
        (),
    )

    log_level: LogLevel = setting(LOGS, "least important lines to log", "info")
    log_format: LogFormat = setting(LOGS, "lines for people, or one JSON object per line", "human")
    log_summary_interval_s: Annotated[Seconds, Field(ge=1, le=86_400)] = setting(
        LOGS, "seconds between lines that sum up the counters", 60.0
    )

    @property
    def journal_path(self) -> Path:
        """Return where the journal is."""
        return self.data_dir / "journal.sqlite3"

    def disagreements(self) -> Iterator[Disagreement]:
        """Yield what every check finds."""
        checks = (_dll, _login_ends_before_a_hang, _simulator, _publishing, _reachable)
        for check in (*checks, _endpoints_differ, _curve, _journal, _times):
            yield from check(self)


def _dll(settings: Settings) -> Iterator[Disagreement]:
    if settings.source != "dll":
        return
    for name, what in NEEDED_BY_DLL.items():
        if not getattr(settings, name):
            cure = f"set MT4PUMP_{name.upper()} to {what}, or try without a DLL: --source simulator"
            yield Disagreement((name, "source"), f"is needed by source dll; {cure}")
    for server in settings.servers:
        if server.startswith("["):
            text = "is an IPv6 address, and the vendor's library connects by IPv4 only"
            cure = "write the server's IPv4 address, or a name that has one"
            yield Disagreement(("servers", "source"), f"{server} {text}; {cure}")


def _login_ends_before_a_hang(settings: Settings) -> Iterator[Disagreement]:
    """Refuse what was set so; a ``login_timeout_s`` that was not set gives way, see `supervisor.login_limit_s`."""
    if "login_timeout_s" not in settings.model_fields_set:
        return
    if 0 < settings.hang_timeout_s <= settings.login_timeout_s:
        text = f"{settings.login_timeout_s:g} is not less than hang_timeout_s {settings.hang_timeout_s:g}"
        cure = (
            "a silent server would end the daemon before the next one is tried; make it less, or hang_timeout_s longer"
        )
        yield Disagreement(("login_timeout_s", "hang_timeout_s"), f"{text}: {cure}")


def _simulator(settings: Settings) -> Iterator[Disagreement]:
    given = settings.model_fields_set
    if settings.source == "dll":
        for name in SIMULATOR_ONLY:
            if name in given:
                yield Disagreement(
                    (name, "source"),
                    "is a setting of the simulator, and source is dll; set --source simulator or leave it out",
                )
    elif "speed" in given and not settings.ticks:
        yield Disagreement(
            ("speed", "ticks"), "is the pace of a replay, and there are no ticks; set --ticks FILE, or --rate instead"
        )


def _publishing(settings: Settings) -> Iterator[Disagreement]:
    if settings.full_news and not settings.news:
        yield Disagreement(("full_news", "news"), "is on, and news is off; switch news on, or full_news off")
    if settings.user_fields and not settings.users:
        yield Disagreement(("user_fields", "users"), "is set, and users is off; switch users on, or empty user_fields")
    if settings.mail_fields and not settings.mail:
        yield Disagreement(("mail_fields", "mail"), "is set, and mail is off; switch mail on, or empty mail_fields")


def _reachable(settings: Settings) -> Iterator[Disagreement]:
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


def _endpoints_differ(settings: Settings) -> Iterator[Disagreement]:
    if settings.query_endpoint and collide(settings.pub_endpoint, settings.query_endpoint):
        text = f"{settings.query_endpoint} is taken by pub_endpoint {settings.pub_endpoint}; use another port, or none"
        yield Disagreement(("query_endpoint", "pub_endpoint"), text)


def _curve(settings: Settings) -> Iterator[Disagreement]:
    for name, other, what in (
        (*CURVE, "a folder with the public keys of those who may connect"),
        (*reversed(CURVE), "the file with the daemon's secret key (mt4pump keygen makes it)"),
    ):
        if getattr(settings, name) is not None and getattr(settings, other) is None:
            yield Disagreement((name, other), f"is set, and {other} is not; set {other} to {what}")


def _journal(settings: Settings) -> Iterator[Disagreement]:
    if "durable" not in settings.model_fields_set:
        return
    if not settings.journal:
        yield Disagreement(
            ("durable", "journal"),
            "is set, and the journal that would store it is off; switch journal on, or leave durable out",
        )
    if QUOTE.name in settings.durable and not settings.quotes:
        yield Disagreement(("durable", "quotes"), "has quote, and quotes is off; switch quotes on, or leave quote out")


def _times(settings: Settings) -> Iterator[Disagreement]:
    for lesser, greater in NOT_LONGER.items():
        value = getattr(settings, lesser)
        if value > getattr(settings, greater):
            text = f"{value:g} is more than {greater}; make it at most that, or {greater} longer"
            yield Disagreement((lesser, greater), text)
