"""Every sample reads a live daemon, and notices what a faulty wire does to it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import pytest

from tests.programs import Program, piped, program
from tests.samples.daemons import simulated
from tests.samples.languages import LANGUAGES, Words, Workshop, environment

pytestmark = pytest.mark.timeout(300)  # the first one builds all samples
LIMIT_S = 90.0
"""All samples start at the same time, on machines that have two cores."""
FAULTS = "drop=3%,duplicate=3%,mute=6s:4s,restart=16s"


@contextmanager
def reading(command: Words, *arguments: str, extra: Mapping[str, str] | None = None) -> Iterator[Program]:
    """Run a sample, with ``extra`` in its environment."""
    with program(piped([*command, *arguments], {**environment(), **(extra or {})})) as run:
        yield run


Readers = dict[str, Program]
READING = [name for name, language in LANGUAGES.items() if language.speaks_zmtp_3]
REFUSED = [name for name in LANGUAGES if name not in READING]


@contextmanager
def all_reading(workshop: Workshop, *arguments: str) -> Iterator[Readers]:
    """Run every sample whose language is there, at the same time."""
    commands = {name: command for name in READING if (command := workshop.build(name))}
    with ExitStack() as open_:
        yield {name: open_.enter_context(reading(command, *arguments)) for name, command in commands.items()}


@pytest.fixture(scope="module")
def live(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Readers]:
    """Give all samples, reading a daemon in good order."""
    with ExitStack() as open_:
        events, query, _ = open_.enter_context(simulated(tmp_path_factory.mktemp("live")))
        yield open_.enter_context(all_reading(workshop, events, query))


@pytest.fixture(scope="module")
def faulty(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Readers]:
    """Give all samples, reading a daemon behind a faulty wire."""
    with ExitStack() as open_:
        events, query, _ = open_.enter_context(simulated(tmp_path_factory.mktemp("faulty"), "--wire-faults", FAULTS))
        yield open_.enter_context(all_reading(workshop, events, query))


def events_of(lines: list[str]) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield topic and body of every printed event and row."""
    for line in lines:
        if not line.startswith("#"):
            at = line.rindex(" {", 0, line.index('"') + 1)
            yield (
                line[:at],
                json.loads(line[at:].replace('"=>nil', '":null').replace('"=>', '":')),
            )  # msgpack-c's own form


def notes_of(lines: list[str]) -> Counter[str]:
    """Return how often each kind of note was printed."""
    return Counter(" ".join(line.split()[:2]) for line in lines if line.startswith("#"))


@pytest.mark.parametrize("name", READING)
def test_a_sample_joins_a_live_daemon_and_finds_no_loss(workshop: Workshop, live: Readers, name: str) -> None:
    workshop.command(name)
    reader = live[name]
    rows = int(reader.line("# snapshot ", LIMIT_S).rpartition(" ")[2])
    for part in ("quote.", "trade.", "heartbeat ", "heartbeat "):
        reader.line(part, LIMIT_S)
    events = list(events_of(reader.lines))
    assert rows == sum("snapshot" in body for _, body in events) > 0
    assert {topic.partition(".")[0] for topic, _ in events} >= {"quote", "trade", "symbol", "heartbeat"}
    assert notes_of(reader.lines).keys() <= {"# epoch", "# snapshot", "# known"}, reader.text[-2_000:]


@pytest.mark.parametrize("name", READING)
def test_a_sample_notices_losses_repeats_silence_and_a_restart(workshop: Workshop, faulty: Readers, name: str) -> None:
    workshop.command(name)
    reader = faulty[name]
    wanted = {"# epoch": 2, "# snapshot": 2, "# gap": 1, "# known": 1, "# silence": 1}
    while any(notes_of(reader.lines)[note] < least for note, least in wanted.items()):
        reader.line("# ", LIMIT_S)
    last: dict[tuple[str, int], int] = {}
    for topic, body in events_of(reader.lines):
        if "snapshot" not in body:
            assert body["seq"] > last.get((topic, body["epoch"]), 0)
            last[topic, body["epoch"]] = body["seq"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_library_older_than_zmtp_3_receives_nothing(workshop: Workshop, live: Readers, name: str) -> None:
    with reading(workshop.command(name), *addresses_of(live["python"])) as reader:
        reader.line("# silence", LIMIT_S)
        reader.line("# silence", LIMIT_S)
    assert list(events_of(reader.lines)) == []


def test_a_sample_reads_only_the_topics_it_was_given(workshop: Workshop, live: Readers) -> None:
    assert live, "no sample runs at all"
    with reading(workshop.command("python"), *addresses_of(live["python"]), "trade.", "session.") as reader:
        reader.line("# snapshot ", LIMIT_S)
        reader.line("heartbeat ", LIMIT_S)
    kinds = {topic.partition(".")[0] for topic, _ in events_of(reader.lines)}
    assert kinds <= {"trade", "session", "heartbeat"}
    assert "trade" in kinds


def addresses_of(reader: Program) -> tuple[str, str]:
    """Return the addresses that a running sample was given."""
    events, query = list(reader.process.args)[-2:]  # type: ignore[arg-type]
    return str(events), str(query)
