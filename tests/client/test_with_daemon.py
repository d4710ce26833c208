"""The client with the real daemon and its simulator: nothing missing, nothing twice."""

from __future__ import annotations

import time
from pathlib import Path

import zmq

from mt4pump.client import ClientKeys, Event, Notice, Query, Subscriber
from mt4pump.daemon import Daemon
from mt4pump.session_source import source_of
from mt4pump.settings import load
from tests.bus import ANY_PORT, LIMIT_S
from tests.live import running


def test_a_subscriber_of_everything_gets_every_stored_event_once_and_in_order(tmp_path: Path) -> None:
    with running(tmp_path, source="simulator", rate=3_000.0) as run:
        query_endpoint = run.daemon.query_endpoint
        assert query_endpoint is not None
        with Subscriber(run.daemon.endpoint, query_endpoint=query_endpoint) as sub:
            events: list[Event] = []
            deadline_s = time.monotonic() + LIMIT_S
            while len(events) < 300:
                assert time.monotonic() < deadline_s, f"{len(events)} events; {sub.status} {dict(sub.counts)}"
                item = sub.receive(0.1)
                if isinstance(item, Event) and not item.snapshot and item.offset is not None:
                    events.append(item)
            offsets = [event.offset for event in events]
            assert offsets == list(range(events[0].offset or 0, (events[0].offset or 0) + 300))
            assert sub.counts["lost"] == 0
        with Query(query_endpoint) as query:
            replay = query.replay(after=(events[0].offset or 0) - 1, to=events[-1].offset)
            assert [(event.topic, event.offset) for event in replay] == [
                (event.topic, event.offset) for event in events
            ]
            assert replay.whole


def test_a_snapshot_and_the_stream_after_it_make_one_row_of_quotes(tmp_path: Path) -> None:
    with running(tmp_path, source="simulator", rate=3_000.0) as run:
        run.next(lambda message: message.topic.startswith("quote."))
        with Subscriber(run.daemon.endpoint, query_endpoint=run.daemon.query_endpoint, topics=["quote.*"]) as sub:
            last: dict[str, int] = {}
            deadline_s = time.monotonic() + LIMIT_S
            while sub.counts["delivered"] < 500:
                assert time.monotonic() < deadline_s
                item = sub.receive(0.1)
                if isinstance(item, Event):
                    assert item.seq == last.get(item.topic, item.seq - 1) + 1
                    last[item.topic] = item.seq
            assert sub.counts["snapshot"] > 0


def test_keys_that_allow_only_trades_get_every_one_of_them(tmp_path: Path) -> None:
    server, client = (tuple(key.decode() for key in zmq.curve_keypair()) for _ in range(2))
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "reader.toml").write_text(f'public_key = "{client[0]}"\ntopics = ["trade.*"]\n')
    secret = tmp_path / "server.secret"
    secret.write_text(f'public_key = "{server[0]}"\nsecret_key = "{server[1]}"\n')
    secret.chmod(0o600)
    keys = ClientKeys(client[0], client[1], server[0])
    settings = load(
        {
            "pub_endpoint": ANY_PORT,
            "query_endpoint": ANY_PORT,
            "data_dir": tmp_path / "data",
            "heartbeat_interval_s": 0.1,
            "source": "simulator",
            "rate": 3_000.0,
            "curve_secret_key": secret,
            "curve_clients": tmp_path / "clients",
        },
        environ={},
        config=None,
    )
    daemon = Daemon(settings, source_of(settings))
    daemon.start()
    try:
        with (
            Subscriber(
                daemon.endpoint,
                query_endpoint=daemon.query_endpoint,
                keys=keys,
                notices=True,
                silence_s=LIMIT_S,
                query_timeout_s=LIMIT_S,
            ) as sub,
            Query(daemon.query_endpoint or "", keys) as query,
        ):
            got, troubles = collect_trades(sub, 200)
            assert troubles == set()
            stored = [event.offset for event in query.replay(after=got[0] - 1, to=got[-1])]
            assert got == stored
    finally:
        daemon.stop()


def collect_trades(sub: Subscriber, count: int) -> tuple[list[int], set[str]]:
    """Return the offsets of so many live trades, and the notices of trouble; nothing else may come."""
    got: list[int] = []
    troubles = set()
    deadline_s = time.monotonic() + LIMIT_S
    while len(got) < count or sub.status.age_s is None:
        assert time.monotonic() < deadline_s, f"{len(got)} trades; {sub.status} {dict(sub.counts)}"
        item = sub.receive(0.1)
        if isinstance(item, Notice) and item.kind in {"lost", "query_failed", "not_whole", "silent"}:
            troubles.add(item.text)
        elif isinstance(item, Event) and not item.snapshot:
            assert item.kind in {"trade", "heartbeat"}
            if item.offset is not None:
                got.append(item.offset)
    return got, troubles


def test_a_position_survives_the_daemons_restart(tmp_path: Path) -> None:
    position_file = tmp_path / "position"
    offsets: list[int] = []
    for _ in range(2):
        with running(tmp_path / "data", source="simulator", rate=3_000.0) as run:
            endpoint, query_endpoint = run.daemon.endpoint, run.daemon.query_endpoint
            with Subscriber(
                endpoint, query_endpoint=query_endpoint, position_file=position_file, snapshot=False
            ) as sub:
                wanted, deadline_s = len(offsets) + 100, time.monotonic() + LIMIT_S
                while len(offsets) < wanted:
                    assert time.monotonic() < deadline_s
                    item = sub.receive(0.1)
                    if isinstance(item, Event) and item.offset is not None:
                        offsets.append(item.offset)
    assert offsets == list(range(offsets[0], offsets[0] + 200))
