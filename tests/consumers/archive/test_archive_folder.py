"""The folder: commits are whole or nothing wherever the program is killed; readers see only what is committed."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

from mt4pump_consumers.archive import folder as folder_module
from mt4pump_consumers.archive.folder import ArchiveFolder, FolderError, read_state
from mt4pump_consumers.archive.parquet_store import ParquetStore, join
from mt4pump_consumers.archive.writer import BatchBuilder

from tests.consumers.archive.archive_run import DAY_NS, TS, Crash, killed_at, quote, rows, trade


def commit_offsets(folder: ArchiveFolder, first: int, last: int) -> None:
    """Commit the trades of these offsets and as many quotes, on two days."""
    builder = BatchBuilder(folder.state, Counter())
    for offset in range(first, last + 1):
        builder.add(trade(offset, ts=TS + (offset % 2) * DAY_NS + offset))
        builder.add(quote(offset))
    ParquetStore(folder).commit(builder.take_batch({"log": "L", "confirmed": last, "ahead": {}}))


def reached(folder: ArchiveFolder) -> int:
    return int((folder.state.position or {"confirmed": 0})["confirmed"])


def offsets(path: Path) -> list[int]:
    return sorted(row[0] for row in rows(path, "trade", '"offset"'))


def seqs(path: Path) -> list[int]:
    return sorted(row[0] for row in rows(path, "quote", "seq"))


@pytest.mark.parametrize("full_every", [2, 200])
@given(step=st.integers(0, 250), sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4), with_join=st.booleans())
@settings(max_examples=15, deadline=None)
def test_a_kill_at_any_step_loses_and_doubles_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    full_every: int,
    step: int,
    sizes: list[int],
    with_join: bool,  # noqa: FBT001 - hypothesis calls by name
) -> None:
    path = tmp_path_factory.mktemp("archive")
    folder = ArchiveFolder(path)
    target = 0
    with pytest.MonkeyPatch.context() as patch, killed_at(step):
        patch.setattr(folder_module, "FULL_EVERY", full_every)
        try:
            for size in sizes:
                target += size
                commit_offsets(folder, reached(folder) + 1, target)
            if with_join:
                for place in sorted({file.place for file in folder.state.files.values()}):
                    join(folder, [file for file in folder.state.files.values() if file.place == place])
        except Crash:
            pass
    committed = read_state(path).position or {"confirmed": 0}
    assert set(offsets(path)) <= set(range(1, committed["confirmed"] + 1)), "a reader saw what is not committed"
    folder.close()
    again = ArchiveFolder(path)
    assert offsets(path) == seqs(path) == list(range(1, reached(again) + 1))
    assert list((path / "_staging").iterdir()) == []
    commit_offsets(again, reached(again) + 1, reached(again) + 2)
    assert offsets(path) == seqs(path) == list(range(1, reached(again) + 1))
    again.close()
    shutil.rmtree(path)


def test_a_failed_write_leaves_nothing_and_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ArchiveFolder(tmp_path)
    commit_offsets(folder, 1, 3)

    def full(*_args: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "replace_file", full)
        with pytest.raises(OSError, match="No space left"):
            commit_offsets(folder, 4, 5)
    assert list((tmp_path / "_staging").iterdir()) == []
    commit_offsets(folder, 4, 5)
    assert offsets(tmp_path) == [1, 2, 3, 4, 5]


def test_a_file_that_cannot_be_moved_or_deleted_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, while another program has the file open."""
    folder = ArchiveFolder(tmp_path)
    commit_offsets(folder, 1, 2)

    def held(*_args: object, **_named: object) -> None:
        raise PermissionError(13, "the file is used by another process")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", held)
        commit_offsets(folder, 3, 4)
        files = [file for file in folder.state.files.values() if file.kind == "quote"]
        join(folder, files)
    assert folder.files_waiting == len(files)
    folder.settle()
    assert folder.files_waiting == 0
    assert seqs(tmp_path) == [1, 2, 3, 4]


def test_only_one_archive_writes_to_a_folder(tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path)
    with pytest.raises(FolderError, match="another mt4pump-archive writes"):
        ArchiveFolder(tmp_path)
    folder.close()
    ArchiveFolder(tmp_path).close()


def test_commits_that_are_damaged_or_missing_stop_the_program_with_the_cure(tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path)
    for offset in (1, 2, 3):
        commit_offsets(folder, offset, offset)
    folder.close()
    second = tmp_path / "_commits" / "0000000002.json"
    content = second.read_bytes()
    second.write_bytes(b"{")
    with pytest.raises(FolderError, match=r"0000000002\.json cannot be read .*: restore it"):
        ArchiveFolder(tmp_path)
    second.unlink()
    with pytest.raises(FolderError, match=r"0000000002\.json is missing: restore it"):
        ArchiveFolder(tmp_path)
    second.write_bytes(content)
    ArchiveFolder(tmp_path).close()
    last = tmp_path / "_commits" / "0000000003.json"
    last.unlink()
    with pytest.raises(FolderError, match="is newer than the last commit"):
        ArchiveFolder(tmp_path)
    assert offsets(tmp_path) == [1, 2, 3]


def test_a_full_commit_replaces_all_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "FULL_EVERY", 3)
    folder = ArchiveFolder(tmp_path)
    for offset in range(1, 5):
        commit_offsets(folder, offset, offset)
    assert [file.stem[-1] for file in sorted((tmp_path / "_commits").iterdir())] == ["3", "4"]
    assert json.loads((tmp_path / "_commits" / "0000000003.json").read_text())["is_full"]
    state = read_state(tmp_path)
    assert (state.position, state.seqs, state.files) == (folder.state.position, folder.state.seqs, folder.state.files)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="cannot be written to"):
        ArchiveFolder(tmp_path / "file")
