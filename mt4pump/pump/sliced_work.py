"""Long work of the pump thread, done in slices between batches of events.

A comparison of a whole table may take seconds. It is a generator that yields after each step of at most about a
millisecond; `SlicedWork` goes on with it for one slice at each wake-up.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Steps = Iterator[None]
Start = Callable[[], Steps]
Schedule = Callable[[str, Start], None]

REST_FACTOR = 2.0
"""How many times as long as it took a job rests before it is done again."""
REST_FROM_S = 0.02
"""Jobs quicker than this need no rest."""


@dataclass(slots=True)
class Job:
    """One piece of work that was asked for. ``steps`` is None until it begins, ``took_s`` the time spent on it."""

    name: str
    start: Start
    steps: Steps | None = None
    took_s: float = 0.0

    @property
    def table(self) -> str:
        """Return the table that it works on: what stands before a slash in its name."""
        return self.name.partition("/")[0]


class SlicedWork:
    """Does jobs one after the other, one at a time for each table.

    ``slice_s`` is how long one slice may take; infinite: each job is done at once. A job reads its table when it is
    added, so that what it finds stands before all events that come later; only when its table is being compared
    already, or rests, it begins later. A job that has not begun is not added a second time. ``fault`` takes what a job
    raises of ``faults``.
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
        """Return whether a job waits or is under way."""
        return bool(self._jobs)

    @property
    def is_due(self) -> bool:
        """Return whether a job can go on now."""
        return bool(self._jobs) and self._next(self._now_s()) is not None

    def add(self, name: str, start: Start) -> None:
        """Add a job; it reads its table now if it can, and gets a first slice when no other job waits."""
        if any(job.name == name and job.steps is None for job in self._jobs):
            return
        job = Job(name, start)
        is_free = all(other.table != job.table for other in self._jobs) and self._has_rested(job, self._now_s())
        self._jobs.append(job)
        if len(self._jobs) == 1:
            self.run()
        elif is_free:
            self._go_on(job, -math.inf)

    def run(self) -> None:
        """Work for one slice."""
        began_s = self._now_s()
        until_s = began_s + self._slice_s
        while (job := self._next(began_s)) is not None:
            self._go_on(job, until_s)
            if self._now_s() >= until_s:
                return

    def clear(self) -> None:
        """Give up all jobs: what they read is of a session that ended."""
        jobs, self._jobs = self._jobs, []
        self._rest_until_s.clear()
        for job in jobs:
            if job.steps is not None:
                job.steps.close()  # type: ignore[attr-defined]

    def _next(self, now_s: float) -> Job | None:
        under_way = [job for job in self._jobs if job.steps is not None]
        return under_way[0] if under_way else next((job for job in self._jobs if self._has_rested(job, now_s)), None)

    def _has_rested(self, job: Job, now_s: float) -> bool:
        return self._rest_until_s.get(job.table, 0.0) <= now_s

    def _go_on(self, job: Job, until_s: float) -> None:
        """Do steps of ``job`` until its end or ``until_s``."""
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
        if job in self._jobs:  # else the work was cleared by what it did
            self._jobs.remove(job)
        now_s = self._now_s()
        job.took_s += now_s - began_s
        if job.took_s >= REST_FROM_S and math.isfinite(self._slice_s):
            self._rest_until_s[job.table] = now_s + REST_FACTOR * job.took_s


def at_once(_name: str, start: Start) -> None:
    """Do a job now, whole."""
    for _ in start():
        pass
