"""What the long fuzz runs conclude from memory."""

from __future__ import annotations

import os

import pytest

from tests.fuzz import MemoryByTenth


def memory_of(mb: list[float], beside: list[float]) -> MemoryByTenth:
    """Return a finished measurement."""
    made = MemoryByTenth(os.getpid(), 10, os.getpid())
    made.mb = mb
    assert made.beside is not None
    made.beside.mb = beside
    return made


GROWING = [50.0 + 2 * tenth for tenth in range(10)]


@pytest.mark.parametrize(
    ("mb", "beside", "fault"),
    [
        (GROWING, [50.0] * 10, "memory grew by 12.0 MB after the first third"),
        (GROWING, GROWING, ""),
        ([50.0] * 10, GROWING, ""),
    ],
)
def test_growth_counts_where_a_process_that_nobody_fuzzes_does_not_grow(
    mb: list[float], beside: list[float], fault: str
) -> None:
    assert memory_of(mb, beside).fault == fault


def test_it_is_noted_once_for_each_tenth_of_both() -> None:
    made = MemoryByTenth(os.getpid(), 20, os.getpid())
    for done in (1, 2, 3, 9, 20):
        made.note(done)
    assert made.beside is not None
    assert len(made.mb) == len(made.beside.mb) == 10
