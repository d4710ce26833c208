"""Long fuzz runs: one file per target, each with ``main(arguments)``; see `__main__`. The suite holds bounded forms.

Here is what they measure: the memory of a process by tenths of the run, and the age of quotes that a reader beside the
fuzzer receives, in rounds without and with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Self

import psutil

ROOT = Path(__file__).parents[2]
TENTHS = 10
SETTLED = 4
"""Tenths after which memory must be flat: the first number that is beyond a third of the run."""
GROWTH_LIMIT_MB = 8.0


class MemoryByTenth:
    """The memory of process ``pid`` after each tenth of ``total`` pieces of work.

    ``beside`` is the pid of a process with the same feed that nobody fuzzes: what it grows by, both need for the feed.
    """

    def __init__(self, pid: int, total: int, beside: int | None = None) -> None:
        self.mb: list[float] = []
        self.beside = None if beside is None else MemoryByTenth(beside, total)
        self._process, self._total = psutil.Process(pid), max(1, total)

    def note(self, done: int) -> None:
        """Note the memory if another tenth is done."""
        while len(self.mb) < min(TENTHS, TENTHS * done // self._total):
            self.mb.append(self.now_mb())
        if self.beside is not None:
            self.beside.note(done)

    def now_mb(self) -> float:
        """Return the memory now."""
        return float(self._process.memory_info().rss / 2**20)

    @property
    def growth_mb(self) -> float:
        """Return how much larger it became than it was once `SETTLED`, without what the feed needs."""
        grown = max(self.mb[SETTLED:], default=0.0) - self.mb[SETTLED - 1] if len(self.mb) >= SETTLED else 0.0
        return grown - max(0.0, self.beside.growth_mb if self.beside is not None else 0.0)

    @property
    def fault(self) -> str:
        """Return what is wrong, empty when it stayed flat."""
        return (
            f"memory grew by {self.growth_mb:.1f} MB after the first third" if self.growth_mb > GROWTH_LIMIT_MB else ""
        )

    def exit_code(self) -> int:
        """Return 0 when it stayed flat; else print what is wrong and return 1."""
        if self.fault:
            report_line(f"WRONG: {self.fault}")
        return 1 if self.fault else 0

    def report(self) -> str:
        """Return the memory after each tenth."""
        values = " ".join(f"{each:.0f}" for each in self.mb)
        line = f"memory after each tenth, MB: {values}; {self.growth_mb:+.1f} after the first third"
        return f"{line} without what the feed needs; nobody fuzzes: {self.beside.report()}" if self.beside else line


class QuoteReader:
    """A process that prints the age of each quote in ms; a process of its own, so that no fuzzer delays it."""

    def __init__(self, *command: str, environment: dict[str, str] | None = None) -> None:
        self._ages: list[float] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz", *command], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._ages.append(float(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def has_any(self) -> bool:
        """Return whether a quote came since the last `take`."""
        return bool(self._ages)

    def take(self) -> list[float]:
        """Return the ages since the last call; raises RuntimeError when the reader ended."""
        if self._process.poll() is not None:
            raise RuntimeError("the reader of quotes ended")
        ages, self._ages = self._ages, []
        return ages


@dataclass(slots=True)
class QuoteAges:
    """Ages of quotes in ms, by round: ``alone`` without the fuzzer, ``beside`` it.

    ``valid``, if measured: beside the same senders with as many valid messages, which cost a small machine as much.
    """

    alone: list[list[float]] = field(default_factory=list)
    beside: list[list[float]] = field(default_factory=list)
    valid: list[list[float]] = field(default_factory=list)

    def report(self) -> Iterator[str]:
        """Yield the percentiles of each round, and the medians of the rounds' ratios, which nothing asserts."""
        for number, (alone, beside) in enumerate(zip(self.alone, self.beside, strict=True), 1):
            valid = f"; beside valid messages {_ages(self.valid[number - 1])}" if self.valid else ""
            yield f"round {number}: quotes alone {_ages(alone)}; beside the fuzzer {_ages(beside)}{valid}"
        for other, what in ((self.alone, "alone"), (self.valid, "beside valid messages")):
            for part, name in ((0.5, "p50"), (0.99, "p99")):
                pairs = [(percentile(one, part), percentile(two, part)) for one, two in zip(other, self.beside)]  # noqa: B905 - none is valid
                ratios = [beside_ms / other_ms for other_ms, beside_ms in pairs if other_ms]
                if ratios:
                    yield f"{name} beside the fuzzer, as a multiple of {what}: median of rounds {median(ratios):.2f}"


def report_line(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value that ``part`` of all values do not exceed, 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


def _ages(ages: Sequence[float]) -> str:
    found = [percentile(ages, 0.5), percentile(ages, 0.99), max(ages, default=0.0)]
    return "p50 {:.2f}, p99 {:.1f}, most {:.1f} ms of {}".format(*found, len(ages))


def give_way(niceness: int) -> None:
    """Let the programs that are tested go first on a small machine: a real attacker takes no time of their processors.

    On Linux any ``niceness`` but 0 means: only while nobody else wants a processor.
    """
    if niceness and sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    elif niceness and hasattr(os, "nice"):
        os.nice(niceness)
