"""Replies of the query endpoint compared with the contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import zmq

from mt4pump.protocol import ContractOptions, common_fields, contract, kinds_for
from mt4pump.query.requests import CODES
from mt4pump.wire import Body, kind_of
from tests.bus import ANY_PORT, LIMIT_S, context
from tests.live import Running, running
from tests.protocol.checking import faults_of, head_faults

BUSY_MARKET = {"source": "simulator", "rate": 2000.0, "accounts": 60, "query_endpoint": ANY_PORT}


class QueryClient:
    """A REQ socket of its own."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket

    def request(self, message: Body) -> tuple[Body, list[tuple[bytes, Body]]]:
        """Return head and rows of the reply."""
        self._socket.send(msgpack.packb(message))
        assert self._socket.poll(int(LIMIT_S * 1000)), "no reply came"
        head, *frames = self._socket.recv_multipart()
        rows = [(topic, msgpack.unpackb(body)) for topic, body in zip(frames[::2], frames[1::2], strict=True)]
        return msgpack.unpackb(head), rows


@contextmanager
def query_client(folder: Path, **flags: Any) -> Iterator[tuple[Running, QueryClient]]:
    """Run a daemon with a simulated market until an order has closed; yield it with a query client."""
    with running(folder, **BUSY_MARKET, **flags) as run, context() as own:
        run.next(lambda message: message.topic.startswith("trade.") and message.body["change"] == "closed", limit_s=60)
        socket: zmq.Socket[bytes] = own.socket(zmq.REQ)
        assert run.daemon.query_endpoint
        socket.connect(run.daemon.query_endpoint)
        yield run, QueryClient(socket)


def test_describe_returns_the_contract_that_the_settings_make(tmp_path: Path) -> None:
    options = ContractOptions(user_fields=frozenset({"name"}), plugin_parameters=True, durable=frozenset({"trade"}))
    with query_client(tmp_path, user_fields=("name",), plugin_parameters=True, durable=("trade",)) as (_, client):
        head, rows = client.request({"op": "describe", "id": 5})
    assert head_faults("describe", head, contract().heads["describe"]) == []
    assert (head["kinds"], head["common"], head["id"], rows) == (kinds_for(options), common_fields(), 5, [])


def test_every_row_of_a_snapshot_is_in_the_contract(tmp_path: Path) -> None:
    with query_client(tmp_path) as (_, client):
        head, rows = client.request({"op": "snapshot"})
        found = list(rows)
        while head["cursor"] is not None:
            assert head_faults("snapshot", head, contract().heads["snapshot"]) == []
            head, rows = client.request({"op": "snapshot", "cursor": head["cursor"]})
            found += rows
    assert head_faults("snapshot", head, contract().heads["snapshot"]) == []
    wrong = {fault for topic, body in found for fault in faults_of(kind_of(topic), body)}
    assert wrong == set()
    assert all(body["snapshot"] is True and "offset" not in body for _, body in found)
    assert {kind_of(topic) for topic, _ in found} >= {"quote", "trade", "user", "symbol", "group", "session"}


def test_every_replayed_event_is_in_the_contract(tmp_path: Path) -> None:
    with query_client(tmp_path) as (_, client):
        head, events = client.request({"op": "replay", "limit": 500})
    assert head_faults("replay", head, contract().heads["replay"]) == []
    assert events
    assert {fault for topic, body in events for fault in faults_of(kind_of(topic), body)} == set()
    assert all("offset" in body for _, body in events)


def test_a_refusal_is_in_the_contract(tmp_path: Path) -> None:
    with query_client(tmp_path) as (_, client):
        head, rows = client.request({"op": "nonsense", "id": "mine"})
    assert head_faults("error", head, contract().heads["error"]) == []
    assert (head["code"], head["id"], rows) == ("unknown_op", "mine", [])


def test_the_codes_are_those_of_the_endpoint() -> None:
    assert set(contract().codes) == set(CODES)
