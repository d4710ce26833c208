"""The epoch grows from run to run, whatever the clock does."""

from __future__ import annotations

from pathlib import Path

import pytest

from mt4pump.errors import StartError
from mt4pump.process import data_folder
from mt4pump.process.data_folder import EPOCH, next_epoch

NOW_MS = 1_795_000_000_000
HOUR_MS = 3_600_000


def test_it_is_the_clock_where_that_goes_on(tmp_path: Path) -> None:
    assert [next_epoch(tmp_path, now_ms) for now_ms in (NOW_MS, NOW_MS + 1, NOW_MS + HOUR_MS)] == [
        NOW_MS,
        NOW_MS + 1,
        NOW_MS + HOUR_MS,
    ]


@pytest.mark.parametrize("back_ms", [0, 1, HOUR_MS, 400 * 24 * HOUR_MS, NOW_MS])
def test_it_grows_by_one_where_the_clock_went_back(tmp_path: Path, back_ms: int) -> None:
    next_epoch(tmp_path, NOW_MS)
    assert [next_epoch(tmp_path, NOW_MS - back_ms) for _ in range(3)] == [NOW_MS + 1, NOW_MS + 2, NOW_MS + 3]
    assert next_epoch(tmp_path, NOW_MS + HOUR_MS) == NOW_MS + HOUR_MS


def test_a_clock_that_went_back_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    next_epoch(tmp_path, NOW_MS)
    next_epoch(tmp_path, NOW_MS - HOUR_MS)
    assert "the machine's clock is 3600 s behind the start of the run before" in caplog.text


@pytest.mark.parametrize("text", ["", "\n", "-5", "nonsense", "9" * 60, str(2**53), "1.5", "\x00" * 20, "²"])
def test_a_damaged_file_is_written_anew(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / EPOCH).write_text(text, encoding="utf-8")
    assert next_epoch(tmp_path, NOW_MS) == NOW_MS
    assert "holds no epoch" in caplog.text
    assert next_epoch(tmp_path, NOW_MS) == NOW_MS + 1


def test_an_epoch_that_cannot_be_stored_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(data_folder, "replace_file", full)
    with pytest.raises(StartError, match=r"epoch cannot be written \(No space left on device\)"):
        next_epoch(tmp_path, NOW_MS)


def test_an_epoch_that_cannot_be_read_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / EPOCH).mkdir()
    with pytest.raises(StartError, match="epoch cannot be read"):
        next_epoch(tmp_path, NOW_MS)
