"""Settings that are right one by one and wrong together."""

from __future__ import annotations

import pytest

from mt4pump.settings import load
from tests.settings.problems import SIMULATOR, problems_of

ACCOUNT = {"servers": "mt4.example.com", "login": "5", "password": "x"}
CURVE = {"curve_secret_key": "server.key", "curve_clients": "clients"}
TRY = "or try without a DLL: --source simulator"


def test_source_dll_names_each_missing_part_and_the_way_around() -> None:
    assert problems_of() == [
        f"servers (not set): is needed by source dll; set MT4PUMP_SERVERS to host:port, {TRY}",
        f"login (not set): is needed by source dll; set MT4PUMP_LOGIN to the manager's number, {TRY}",
        f"password (not set): is needed by source dll; set MT4PUMP_PASSWORD to the manager's password, {TRY}",
    ]
    assert load(ACCOUNT, {}).source == "dll"


def test_a_wrong_value_is_not_called_missing_as_well() -> None:
    lines = problems_of({"login": "abc", "password": "x"})
    assert [line.partition(" ")[0] for line in lines] == ["login", "servers"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ticks", "a.csv"),
        ("speed", "2"),
        ("rate", "5"),
        ("seed", "2"),
        ("accounts", "5"),
        ("faults", "drop@5"),
        ("wire_faults", "drop=1%"),
    ],
)
def test_a_setting_of_the_simulator_is_refused_beside_a_dll(name: str, value: str) -> None:
    wanted = "is a setting of the simulator, and source is dll; set --source simulator or leave it out"
    assert problems_of({**ACCOUNT, name: value}) == [f"{name} (flag --{name.replace('_', '-')}): {wanted}"]


@pytest.mark.parametrize("server", ["[::1]", "[2001:db8::1]:443", "[::ffff:192.0.2.1]:443"])
def test_an_ipv6_address_is_no_server_for_the_library(server: str) -> None:
    text = "is an IPv6 address, and the vendor's library connects by IPv4 only"
    cure = "write the server's IPv4 address, or a name that has one"
    assert problems_of({**ACCOUNT, "servers": f"mt4.example.com,{server}"}) == [
        f"servers (flag --servers): {server} {text}; {cure}"
    ]
    assert load({**SIMULATOR, "servers": server}, {}).servers == (server,)


def test_a_login_may_not_take_as_long_as_a_hang() -> None:
    (problem,) = problems_of({**ACCOUNT, "login_timeout_s": "30", "hang_timeout_s": "30"})
    assert problem.startswith("login_timeout_s (flag --login-timeout-s): 30 is not less than hang_timeout_s 30: ")
    assert "make it less, or hang_timeout_s longer" in problem
    assert load({**ACCOUNT, "hang_timeout_s": "0"}, {}).login_timeout_s == 30
    assert load({**ACCOUNT, "hang_timeout_s": "1"}, {}).hang_timeout_s == 1, "as before there was such a limit"


def test_by_default_the_daemon_waits_longer_than_the_library_itself() -> None:
    found = load(ACCOUNT, {})
    assert found.login_timeout_s < 180 < found.hang_timeout_s


def test_an_account_beside_the_simulator_is_allowed() -> None:
    assert load({**ACCOUNT, **SIMULATOR}, {}).login == 5


def test_speed_without_ticks_is_refused() -> None:
    wanted = "is the pace of a replay, and there are no ticks; set --ticks FILE, or --rate instead"
    assert problems_of({**SIMULATOR, "speed": "2"}) == [f"speed (flag --speed): {wanted}"]
    assert load({**SIMULATOR, "speed": "2", "ticks": "a.csv"}, {}).speed == 2


@pytest.mark.parametrize(
    "endpoint", ["tcp://0.0.0.0:5556", "tcp://*:5556", "tcp://eth0:5556", "tcp://lo:5556", "tcp://10.1.2.3:5556"]
)
@pytest.mark.parametrize("name", ["pub_endpoint", "query_endpoint"])
def test_an_address_that_others_reach_needs_encryption_or_consent(name: str, endpoint: str) -> None:
    given = {**SIMULATOR, "pub_endpoint": "tcp://127.0.0.1:*", "query_endpoint": "none", name: endpoint}
    (problem,) = problems_of(given)
    flag = f"--{name.replace('_', '-')}"
    assert problem.startswith(f"{name} (flag {flag}): {endpoint} may be reached from other machines")
    assert "--allow-plaintext" in problem
    assert "curve_secret_key and curve_clients (mt4pump keygen)" in problem
    assert getattr(load({**given, "allow_plaintext": "yes"}, {}), name) == endpoint
    assert getattr(load({**given, **CURVE}, {}), name) == endpoint


def test_each_half_of_curve_needs_the_other() -> None:
    for name, other in (CURVE, tuple(reversed(CURVE))):
        (problem,) = problems_of({**SIMULATOR, name: CURVE[name], "pub_endpoint": "tcp://*:5556"})
        assert problem.startswith(f"{name} (flag --{name.replace('_', '-')}): is set, and {other} is not; set {other}")


@pytest.mark.parametrize(
    ("pub", "query"),
    [
        ("tcp://127.0.0.1:5556", "tcp://127.0.0.1:5556"),
        ("tcp://127.0.0.1:5556", "tcp://localhost:5556"),
        ("tcp://127.0.0.1:5556", "tcp://*:05556"),
        ("tcp://0.0.0.0:5556", "tcp://127.0.0.1:5556"),
        ("ipc://a", "ipc://a"),
    ],
)
def test_two_endpoints_on_one_address_are_refused(pub: str, query: str) -> None:
    (problem,) = problems_of({**SIMULATOR, "pub_endpoint": pub, "query_endpoint": query, "allow_plaintext": "on"})
    assert problem.endswith(f"{query} is taken by pub_endpoint {pub}; use another port, or none")


@pytest.mark.parametrize(
    ("pub", "query"),
    [
        ("tcp://127.0.0.1:*", "tcp://127.0.0.1:*"),
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0"),
        ("tcp://127.0.0.1:5556", "tcp://127.0.0.2:5556"),
        ("tcp://127.0.0.1:5556", "ipc://a"),
        ("ipc://a", "ipc://b"),
        ("tcp://127.0.0.1:5557", "none"),
    ],
)
def test_endpoints_that_do_not_collide_are_taken(pub: str, query: str) -> None:
    assert load({**SIMULATOR, "pub_endpoint": pub, "query_endpoint": query}, {}).pub_endpoint == pub


def test_kinds_to_store_need_the_journal_and_stored_quotes_need_quotes() -> None:
    journal = "journal that would store it is off"
    lines = problems_of({**SIMULATOR, "durable": "+quote", "journal": "off", "quotes": "off"})
    assert lines == [
        f"durable (flag --durable): is set, and the {journal}; switch journal on, or leave durable out",
        "durable (flag --durable): has quote, and quotes is off; switch quotes on, or leave quote out",
    ]
    assert not load({**SIMULATOR, "journal": "off", "quotes": "off"}, {}).journal
    assert "quote" in load({**SIMULATOR, "durable": "+quote"}, {}).durable


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:1", "tcp://127.9.9.9:1", "tcp://localhost:1", "ipc://x"])
def test_an_address_of_this_machine_alone_needs_no_consent(endpoint: str) -> None:
    assert load({**SIMULATOR, "pub_endpoint": endpoint}, {}).pub_endpoint == endpoint


def test_an_ipv6_address_needs_ipv6() -> None:
    wanted = "pub_endpoint (flag --pub-endpoint): tcp://[::1]:5556 is an IPv6 address; set --ipv6 too"
    assert problems_of({**SIMULATOR, "pub_endpoint": "tcp://[::1]:5556"}) == [wanted]
    assert load({**SIMULATOR, "pub_endpoint": "tcp://[::1]:5556", "ipv6": "yes"}, {}).ipv6


@pytest.mark.parametrize(
    ("lesser", "greater"),
    [
        ("reconnect_delay_s", "reconnect_delay_max_s"),
        ("watch_interval_s", "liveness_timeout_s"),
        ("zmtp_heartbeat_ivl_s", "zmtp_heartbeat_timeout_s"),
    ],
)
def test_a_time_that_must_not_be_longer_than_another(lesser: str, greater: str) -> None:
    (problem,) = problems_of({**SIMULATOR, lesser: "20", greater: "10"})
    assert problem.endswith(f"20 is more than {greater}; make it at most that, or {greater} longer")
    assert load({**SIMULATOR, lesser: "10", greater: "10"}, {})


def test_full_news_needs_news_and_personal_fields_need_their_kind() -> None:
    off = {"news": "off", "users": "off", "mail": "off"}
    lines = problems_of({**SIMULATOR, **off, "full_news": "on", "user_fields": "name", "mail_fields": "body"})
    assert [line.partition(" ")[0] for line in lines] == ["full_news", "user_fields", "mail_fields"]


def test_contradictions_are_listed_beside_wrong_values() -> None:
    lines = problems_of({**SIMULATOR, "seed": "x", "reconnect_delay_s": "100", "watch_interval_s": "y"})
    assert [line.partition(" ")[0] for line in lines] == ["watch_interval_s", "seed", "reconnect_delay_s"]
