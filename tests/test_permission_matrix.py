"""Each key, each topic, by SUB, replay and snapshot, on a whole daemon with CURVE: exactly what is declared."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import pytest
import zmq

from mt4pump.client import ClientError, ClientKeys, Event, Query, Subscriber
from mt4pump.daemon import Daemon
from mt4pump.mt4.codes import PumpCode, Transaction
from mt4pump.mt4.layout import (
    CON_GROUP,
    CON_SYMBOL,
    MARGIN_LEVEL,
    NEWS_TOPIC,
    ONLINE_RECORD,
    SYMBOL_INFO,
    TRADE_RECORD,
    USER_RECORD,
)
from mt4pump.security.keys import KeyPair, new_pair
from mt4pump.session_source import Source
from mt4pump.settings import load
from mt4pump.wire import KINDS
from tests.bus import ANY_PORT, context, decode_frames, until
from tests.fake_manager import FakeManager
from tests.security.keyring import Keyring

WAIT_S = 60.0
"""Hundreds of encrypted connections at once take their time on a busy machine."""
LOGINS = (1, 10, 100, 1001, 10011)
SYMBOLS = ("EURUSD", "EURUSD.m", "EURJPY", "USDJPY")
NEWS = (7, 77)
TOPICS = (
    *(f"quote.{symbol}" for symbol in SYMBOLS),
    *(f"{kind}.{login}" for kind in ("trade", "user", "margin", "online") for login in LOGINS),
    *(f"symbol.{symbol}" for symbol in SYMBOLS),
    *("group.demo", "group.demo-2", "session.start", "session.ping"),
    *(f"news.{key}" for key in NEWS),
)
DURABLE = {topic for topic in TOPICS if KINDS[topic.partition(".")[0]].durable and topic != "session.ping"}
NOT_SHOWN = {"session.ping", *(f"news.{key}" for key in NEWS)}
"""No snapshot has a row of these."""

EXACT: dict[str, list[str]] = {
    "everything": ["*"],
    "nothing": [],
    "quotes": ["quote.*"],
    "euro": ["quote.EUR*"],
    "one symbol": ["quote.EURUSD"],
    "one account": ["trade.100", "user.100"],
    "first account": ["trade.1", "margin.1"],
    "accounts": ["trade.100*", "session.start"],
    "a kind that begins another": ["s*", "group.demo", "news.7"],
    "several": ["online.*", "margin.10*", "trade.10"],
}
WIDE = {name: [entry if entry.endswith("*") else f"{entry}*" for entry in entries] for name, entries in EXACT.items()}
"""Without a suffix an exact entry is refused; what it would mean is the prefix."""
TRAPS = ("", "t", "trade", "trade.", "trade.1", "trade.100", "trade.1001", "quote.EURUSD", "s", "sess", "nothing.", "h")


class Case(NamedTuple):
    """A matrix: the daemon's suffix, and what is declared for whom."""

    suffix: str
    declared: dict[str, list[str]]

    def may(self, name: str, topic: str) -> bool:
        """Return what the declaration says: the model, in its own words."""
        entries = [*self.declared[name], "heartbeat"]
        return any(topic == entry or (entry.endswith("*") and topic.startswith(entry[:-1])) for entry in entries)

    def wire(self, topic: str) -> str:
        return topic + self.suffix

    def expected(self, name: str, asked: str, among: Iterable[str]) -> set[str]:
        """Return the topics, as on the wire, that ``name`` gets of those that begin with ``asked`` on the wire."""
        return {self.wire(topic) for topic in among if self.wire(topic).startswith(asked) and self.may(name, topic)}

    def is_forbidden(self, name: str, asked: str) -> bool:
        """Return whether no topic that there ever could be is both asked for and allowed."""
        for entry in (*self.declared[name], "heartbeat"):
            allowed = entry[:-1] if entry.endswith("*") else self.wire(entry)
            if allowed.startswith(asked) or asked.startswith(allowed):
                return False
        return True


CASES = {"suffix": Case("|", EXACT), "plain": Case("", WIDE)}


class Guarded:
    """A daemon behind its keys, on a Manager in memory; sockets of clients are closed at the end."""

    def __init__(self, folder: Path, case: Case, own: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.case = case
        self.keys = Keyring(folder)
        for name, entries in case.declared.items():
            self.keys.admit(name.replace(" ", "-"), *entries)
        self.keys.admit("no-query", "*", query=False)
        self.manager = FakeManager()
        flags = {
            "source": "simulator",
            "data_dir": folder / "data",
            "pub_endpoint": ANY_PORT,
            "query_endpoint": ANY_PORT,
            "curve_secret_key": self.keys.secret,
            "curve_clients": self.keys.clients,
            "topic_suffix": case.suffix,
            "reconcile_interval_s": 0,  # the tables in memory do not follow the records that are rung
            "heartbeat_interval_s": 0.1,
            "liveness_timeout_s": 3600,  # the session in memory pings once
        }
        source = Source(lambda: self.manager, dict, lambda: None, lambda: None)
        self.daemon = Daemon(load(flags, environ={}, config=None), source)
        self._own = own

    def pair(self, name: str) -> KeyPair:
        return self.keys.pairs[name.replace(" ", "-")]

    def client_keys(self, name: str) -> ClientKeys:
        pair = self.pair(name)
        return ClientKeys(pair.public, pair.secret, self.keys.server.public)

    def begin(self) -> None:
        """Have a session pump, and everything happen once."""
        self.daemon.start_session()
        until(lambda: self.manager.notify is not None, "the session")
        notify = self.manager.notify
        assert notify is not None
        self.manager.tables["symbols"] = b"".join(CON_SYMBOL.pack({"symbol": symbol}) for symbol in SYMBOLS)
        notify(PumpCode.START_PUMPING, 0, b"")
        notify(PumpCode.PING, 0, b"")
        for login in LOGINS:
            trade = {"order": 5_000 + login, "login": login, "symbol": "EURUSD", "timestamp": 1}
            notify(PumpCode.UPDATE_TRADES, Transaction.ADD, TRADE_RECORD.pack(trade))
            notify(PumpCode.UPDATE_USERS, Transaction.ADD, USER_RECORD.pack({"login": login, "group": "demo"}))
        for symbol in SYMBOLS:
            notify(PumpCode.UPDATE_SYMBOLS, Transaction.UPDATE, CON_SYMBOL.pack({"symbol": symbol, "digits": 5}))
        for group in ("demo", "demo-2"):
            notify(PumpCode.UPDATE_GROUPS, Transaction.ADD, CON_GROUP.pack({"group": group}))
        for key in NEWS:
            notify(PumpCode.UPDATE_NEWS, 0, NEWS_TOPIC.pack({"key": key, "topic": "headline"}))
        until(
            lambda: self.daemon.published("group") == 2, "the tables are published"
        )  # tables that are read whole come after them
        tables = self.manager.tables
        tables["online"] = b"".join(ONLINE_RECORD.pack({"login": login}) for login in LOGINS)
        tables["margins"] = b"".join(MARGIN_LEVEL.pack({"login": login, "level_type": 1}) for login in LOGINS)
        notify(PumpCode.UPDATE_ONLINE, 0, b"")
        notify(PumpCode.UPDATE_MARGINCALL, 0, b"")
        self.manager.quotes.extend(SYMBOL_INFO.pack({"symbol": symbol, "bid": 1.1, "ask": 1.2}) for symbol in SYMBOLS)
        notify(PumpCode.UPDATE_BIDASK, 0, b"")
        expected = {"online": len(LOGINS), "margin": len(LOGINS), "quote": len(SYMBOLS)}
        until(lambda: all(self.daemon.published(kind) == count for kind, count in expected.items()), "all kinds")

    def subscriber(self, pair: KeyPair | None, *prefixes: str) -> zmq.Socket[bytes]:
        """Return a stock SUB; the heartbeat is its last subscription."""
        socket = self._own.socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, 0)
        if pair is not None:
            self.keys.set_keys(socket, pair)
        socket.connect(self.daemon.endpoint)
        for prefix in (*prefixes, "heartbeat"):
            socket.setsockopt(zmq.SUBSCRIBE, prefix.encode())
        return socket

    def ask(self, pair: KeyPair | None, **request: Any) -> tuple[dict[str, Any], set[str]] | None:
        """Return head and topics of a plain REQ's answer; None when there is none soon."""
        socket = self._own.socket(zmq.REQ)
        try:
            if pair is not None:
                self.keys.set_keys(socket, pair)
            assert self.daemon.query_endpoint is not None
            wait_ms = int(WAIT_S * 1000) if pair in self.keys.pairs.values() else 300
            socket.setsockopt(zmq.SNDTIMEO, wait_ms)  # who was refused already has nowhere to send to
            socket.setsockopt(zmq.RCVTIMEO, wait_ms)
            socket.connect(self.daemon.query_endpoint)
            try:
                socket.send(msgpack.packb(request))
                packed, *frames = socket.recv_multipart()
            except zmq.Again:
                return None
            return msgpack.unpackb(packed), {topic.decode() for topic in frames[::2]}
        finally:
            socket.close(0)

    def stop(self) -> None:
        self.daemon.stop()


@contextmanager
def guarded(folder: Path, case: Case) -> Iterator[Guarded]:
    with context() as own:
        made = Guarded(folder, case, own)
        try:
            made.daemon.start(session=False)
            yield made
        finally:
            made.stop()


def received_until(socket: zmq.Socket[bytes], is_end: Callable[[dict[str, Any]], bool]) -> set[str]:
    """Return the topics that came before a heartbeat that ``is_end``."""
    deadline_s, received = time.monotonic() + WAIT_S, set[str]()
    while True:
        assert socket.poll(max(0, int((deadline_s - time.monotonic()) * 1000))), f"no heartbeat came, only {received}"
        topic, body = decode_frames(socket.recv_multipart())
        if not topic.startswith(b"heartbeat"):
            received.add(topic.decode())
        elif is_end(body):
            return received


@pytest.fixture(scope="module", name="done", params=CASES)
def _done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A daemon where everything has happened, for queries."""
    with guarded(tmp_path_factory.mktemp("queries"), CASES[request.param]) as made:
        made.begin()
        yield made


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CASES)
def test_every_key_receives_of_every_subscription_exactly_what_is_declared(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    asked = list(dict.fromkeys((*TRAPS, *map(case.wire, TOPICS))))
    with guarded(tmp_path, case) as made:
        sockets = {
            (client, prefix): made.subscriber(made.pair(client), prefix) for client in case.declared for prefix in asked
        }
        for socket in sockets.values():
            received_until(socket, lambda _body: True)
        made.begin()
        end_ts = time.time_ns()
        for (client, prefix), socket in sockets.items():
            received = received_until(socket, lambda body: bool(body["ts"] > end_ts))
            assert received == case.expected(client, prefix, TOPICS), f"{client!r} asked for {prefix!r}"
        assert len(sockets) == len(case.declared) * len(asked)


@pytest.mark.parametrize("client", EXACT)
@pytest.mark.parametrize(
    ("request_", "held"),
    [
        ({"op": "replay", "after": 0}, DURABLE),
        ({"op": "snapshot"}, [topic for topic in TOPICS if topic not in NOT_SHOWN]),
    ],
    ids=["replay", "snapshot"],
)
def test_every_key_gets_by_query_exactly_what_is_declared(
    done: Guarded, client: str, request_: dict[str, Any], held: list[str]
) -> None:
    case = done.case
    for asked in (*TRAPS, *map(case.wire, TOPICS)):
        answer = done.ask(done.pair(client), **request_, topics=[asked])
        assert answer is not None
        head, topics = answer
        if case.is_forbidden(client, asked):
            assert (head["ok"], head.get("code"), topics) == (False, "forbidden", set()), asked
            continue
        assert head["ok"], head
        assert topics == case.expected(client, asked, held), asked
        if request_["op"] == "snapshot":
            seqs = {topic for topic in head["seqs"] if not topic.startswith("heartbeat")}
            assert seqs == case.expected(client, asked, TOPICS), asked


def test_asking_for_nothing_in_particular_is_asking_for_all_that_is_allowed(done: Guarded) -> None:
    for client in done.case.declared:
        requests: tuple[dict[str, Any], ...] = ({}, {"topics": []}, {"topics": [""]}, {"topics": ["trade.", "", "q"]})
        for request in requests:
            answer = done.ask(done.pair(client), op="replay", after=0, **request)
            assert answer is not None
            assert answer[1] == done.case.expected(client, "", DURABLE)


def test_a_cursor_is_of_use_to_the_client_alone_that_got_it(done: Guarded) -> None:
    answer = done.ask(done.pair("everything"), op="snapshot", limit=1)
    assert answer is not None
    cursor = answer[0]["cursor"]
    for thief in ("quotes", "nothing"):
        stolen = done.ask(done.pair(thief), op="snapshot", cursor=cursor)
        assert stolen is not None
        assert (stolen[0]["ok"], stolen[0]["code"], stolen[1]) == (False, "cursor_expired", set())
    again = done.ask(done.pair("everything"), op="snapshot", cursor=cursor)
    assert again is not None
    assert again[0]["ok"]


def test_who_is_not_known_or_may_not_query_gets_no_answer(done: Guarded) -> None:
    for pair in (new_pair(), None):
        assert done.ask(pair, op="snapshot") is None
        socket = done.subscriber(pair, "")
        assert not socket.poll(300)
        socket.close(0)
    with (
        Query(str(done.daemon.query_endpoint), done.client_keys("no-query"), timeout_s=0.5) as query,
        pytest.raises(ClientError),
    ):
        query.describe()


@pytest.mark.parametrize("client", EXACT)
def test_the_client_gets_exactly_what_is_declared(done: Guarded, client: str) -> None:
    case, names = done.case, set[str]()
    expected = {topic for topic in TOPICS if case.may(client, topic) and topic != "session.ping"}
    deadline_s = time.monotonic() + WAIT_S
    with Subscriber(
        done.daemon.endpoint,
        query_endpoint=done.daemon.query_endpoint,
        keys=done.client_keys(client),
        resume_from=0,
        topics=["*"],
    ) as sub:
        heartbeats = 0
        for event in sub:
            assert isinstance(event, Event)
            if event.topic != "heartbeat":
                names.add(event.topic)
            elif names >= expected and sub.position is not None:
                heartbeats += 1  # nothing else may come after all that was declared
            if heartbeats > 3 or time.monotonic() > deadline_s:
                break
    assert names == expected
