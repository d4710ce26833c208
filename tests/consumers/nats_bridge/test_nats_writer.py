"""Where the durable writer goes on, and that it lives through a connection that dies under it.

Private access: steps of the writer's loop and what it keeps between them, because a server can be had in none of
these states at will.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
import zmq
from mt4pump_consumers.nats_bridge import jetstream_writer
from mt4pump_consumers.nats_bridge.connection import ServerConnection
from mt4pump_consumers.nats_bridge.jetstream import PublishQueue, StreamPosition
from mt4pump_consumers.nats_bridge.jetstream_writer import CHUNK, JetStreamWriter, JournalPages
from mt4pump_consumers.nats_bridge.message import JetStreamRetry
from mt4pump_consumers.nats_bridge.settings import NatsSettings
from nats.aio.client import Client

from mt4pump.client import ClientError, Event, Heartbeat, Query, Replay
from mt4pump.process.program import settings_of
from tests.bus import LIMIT_S, context
from tests.consumers.nats_bridge.test_nats_message import trade

NEW = StreamPosition(last_seq=0, log_position=None, is_new=True, max_age_s=604_800.0, window_s=120.0)


def writer(start: str) -> JetStreamWriter:
    """Return a writer that talks to nobody."""
    nobody: Any = None
    return JetStreamWriter(settings_of(NatsSettings, ["--start", start]).settings, nobody, nobody, Counter())


def taken_up(by: JetStreamWriter, offset: int, log: str = "L", position: StreamPosition = NEW) -> int:
    """Return after which offset it goes on when the daemon is at ``offset``."""
    by._resume_from(position, {"log": log, "epoch": 1, "offset": offset})  # noqa: SLF001
    return by._reached  # noqa: SLF001


def test_now_is_the_first_look_and_stays_so_until_something_is_stored() -> None:
    new = writer("now")
    assert taken_up(new, 100) == 100
    assert taken_up(new, 105) == 100, "NATS died before it stored 101: the events since are not skipped"
    assert taken_up(writer("now"), 105) == 105, "another run has a now of its own"


def test_a_stream_that_was_deleted_gets_again_what_the_settings_say() -> None:
    first = writer("first")
    first._last_stored = ("L", 100)  # noqa: SLF001
    assert taken_up(first, 105) == 0, "all that the journal has"
    now = writer("now")
    now._last_stored = ("L", 100)  # noqa: SLF001
    assert taken_up(now, 105) == 100


def test_listening_on_a_connection_that_just_closed_is_retried() -> None:
    async def opened() -> None:
        connection = ServerConnection()
        connection.client._status = Client.CLOSED  # noqa: SLF001
        await PublishQueue(connection, "S", 0, 256, 5.0).open()

    with pytest.raises(JetStreamRetry, match="cannot be subscribed to"):
        asyncio.run(opened())


def test_a_journal_that_is_not_open_yet_is_waited_for() -> None:
    class Journal:
        async def describe(self) -> dict[str, Any]:
            return {"log": "", "kinds": {}, "epoch": 1, "offset": 0}

    waiting = writer("first")
    waiting._journal = Journal()  # type: ignore[assignment]  # noqa: SLF001
    with pytest.raises(JetStreamRetry, match="could not be opened yet"):
        asyncio.run(waiting._serve(ServerConnection()))  # noqa: SLF001


@pytest.mark.parametrize(("last_offset", "looks"), [(105, 0), (106, 1)])
def test_a_heartbeat_that_is_further_than_what_came_has_the_writer_read_the_journal(
    monkeypatch: pytest.MonkeyPatch, last_offset: int, looks: int
) -> None:
    asked: list[PublishQueue] = []

    async def catch_up(_writer: JetStreamWriter, publish_queue: PublishQueue) -> None:
        asked.append(publish_queue)

    monkeypatch.setattr(JetStreamWriter, "_catch_up", catch_up)
    behind, nobody = writer("now"), cast(PublishQueue, None)
    taken_up(behind, 105)
    behind._heartbeat = cast(Heartbeat, SimpleNamespace(epoch=1, log="L", last_offset=last_offset))  # noqa: SLF001
    for _ in range(2):
        asyncio.run(behind._compare_with_heartbeat(nobody))  # noqa: SLF001
    assert len(asked) == looks


def test_an_end_does_not_wait_for_a_daemon_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jetstream_writer, "Query", partial(Query, timeout_s=10 * LIMIT_S))

    async def test(router: zmq.Socket[bytes]) -> None:
        journal = JournalPages(router.getsockopt_string(zmq.LAST_ENDPOINT), None, ("trade.*",))
        asking = asyncio.create_task(journal.describe())
        assert await asyncio.to_thread(router.poll, int(1000 * LIMIT_S))
        asking.cancel()
        await journal.close()

    with context() as own, own.socket(zmq.ROUTER) as router:
        router.bind("tcp://127.0.0.1:*")
        asyncio.run(asyncio.wait_for(test(router), LIMIT_S))


class TwoChunks(JournalPages):
    """Has two chunks of events, and then refuses. ``has_refused`` is set by the thread that reads."""

    def __init__(self) -> None:
        super().__init__("tcp://127.0.0.1:1", None, ("*",))
        self.has_refused = threading.Event()

    def replay(self, *, after: int, since: int | None) -> Replay:
        assert since is None

        def events() -> Iterator[Event]:
            for offset in range(after + 1, after + 2 * CHUNK + 1):
                yield trade(offset=offset)
            self.has_refused.set()
            raise ClientError("timeout", "silent")

        class Replayed:
            log = "log"

            def __iter__(self) -> Iterator[Event]:
                return events()

        return cast(Replay, Replayed())


def test_the_journal_is_read_ahead_and_all_before_a_fault_is_handed_over_in_order() -> None:
    journal, offsets = TwoChunks(), list[int | None]()

    async def read() -> None:
        async for chunk, log, _ in journal.chunks(7, None):
            assert log == "log"
            offsets.extend(event.offset for event in chunk)
            if len(offsets) == 2 * CHUNK:  # the thread asks for the next events while these are handled
                assert await asyncio.to_thread(journal.has_refused.wait, 10.0)

    async def main() -> None:
        with pytest.raises(JetStreamRetry, match="silent"):
            await read()
        await journal.close()

    asyncio.run(main())
    assert offsets == list(range(8, 8 + 2 * CHUNK))
