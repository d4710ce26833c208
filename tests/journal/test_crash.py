"""kill -9 at random moments costs nothing that was committed, and offsets go on by one."""

import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from mt4pump.journal import JournalReader
from tests.journal.journals import first_page, opened, read_all

ROUNDS = 12


def run_until_killed(path: Path, lines: int) -> int:
    """Let the child commit some groups, kill it, return the last offset that it printed."""
    command = [sys.executable, "-m", "tests.journal.endless_writer", str(path)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as child:
        assert child.stdout is not None
        printed = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        printed += child.stdout.read().splitlines(keepends=True)
    return int([line for line in printed if line.endswith("\n")][-1])


def test_whatever_was_committed_is_there_after_kills_at_random_moments(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    chance = random.Random(20260101)  # noqa: S311 - moments, no secrets
    last, log_ids = 0, set()
    for _ in range(ROUNDS):
        printed = run_until_killed(path, chance.randrange(1, 120))
        offsets = read_all(path, after=last, limit=10_000)
        assert offsets == list(range(last + 1, offsets[-1] + 1)), "no hole, no jump"
        assert printed <= offsets[-1] <= printed + 100, "at most one group was committed and not yet printed"
        with opened(path) as journal:
            assert journal.last_offset == offsets[-1]
            assert journal.last_offsets == {"trade": offsets[-1]}
            log_ids.add(journal.log_id)
        last = offsets[-1]
    assert len(log_ids) == 1
    assert first_page(path).whole
    with closing(JournalReader(path)) as reader:
        page = reader.page(after=last - 1, limit=1)
        assert page.events[0].body == b"x" * 300 + b"-%d" % last
