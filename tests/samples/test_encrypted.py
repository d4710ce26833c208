"""Samples that read an encrypted daemon receive what their key may, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mt4pump.cli import main
from tests.programs import Program
from tests.samples.daemons import simulated
from tests.samples.languages import Workshop
from tests.samples.test_reading import LIMIT_S, events_of, reading

pytestmark = pytest.mark.timeout(300)  # the first one builds the samples
WITH_KEYS = ("python", "node", "c", "go")
USERS = {"alice": "quote.*", "bob": "*"}
"""Each user's permitted topics."""


def keys_in(folder: Path) -> Path:
    """Make the daemon's keys and those of all users; return their folder."""
    keys = folder / "keys"
    assert main(["keygen", "server", str(keys)]) == 0
    for user, topics in USERS.items():
        flags = ["--topics", topics, "--server", str(keys / "server.key"), "-o", str(keys)]
        assert main(["keygen", "client", user, *flags]) == 0
    return keys


@pytest.fixture(scope="module")
def readers(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str], Program]]:
    """Give each sample that is installed, once with each user's keys, reading one encrypted daemon."""
    folder = tmp_path_factory.mktemp("encrypted")
    keys = keys_in(folder)
    flags = ("--curve-secret-key", str(keys / "server.secret"), "--curve-clients", str(keys / "clients"))
    with ExitStack() as stack:
        events, query, _ = stack.enter_context(simulated(folder, *flags))
        yield {
            (name, user): stack.enter_context(
                reading(command, events, query, extra={"MT4PUMP_KEYS": str(keys / f"{user}.client")})
            )
            for name in WITH_KEYS
            if (command := workshop.build(name))
            for user in USERS
        }


@pytest.mark.parametrize("name", WITH_KEYS)
def test_of_two_users_each_receives_the_topics_of_its_key(
    workshop: Workshop, readers: dict[tuple[str, str], Program], name: str
) -> None:
    workshop.command(name)
    kinds = {}
    for user, last in (("bob", "trade."), ("alice", "quote.")):
        reader = readers[name, user]
        for line in ("# snapshot ", last, "heartbeat ", "heartbeat "):
            reader.line(line, LIMIT_S)
        kinds[user] = {topic.partition(".")[0] for topic, _ in events_of(reader.lines)}
    assert kinds["alice"] == {"quote", "heartbeat"}
    assert kinds["bob"] >= {"quote", "trade", "symbol", "heartbeat"}
