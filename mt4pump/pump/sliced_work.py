"""Long work of the pump thread, in slices of time between batches of events.

A comparison of a whole table may take seconds. It is a generator that yields after each step of about a millisecond at
most; `SlicedWork` resumes it for one slice at each wake-up.
"""

from __future__ import annotations

import math
import mmap
import sys
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass

from mt4pump.mt4.manager import Array

Steps = Generator[None, None, None]
Schedule = Callable[[str, Callable[[], Steps]], None]

REST_FACTOR = 2.0
"""A table rests this many times the duration of its comparison before it is compared again."""
REST_FROM_S = 0.02
"""Comparisons shorter than this need no rest."""
RELEASED_BYTES_PER_STEP = 4 * 1024 * 1024
"""Bytes of an array given back in one step: some 0.8 ms."""


@dataclass(eq=False, slots=True)
class Job:
    """One scheduled job. ``steps`` is None until it begins, ``took_s`` is the time spent on it."""

    name: str
    start: Callable[[], Steps]
    steps: Steps | None = None
    took_s: float = 0.0

    @property
    def table(self) -> str:
        """Return the table that it reads: the part of its name before a slash."""
        return self.name.partition("/")[0]


class SlicedWork:
    """Runs jobs one after the other, at most one at a time for each table.

    ``slice_s`` is the longest time of one slice; infinite: each job runs to its end. A job reads its table when it is
    added, so that its events precede those of later records. If its table is being compared already, or rests, the job
    begins later. A job that has not begun is not added twice. ``fault`` is called with an error of ``faults`` that a
    job raised.
    """

    def __init__(
        self,
        slice_s: float,
        faults: tuple[type[Exception], ...],
        fault: Callable[[str, Exception], None],
        now_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._slice_s = slice_s
        self._faults = faults
        self._fault = fault
        self._now_s = now_s
        self._jobs: list[Job] = []
        self._rest_until_s: dict[str, float] = {}

    @property
    def is_busy(self) -> bool:
        """Return whether a job waits or runs."""
        return bool(self._jobs)

    @property
    def is_due(self) -> bool:
        """Return whether a job can run now."""
        return bool(self._jobs) and self._next(self._now_s()) is not None

    def add(self, name: str, start: Callable[[], Steps]) -> None:
        """Add a job. It reads its table now if possible, and runs for a slice if no other job waits."""
        if any(job.name == name and job.steps is None for job in self._jobs):
            return
        job = Job(name, start)
        is_free = all(other.table != job.table for other in self._jobs) and self._has_rested(job, self._now_s())
        self._jobs.append(job)
        if len(self._jobs) == 1:
            self.run()
        elif is_free:
            self._run_job(job, -math.inf)

    def run(self) -> None:
        """Run jobs for one slice."""
        began_s = self._now_s()
        until_s = began_s + self._slice_s
        while (job := self._next(began_s)) is not None:
            self._run_job(job, until_s)
            if self._now_s() >= until_s:
                return

    def clear(self) -> None:
        """Drop all jobs, because the session whose tables they read ended."""
        jobs, self._jobs = self._jobs, []
        self._rest_until_s.clear()
        for job in jobs:
            if job.steps is not None:
                job.steps.close()

    def _next(self, now_s: float) -> Job | None:
        running = (job for job in self._jobs if job.steps is not None)
        return next(running, None) or next((job for job in self._jobs if self._has_rested(job, now_s)), None)

    def _has_rested(self, job: Job, now_s: float) -> bool:
        return self._rest_until_s.get(job.table, 0.0) <= now_s

    def _run_job(self, job: Job, until_s: float) -> None:
        """Run ``job`` until its end or ``until_s``."""
        began_s = self._now_s()
        try:
            if job.steps is None:
                job.steps = job.start()
            for _ in job.steps:
                if self._now_s() >= until_s:
                    job.took_s += self._now_s() - began_s
                    return
        except self._faults as fault:
            self._fault(job.name, fault)
        if job in self._jobs:  # else the job itself led to `clear`
            self._jobs.remove(job)
        now_s = self._now_s()
        job.took_s += now_s - began_s
        if job.took_s >= REST_FROM_S and math.isfinite(self._slice_s):
            self._rest_until_s[job.table] = now_s + REST_FACTOR * job.took_s


def release(array: Array) -> Steps:
    """Give the memory of a large array back in steps: 112 MB at once take 23 ms. The caller must not read it again.

    On Windows, where that cannot be done in parts, it does nothing: the last reference frees it.
    """
    memory = array.obj if isinstance(array, memoryview) else None
    if sys.platform != "win32" and isinstance(memory, mmap.mmap):
        for start in range(0, len(memory), RELEASED_BYTES_PER_STEP):
            with suppress(OSError):  # pages that are locked in memory stay until the last reference goes
                memory.madvise(mmap.MADV_DONTNEED, start, min(RELEASED_BYTES_PER_STEP, len(memory) - start))
            yield
