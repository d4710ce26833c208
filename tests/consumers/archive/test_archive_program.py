"""The archive as a process beside a real daemon: killed, stalled, without its libraries."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

from mt4pump_consumers.archive.folder import read_state

from mt4pump.client import ClientError, Query
from mt4pump.errors import CONSTRAINTS_PLACE
from tests.bus import until
from tests.chaos.processes import free_ports
from tests.consumers.archive.archive_run import rows
from tests.consumers.nats_bridge.nats_run import Process, environment

LIMIT_S = 90.0
PROGRAM = [sys.executable, "-m", "mt4pump_consumers.archive"]


class Compared(NamedTuple):
    """Durable events of the journal; how many of them the archive lacks, how many it has twice; recorded holes."""

    durable: int
    missing: int
    twice: int
    holes: int

    def __str__(self) -> str:
        return f"durable {self.durable}; missing {self.missing}; twice {self.twice}; holes recorded {self.holes}"


class ArchivePrograms:
    """A daemon with the simulator and an archive, each a process."""

    def __init__(self, folder: Path, rate: int = 500, server_code: str = "demo") -> None:
        self.folder, self.path = folder, folder / "archive"
        publish, query, self.metrics_port = free_ports(3)
        self.endpoint, self.query_endpoint = f"tcp://127.0.0.1:{publish}", f"tcp://127.0.0.1:{query}"
        where = ["--pub-endpoint", self.endpoint, "--query-endpoint", self.query_endpoint, "--data-dir", "data"]
        more = [
            "--source",
            "simulator",
            "--rate",
            str(rate),
            "--heartbeat-interval-s",
            "0.2",
            "--server-code",
            server_code,
        ]
        self.daemon = Process([sys.executable, "-m", "mt4pump", "run", *where, *more], folder, "daemon")
        self.archive_program = PROGRAM
        self.archive = self.new_archive("--metrics-port", "0")
        self.verify_environment: dict[str, str] = {}

    @property
    def store(self) -> list[str]:
        """Return the flags that say where the archive stores."""
        return ["--path", str(self.path)]

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Start daemon and archive; kill both at the end."""
        try:
            self.daemon.start()
            self.archive.start()
            yield self
        finally:
            self.archive.kill()
            self.daemon.kill()

    def new_archive(self, *flags: str) -> Process:
        where = ["--endpoint", self.endpoint, "--query-endpoint", self.query_endpoint, *self.store]
        words = [*self.archive_program, *where, "--commit-interval-s", "0.2", *flags]
        return Process([*words, "--compact-files", "4"], self.folder, "archive")

    @property
    def confirmed(self) -> int:
        """Return the offset up to which everything is committed."""
        position = read_state(self.path).position if self.path.exists() else None
        return int((position or {}).get("confirmed", 0))

    @property
    def last_commit(self) -> object:
        """Return what names the last commit."""
        numbers = [int(file.stem) for file in (self.path / "_commits").glob("*.json") if file.stem.isdecimal()]
        return max(numbers, default=0)

    @property
    def events(self) -> int:
        """Return how many events are committed."""
        if not self.path.exists():
            return 0
        return sum(file.rows for file in read_state(self.path).files.values() if file.kind != "gaps")

    def rows(self, kind: str, columns: str) -> list[tuple[Any, ...]]:
        """Return columns of all events of a kind."""
        return rows(self.path, kind, columns)

    def reaches(self, offset: int) -> None:
        until(lambda: self.confirmed >= offset, f"offset {offset}: {self.archive.text[-3000:]}", LIMIT_S)

    def journal(self) -> tuple[str | None, dict[int, str]]:
        """Return the daemon's log, and the topic of each stored event."""
        topics: dict[int, str] = {}
        deadline_s = time.monotonic() + LIMIT_S
        with Query(self.query_endpoint, timeout_s=30) as query:
            while True:
                replay = query.replay(after=max(topics, default=0))
                try:
                    for event in replay:
                        topics[event.offset or 0] = event.topic
                except ClientError:  # busy: the archive's own requests come first
                    assert time.monotonic() < deadline_s
                else:
                    return replay.log, topics

    def check(self, *, least: int) -> None:
        """Stop the archive and compare it with the journal: each durable event once, quotes once, holes recorded."""
        found = self.compare()
        assert found.durable >= least
        assert (found.missing, found.twice) == (0, 0)
        self.check_quotes()

    def compare(self) -> Compared:
        """Stop the archive once it has the whole journal, and compare both; the program's own comparison must agree."""
        log, topics = self.journal()
        self.reaches(max(topics))
        assert self.archive.stop() == 0, self.archive.text[-3000:]
        kinds = {topic.partition(".")[0] for topic in topics.values()}
        stored = [row for kind in kinds for row in self.rows(kind, 'log, "offset", event_topic') if row[1]]
        known = set(stored)
        missing = [(offset, topic) for offset, topic in topics.items() if (log, offset, topic) not in known]
        if not missing and len(known) == len(stored):
            self.verify()
        else:
            sys.stderr.write(f"missing, the first ones: {missing[:5]}; {self.archive.text[-3000:]}\n")
        return Compared(len(topics), len(missing), len(stored) - len(known), len(self.rows("gaps", "kind")))

    def verify(self) -> None:
        """Run the program's own comparison with the journal."""
        verify = [*PROGRAM, "verify", *self.store, "--query-endpoint", self.query_endpoint]
        deadline_s = time.monotonic() + LIMIT_S
        while True:
            done = subprocess.run(
                verify,
                env={**environment(), **self.verify_environment},
                capture_output=True,
                text=True,
                check=False,
                timeout=LIMIT_S,
            )
            is_busy = "did not answer" in done.stderr or "busy" in done.stderr
            if not is_busy or time.monotonic() > deadline_s:
                break
        assert done.returncode == 0, done.stdout + done.stderr

    def check_quotes(self) -> None:
        """Each number of each topic is archived once, or lies in one recorded hole."""
        numbers: dict[tuple[str, int], list[int]] = {}
        for topic, epoch, seq in self.rows("quote", "event_topic, epoch, seq"):
            numbers.setdefault((topic, epoch), []).append(seq)
        holes = self.rows("gaps", "event_topic, epoch, from_seq, to_seq")
        for (topic, epoch), seqs in numbers.items():
            missing = [n for t, e, first, last in holes if (t, e) == (topic, epoch) for n in range(first, last + 1)]
            found = sorted([*seqs, *missing])
            assert found == list(range(found[0], found[-1] + 1)), f"{topic} in {epoch}"


@pytest.fixture(name="programs")
def _programs(tmp_path: Path) -> Iterator[ArchivePrograms]:
    with ArchivePrograms(tmp_path).running() as programs:
        yield programs


@pytest.mark.timeout(300)
def test_while_the_folder_cannot_be_written_nothing_is_lost_that_the_journal_has(programs: ArchivePrograms) -> None:
    programs.reaches(5)
    staging = programs.path / "_staging"
    until(lambda: not list(staging.iterdir()), "nothing staged")
    moved = programs.path / "_moved"
    deadline_s = time.monotonic() + LIMIT_S
    while True:
        try:
            staging.rename(moved)
            break
        except OSError:
            assert time.monotonic() < deadline_s
    until(lambda: "cannot be written" in programs.archive.text, "the fault is logged", LIMIT_S)
    moved.rename(staging)
    until(lambda: "can be written again" in programs.archive.text, "the archive recovers", LIMIT_S)
    programs.check(least=5)


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 8 MB where `ArchivePrograms` has its archive."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a file system can be mounted by root on Linux alone")
    path = tmp_path / "archive"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True, check=False, timeout=LIMIT_S).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True, timeout=LIMIT_S)  # noqa: S607


@pytest.mark.timeout(300)
def test_on_a_full_disk_nothing_is_lost_that_the_journal_has(small_disk: Path, programs: ArchivePrograms) -> None:
    programs.reaches(5)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    until(lambda: "No space left on device" in programs.archive.text, "the fault is logged", LIMIT_S)
    before, faults = programs.confirmed, programs.archive.text.count("No space left on device")
    programs.archive.kill()
    programs.archive.start()
    until(lambda: programs.archive.text.count("No space left on device") > faults, "it starts and tries again", LIMIT_S)
    filler.unlink()
    programs.reaches(before + 1)
    programs.check(least=5)


@pytest.mark.timeout(300)
def test_metrics_and_health(programs: ArchivePrograms) -> None:
    programs.reaches(1)
    programs.archive.kill()
    programs.archive = programs.new_archive("--metrics-port", str(programs.metrics_port))
    programs.archive.start()
    programs.reaches(programs.confirmed + 1)
    base = f"http://127.0.0.1:{programs.metrics_port}"
    with urllib.request.urlopen(f"{base}/healthz", timeout=30) as answer:  # noqa: S310 - our own address
        assert answer.read() == b"ok\n"
    with urllib.request.urlopen(f"{base}/metrics", timeout=30) as answer:  # noqa: S310
        text = answer.read().decode()
    assert 'mt4pump_archive_events_total{kind="session"}' in text
    assert "mt4pump_archive_failures_total 0.0" in text
    assert "mt4pump_archive_journal_risk_ratio" in text


def test_without_its_libraries_it_says_what_to_install_and_that_32_bit_python_has_none(tmp_path: Path) -> None:
    start = "from mt4pump_consumers.archive.__main__ import run; sys.exit(run())"
    hidden = f"import sys; sys.modules['pyarrow'] = None; {start}"
    done = subprocess.run(
        [sys.executable, "-c", hidden], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 3
    assert "the library pyarrow is not installed" in done.stderr
    assert "pip install -c deploy/constraints.txt 'mt4pump[archive]'; there are none for 32-bit Python" in done.stderr
    assert CONSTRAINTS_PLACE in done.stderr


@pytest.mark.timeout(300)
def test_a_folder_in_use_ends_the_program_with_code_3(programs: ArchivePrograms) -> None:
    programs.reaches(1)
    other = programs.new_archive("--metrics-port", "0")
    started = time.monotonic()
    other.start()
    assert other.running is not None
    assert other.running.wait(LIMIT_S) == 3, time.monotonic() - started
    assert "another mt4pump-archive writes to" in other.text


@pytest.mark.timeout(300)
def test_the_guides_query_draws_the_spread_by_hour(programs: ArchivePrograms) -> None:
    """The guide's first two commands are the two programs of this test; the third one is taken from it."""
    guide = (Path(__file__).parents[3] / "consumers" / "README.md").read_text(encoding="utf-8")
    (query,) = re.findall(r'^mt4pump-archive query "(select hour.+)"$', guide, re.MULTILINE)
    until(lambda: any(row[0] == "EURUSD" for row in programs.rows("quote", "symbol")), "quotes are archived", LIMIT_S)
    words = [*PROGRAM, "query", query, "--path", str(programs.path)]
    done = subprocess.run(words, env=environment(), capture_output=True, check=True, timeout=LIMIT_S)
    assert "█" in done.stdout.decode("utf-8")
