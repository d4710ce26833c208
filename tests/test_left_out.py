"""What the unit suite leaves out under Wine exists: a renamed test would run there again, and end the run."""

from __future__ import annotations

from tests.wine.machine import ROOT
from tests.wine.test_unit_suite import LEFT_OUT, NOT_COLLECTED


def test_every_file_and_folder_that_is_left_out_exists() -> None:
    assert [name for name in NOT_COLLECTED if not (ROOT / name).exists()] == []


def test_every_test_that_is_left_out_exists() -> None:
    named = [name.partition("::") for name in LEFT_OUT]
    gone = [
        (file, test)
        for file, _, test in named
        if f"def {test.rpartition('::')[2]}(" not in (ROOT / file).read_text(encoding="utf-8")
    ]
    assert gone == []
