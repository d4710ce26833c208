"""`Query`: one question, one answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from mt4pump.client import ClientError, Query
from tests.bus import until
from tests.client.daemon_model import DaemonModel
from tests.client.fake_daemon import LIMIT_S, FakeDaemon


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    model = DaemonModel(suffix="|")
    model.page_limit = 3
    with FakeDaemon(model) as running:
        yield running


@pytest.fixture
def query(daemon: FakeDaemon) -> Iterator[Query]:
    assert daemon.query_endpoint is not None
    with Query(daemon.query_endpoint, timeout_s=LIMIT_S) as asking:
        yield asking


def test_describe_gives_what_the_daemon_says_of_itself(query: Query) -> None:
    assert query.describe()["protocol"] == 1


def test_a_snapshot_is_put_together_from_its_pages(daemon: FakeDaemon, query: Query) -> None:
    daemon.publish(*(f"quote.S{number}" for number in range(10)), bid=1.0)
    daemon.publish("quote.S1", "trade.5")
    found = query.snapshot(["quote.*"])
    assert len(found.events) == 10
    assert all(event.snapshot and event.topic.startswith("quote.S") for event in found.events)
    assert found.seqs["quote.S1"] == 2
    assert (found.epoch, found.log, found.offset) == (1_000, "log-1", 1)


def test_a_replay_goes_through_all_pages_and_says_whether_it_is_whole(daemon: FakeDaemon, query: Query) -> None:
    daemon.publish(*(f"trade.{number}" for number in range(10)))
    replay = query.replay(["trade.*"], after=2)
    assert replay.whole is None
    assert [event.offset for event in replay] == list(range(3, 11))
    assert replay.whole is True
    daemon.do(lambda: daemon.model.delete_up_to(5))
    replay = query.replay(["trade.*"], to=8)
    assert [event.offset for event in replay] == [6, 7, 8]
    assert replay.whole is False
    assert replay.first_available == 6


@pytest.mark.parametrize("pages", [2, 3])
def test_a_replay_of_which_the_first_page_was_not_whole_is_not_whole(
    daemon: FakeDaemon, query: Query, pages: int
) -> None:
    daemon.publish(*(f"trade.{number}" for number in range(5 + 3 * pages)))
    daemon.do(lambda: daemon.model.delete_up_to(5))
    replay = query.replay(["trade.*"])
    assert len(list(replay)) == 3 * pages
    assert replay.whole is False


def test_a_name_gives_no_other_topic(daemon: FakeDaemon, query: Query) -> None:
    daemon.publish("trade.100", "trade.1001")
    assert [event.topic for event in query.replay(["trade.100"])] == ["trade.100"]


def test_a_refusal_has_the_daemons_code(daemon: FakeDaemon, query: Query) -> None:
    daemon.refuse = "forbidden"
    with pytest.raises(ClientError, match="refused on purpose") as caught:
        query.describe()
    assert caught.value.code == "forbidden"


def test_silence_ends_in_a_time_out_and_the_next_question_works(
    daemon: FakeDaemon,
) -> None:
    daemon.mute = True
    with Query(daemon.query_endpoint or "", timeout_s=0.5) as query:
        with pytest.raises(ClientError, match=r"did not answer `describe` within 0\.5 s") as caught:
            query.describe()
        assert caught.value.code == "timeout"
        daemon.mute = False

        def is_answered() -> bool:
            with suppress(ClientError):  # a busy machine may take longer
                return bool(query.describe()["protocol"] == 1)
            return False

        until(is_answered, "the next question works")


def test_topics_that_can_match_nothing_are_warned_about_unless_the_program_does_so(
    query: Query, caplog: pytest.LogCaptureFixture
) -> None:
    with Query(query.endpoint, warn=False) as other:
        other.snapshot(["quote"])
    assert caplog.messages == []
    query.snapshot(["quote", "trade.*"])
    query.replay(["trde"])
    assert caplog.messages == [
        "topic 'quote' can match nothing that a daemon publishes; did you mean 'quote.*'?",
        "topic 'trde' can match nothing that a daemon publishes; did you mean 'trade.*'?",
    ]
