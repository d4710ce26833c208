"""``resume``: joined to the live stream without a hole and without a repeat, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pytest
from mt4pump_consumers.gateway import replay
from mt4pump_consumers.gateway.broadcaster import Broadcaster, FeedItem
from mt4pump_consumers.gateway.client_writer import Payload
from mt4pump_consumers.gateway.protocol import ClientRequest, ClientRequestError, Json
from mt4pump_consumers.gateway.replay import ROUNDS, Replayer
from mt4pump_consumers.gateway.session import ClientSession
from mt4pump_consumers.gateway.tokens import Grant

from mt4pump.client import Event, Position, Query
from tests.consumers.gateway.stream_made import event, trade

LOG = "log"
LIMIT_S = 30.0


class Journal:
    """Stands in for the daemon's. ``on_replay`` is called when it is asked."""

    def __init__(self, last: int) -> None:
        self.last, self.log, self.whole = last, LOG, True
        self.on_replay: Callable[[], None] = lambda: None
        self.asked: list[tuple[int, int]] = []
        self.broadcaster: Broadcaster

    def replay(self, _topics: Sequence[str], *, after: int, to: int) -> Answer:
        self.asked.append((after, to))
        self.on_replay()
        return Answer(self, after, min(to, self.last))

    def close(self) -> None:
        """Do nothing: each question has the same one."""


class Answer:
    """One replay."""

    def __init__(self, journal: Journal, after: int, to: int) -> None:
        self.whole, self.last, self.log = journal.whole, journal.last, journal.log
        self._offsets = range(after + 1, to + 1)

    def __iter__(self) -> Iterator[Event]:
        return (trade(offset, offset) for offset in self._offsets)


class Client:
    """Stands in for a session: keeps what is sent."""

    def __init__(self) -> None:
        self.writer = self
        self.name, self.grant, self.topics = "client", Grant("all", ("*",)), dict[str, None]()
        self.seqs: list[int] = []
        self.replies: list[Json] = []
        self.had: tuple[str | None, int] | None = None
        self.last_values = 0
        self.is_open = self.is_writable = True
        self.owner = "token"

    def send(self, payloads: list[Payload]) -> None:
        self.seqs += [int(payload.text.split(b'"offset":')[1].split(b",")[0]) for payload in payloads]

    def reply(self, message: Json) -> None:
        self.replies.append(message)

    def note_replay(self, _topics: Sequence[str], log_id: str | None, replayed_to: int) -> None:
        self.had = (log_id, replayed_to)

    def refresh(self) -> None:
        """Nothing is subscribed here."""

    async def wait_until_writable(self) -> None:
        """It always keeps up."""


def take(broadcaster: Broadcaster, *items: FeedItem) -> None:
    """Give a broadcaster items through its bridge."""
    for item in items:
        broadcaster.bridge.put(item, lambda: True)
    broadcaster.drain()


async def resumed(
    journal: Journal,
    live: Sequence[int],
    offset: int,
    *,
    room: int = 100,
    limit: int = 10_000,
    log: str | None = LOG,
    client: Client | None = None,
    joined: int | None = 0,
) -> tuple[Client, Broadcaster]:
    """Return a client after one resume, with a broadcaster that had ``live`` events and remembers ``room``."""
    client, broadcaster = client or Client(), Broadcaster(asyncio.get_running_loop(), 10, lambda _notice: None)
    broadcaster.recent = deque(maxlen=room)
    broadcaster.event(event("heartbeat", 1, log=LOG, offset=0))
    for number in live:
        broadcaster.event(trade(number, number))
    if joined is not None:
        take(broadcaster, Position(LOG, joined))
    journal.broadcaster = broadcaster
    replayer = Replayer(broadcaster, lambda: cast(Query, journal), limit)

    async def send_last(_session: ClientSession, _symbols: list[str], _topics: list[str]) -> None:
        client.last_values += 1

    try:
        request = ClientRequest("resume", topics=("trade.*",), offset=offset, log=log)
        await replayer.resume(cast(ClientSession, client), request, send_last)
    finally:
        replayer.close()
    return client, broadcaster


def run(journal: Journal, live: Sequence[int], offset: int, **options: Any) -> Client:
    return asyncio.run(resumed(journal, live, offset, **options))[0]


def test_what_was_missed_comes_once_and_the_answer_says_so() -> None:
    client = run(Journal(9), range(1, 10), 4)
    assert client.seqs == [5, 6, 7, 8, 9]
    assert client.replies[0] == {
        "type": "resume",
        "status": "success",
        "topics": ["trade.*"],
        "whole": True,
        "log": LOG,
        "offset": 9,
        "count": 5,
        "more": False,
    }
    assert (client.had, client.last_values) == ((LOG, 9), 0)
    assert client.topics == {"trade.*": None}


def test_what_comes_live_during_the_replay_follows_it() -> None:
    journal = Journal(5)

    def happen() -> None:
        journal.on_replay = lambda: None
        for number in (6, 7):
            journal.broadcaster.event(trade(number, number))

    journal.on_replay = happen
    assert run(journal, range(1, 6), 2).seqs == [3, 4, 5, 6, 7]


def test_when_the_live_stream_outruns_what_is_remembered_the_journal_is_asked_again() -> None:
    journal = Journal(5)

    def happen() -> None:
        journal.on_replay = lambda: None
        for number in range(6, 16):  # ten, and three are remembered
            journal.broadcaster.event(trade(number, number))
        journal.last = 15

    journal.on_replay = happen
    client = run(journal, range(1, 6), 2, room=3)
    assert client.seqs == list(range(3, 16))
    assert journal.asked == [(2, 5), (5, 15)]
    assert client.replies[0]["whole"]
    assert not client.replies[0]["more"]


def test_when_it_always_outruns_it_the_reply_says_where_to_go_on() -> None:
    journal = Journal(5)

    def happen() -> None:
        for number in range(journal.last + 1, journal.last + 11):
            journal.broadcaster.event(trade(number, number))
        journal.last += 10

    journal.on_replay = happen
    client = run(journal, range(1, 6), 2, room=3)
    assert len(journal.asked) == ROUNDS
    assert client.replies[0]["more"]
    assert client.seqs == list(range(3, client.replies[0]["offset"] + 1))
    assert client.topics == {}


def test_a_resume_that_is_cut_short_goes_on_where_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PAGE", 10)
    journal, offset = Journal(35), 0
    seqs: list[int] = []
    answers: list[Json] = []
    while not answers or answers[-1]["more"]:
        client = run(journal, range(1, 36), offset, limit=10)
        seqs += client.seqs
        answers += client.replies
        offset = answers[-1]["offset"]
    assert seqs == list(range(1, 36))
    assert [answer["count"] for answer in answers] == [10, 10, 10, 5]


def test_a_gap_in_the_journal_is_reported_even_when_the_resume_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PAGE", 10)
    journal = Journal(35)
    journal.whole = False
    answer = run(journal, range(1, 36), 0, limit=10).replies[0]
    assert (answer["whole"], answer["more"]) == (False, True)
    client = run(journal, range(1, 36), 0)
    assert not client.replies[0]["whole"]
    assert client.last_values == 1


def test_without_the_name_of_a_journal_the_present_one_is_meant() -> None:
    client = run(Journal(9), range(1, 10), 4, log=None)
    assert (client.seqs, client.replies[0]["whole"], client.replies[0]["log"]) == ([5, 6, 7, 8, 9], True, LOG)


def test_another_journal_gives_last_values_only() -> None:
    client = run(Journal(9), range(1, 10), 4, log="another")
    assert (client.seqs, client.replies[0]["whole"], client.last_values) == ([], False, 1)


def test_a_journal_that_became_another_meanwhile_gives_an_error() -> None:
    journal = Journal(9)
    journal.log = "another"
    with pytest.raises(ClientRequestError) as caught:
        run(journal, range(1, 10), 4)
    assert caught.value.code == "unavailable"


def test_an_offset_beyond_the_journal_is_not_whole_and_keeps_nothing_back() -> None:
    client = run(Journal(9), range(1, 10), 500)
    assert not client.replies[0]["whole"]
    assert client.replies[0]["offset"] == 9
    assert (client.had, client.last_values) == ((LOG, 9), 1)


def test_one_who_is_ahead_of_this_gateway_is_believed_when_the_journal_is_there_too() -> None:
    client = run(Journal(12), range(1, 10), 11)
    assert client.replies[0]["whole"]
    assert client.had == (LOG, 11)


def test_offsets_of_another_journal_are_forgotten_with_it() -> None:
    async def test() -> None:
        _, broadcaster = await resumed(Journal(900), range(800, 901), 900)
        broadcaster.event(event("heartbeat", 2, log="new", offset=2))
        assert not broadcaster.recent
        assert (broadcaster.log, broadcaster.offset) == ("new", 2)

    asyncio.run(test())


def test_events_that_were_healed_late_do_not_make_what_was_forgotten_look_remembered() -> None:
    journal = Journal(9)

    def happen() -> None:
        journal.on_replay = lambda: None
        for number in (10, 11, 4, 12, 13):  # three are remembered: 4, 12, 13
            journal.broadcaster.event(trade(number, number, login=number))
        journal.last = 13

    journal.on_replay = happen
    client = run(journal, range(1, 10), 5, room=3)
    assert client.seqs == list(range(6, 14))
    assert journal.asked == [(5, 9), (9, 13)]


def test_a_client_that_is_gone_is_sent_no_further_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PAGE", 10)
    client = Client()
    client.is_open = False
    asyncio.run(resumed(Journal(35), range(1, 36), 0, client=client))
    assert client.seqs == list(range(1, 11))


def test_before_the_gateway_has_its_place_in_the_journal_nothing_is_said_to_be_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replay, "JOIN_S", 0.0)
    journal = Journal(9)
    with pytest.raises(ClientRequestError) as caught:
        run(journal, range(1, 5), 2, joined=None)
    assert caught.value.code == "unavailable"
    assert not journal.asked


def test_a_resume_waits_for_the_gateways_place_in_the_journal() -> None:
    async def test() -> None:
        journal = Journal(9)
        task = asyncio.create_task(resumed(journal, range(1, 10), 4, joined=None))
        await asyncio.sleep(0)
        assert not journal.asked
        take(journal.broadcaster, Position(LOG, 9))
        client, _ = await task
        assert client.seqs == [5, 6, 7, 8, 9]

    asyncio.run(test())


def test_what_came_between_the_first_heartbeat_and_the_gateways_join_is_replayed() -> None:
    client = run(Journal(8), [], 4, joined=8)  # the heartbeat had offset 0, and nothing up to 8 came live
    assert client.seqs == [5, 6, 7, 8]
    assert (client.replies[0]["whole"], client.replies[0]["offset"]) == (True, 8)


def test_a_heartbeat_while_the_journal_cannot_be_opened_forgets_nothing() -> None:
    async def run() -> Broadcaster:
        broadcaster = Broadcaster(asyncio.get_running_loop(), 10, lambda _notice: None)
        for item in (event("heartbeat", 1, log=LOG, offset=3), trade(4, 4), event("heartbeat", 2, log="", offset=0)):
            broadcaster.event(item)
        return broadcaster

    broadcaster = asyncio.run(run())
    assert (broadcaster.log, broadcaster.offset, [offset for offset, _ in broadcaster.recent]) == (LOG, 3, [4])


class Slow(Client):
    """Reads nothing until the test lets it."""

    def __init__(self, owner: str) -> None:
        super().__init__()
        self.owner, self.reads = owner, asyncio.Event()

    @property
    def is_writable(self) -> bool:
        return self.reads.is_set()

    @is_writable.setter
    def is_writable(self, _clear: bool) -> None: ...

    async def wait_until_writable(self) -> None:
        await self.reads.wait()


def test_clients_that_do_not_read_hold_up_nobodys_resume_and_get_all_of_theirs_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replay, "PAGE", 10)
    monkeypatch.setattr(replay, "STALL_S", 0.01)

    async def test() -> None:
        journal, broadcaster = Journal(35), Broadcaster(asyncio.get_running_loop(), 10, lambda _notice: None)
        broadcaster.event(event("heartbeat", 1, log=LOG, offset=35))
        take(broadcaster, Position(LOG, 35))
        journal.broadcaster = broadcaster
        replayer = Replayer(broadcaster, lambda: cast(Query, journal), 10_000)
        request = ClientRequest("resume", topics=("trade.*",), offset=0, log=LOG)

        async def send_last(_session: ClientSession, _symbols: list[str], _topics: list[str]) -> None: ...

        def resume(client: Client) -> asyncio.Task[None]:
            return asyncio.create_task(replayer.resume(cast(ClientSession, client), request, send_last))

        slow = [Slow(f"owner {number % 3}") for number in range(3 * replay.REPLAYS_LIMIT)]
        tasks = [resume(client) for client in slow]
        good = Client()
        good.owner = "good"
        await asyncio.wait_for(resume(good), LIMIT_S)
        assert good.seqs == list(range(1, 36))
        assert not any(task.done() for task in tasks)
        assert replayer.slots_given_up >= replay.REPLAYS_LIMIT
        for client in slow:
            client.reads.set()
        await asyncio.wait_for(asyncio.gather(*tasks), LIMIT_S)
        assert all(client.seqs == list(range(1, 36)) and client.replies[0]["whole"] for client in slow)
        replayer.close()

    asyncio.run(test())
