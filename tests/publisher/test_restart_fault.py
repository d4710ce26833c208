"""The wire fault ``restart``: one process, run after run, on the same addresses and with the same market."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from mt4pump.publisher.binding import DirectSocket
from mt4pump.session_source import source_of
from mt4pump.settings import load
from tests.bus import Message, context, subscriber
from tests.programs import LIMIT_S
from tests.samples.daemons import simulated
from tests.samples.messages import received


def test_each_run_has_a_new_epoch_the_same_addresses_and_continues_the_offsets(tmp_path: Path) -> None:
    with simulated(tmp_path, "--wire-faults", "restart=4s") as (events, _, run), context() as own:
        reader = subscriber(own, events, b"")
        first = received(reader, lambda message: message.topic == "heartbeat" and message.body["offset"] > 0)
        offsets = [first.body["offset"]]

        def is_next_run(message: Message) -> bool:
            is_next = message.body["epoch"] > first.body["epoch"]
            if not is_next and "offset" in message.body:
                offsets.append(message.body["offset"])
            return is_next and message.topic == "heartbeat" and message.body["state"] == "pumping"

        second = received(reader, is_next_run)  # a reader connects anew only after the run's session.start
        assert second.body["offset"] > max(offsets)
        third = received(reader, lambda message: message.body["epoch"] > second.body["epoch"])
        assert third.body["epoch"] > second.body["epoch"]
        if sys.platform != "win32":
            os.kill(run.process.pid, signal.SIGTERM)
            assert run.end(LIMIT_S) == 0, run.text


def test_what_the_faults_did_is_in_the_heartbeat(tmp_path: Path) -> None:
    with simulated(tmp_path, "--wire-faults", "drop=10%,duplicate=10%") as (events, _, _), context() as own:
        reader = subscriber(own, events, b"heartbeat")

        def has_counted(message: Message) -> bool:
            source = message.body["source"]
            return bool(source.get("wire_dropped") and source.get("wire_duplicated"))

        received(reader, has_counted)


@pytest.mark.parametrize("faults", [(), ("restart=30s",)])
def test_without_faults_on_messages_the_socket_is_the_usual_one(tmp_path: Path, faults: tuple[str, ...]) -> None:
    settings = load({"source": "simulator", "data_dir": tmp_path, "wire_faults": faults}, {})
    assert source_of(settings).socket_class is DirectSocket
