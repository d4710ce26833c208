"""Replays of a real journal: what one thread commits, another reads, event for event."""

from __future__ import annotations

from pathlib import Path

from mt4pump.journal import Journal, JournalOptions, JournalReader, Stored
from tests.query.stand import TS, Answer, Bench, Stand, ask, stand, stored


def journal_of(path: Path, count: int) -> Journal:
    journal = Journal(path, JournalOptions(), lambda: TS)
    assert journal.append([Stored(*event) for event in stored(count)], {})
    return journal


def all_pages(at: Stand, **request: object) -> list[Answer]:
    answers: list[Answer] = []
    after: int | None = 0
    with at.peer() as socket:
        while after is not None:
            answers.append(ask(socket, op="replay", after=after, **request))
            assert answers[-1].head["ok"], answers[-1].head
            after = answers[-1].head["next"]
    return answers


def test_a_replay_gives_every_committed_event_once_and_in_order(tmp_path: Path) -> None:
    journal = journal_of(tmp_path / "journal", 3_000)
    with stand(Bench(reader=JournalReader(tmp_path / "journal"))) as at:
        answers = all_pages(at, limit=700)
        assert [body[0] for answer in answers for body in answer.bodies] == list(range(1, 3_001))
        assert [answer.head["count"] for answer in answers] == [700, 700, 700, 700, 200]
        assert all(answer.head["whole"] and answer.head["last"] == 3_000 for answer in answers)
        one_account = all_pages(at, limit=50, topics=["trade.1003"])
        assert [body[0] for answer in one_account for body in answer.bodies] == list(range(3, 3_001, 10))
        late = all_pages(at, since=TS + 2_000, until=TS + 2_010)
        assert [body[0] for answer in late for body in answer.bodies] == list(range(2_000, 2_011))
    journal.close()


def test_a_journal_that_is_not_there_is_told_and_found_when_it_comes(tmp_path: Path) -> None:
    with stand(Bench(reader=JournalReader(tmp_path / "journal"))) as at:
        refused = at.ask(op="replay").head
        assert (refused["code"], "journal" in refused["error"]) == ("journal_error", True)
        journal = journal_of(tmp_path / "journal", 3)
        assert at.ask(op="replay").head["count"] == 3
        journal.close()
