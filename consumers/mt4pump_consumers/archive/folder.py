"""The folder of an archive: Parquet files, and the commits that say which of them count.

A commit is one file, ``_commits/NUMBER.json``: the files that it adds and removes, and the position in the stream. Its
rename is the commit. The data is complete in ``_staging`` before, and moved to ``<kind>/server_code=…/date=…/`` after,
so no reader ever sees a row that is not committed. What a killed program left half done, `ArchiveFolder` finishes or
removes when it opens the folder.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from mt4pump.private_files import is_open_to_all, make_private_folder, replace_file, sync_folder
from mt4pump_consumers.archive.columns import TOPIC, sort_columns
from mt4pump_consumers.archive.store import StoreError, StreamState

COMMITS, STAGING, LOCK = "_commits", "_staging", "archive.lock"
DATA_FILE = re.compile(r"part-(\d{10})(?:-\d+)?\.parquet")
FULL_EVERY = 200
"""Commits between two that hold the whole state, before which older ones are deleted."""
ROW_GROUP_ROWS = 250_000
REPEATING = [TOPIC, "symbol", "log", "epoch", "digits", "spread", "direction", "kind", "why", "action", "change"]
DELTAS = dict.fromkeys(("ts", "ts_utc", "seq", "offset", "order", "from_seq", "to_seq"), "DELTA_BINARY_PACKED")

log = logging.getLogger(__name__)


class FolderError(StoreError):
    """The folder cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A committed file; ``path`` is relative to the folder. Times are ns since 1970."""

    path: str
    staged: str
    rows: int
    bytes: int
    first_ts: int
    last_ts: int

    @property
    def place(self) -> str:
        """Return the folder of the file, which names kind, server code and date."""
        return self.path.rpartition("/")[0]

    @property
    def kind(self) -> str:
        """Return the kind of event in the file."""
        return self.path.partition("/")[0]

    @property
    def date(self) -> str:
        """Return the UTC date of all rows, as 2026-11-28."""
        return self.path.split("/")[2].removeprefix("date=")


@dataclass(slots=True)
class State(StreamState):
    """What the commits say together.

    ``imports`` has the names of imported files by SHA-256, ``import_sizes`` their bytes and ticks.
    """

    number: int = 0
    imports: dict[str, str] = field(default_factory=dict)
    import_sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    files: dict[str, DataFile] = field(default_factory=dict)

    def apply(self, commit: Mapping[str, Any]) -> None:
        """Add what a commit says."""
        if commit["is_full"]:
            self.files, self.seqs, self.imports, self.import_sizes = {}, {}, {}, {}
        self.number = commit["number"]
        self.position = commit["position"] or self.position
        self.seqs.update(commit["seqs"])
        self.imports.update(commit.get("imports", {}))
        self.import_sizes.update(
            (digest, (size, rows)) for digest, (size, rows) in commit.get("import_sizes", {}).items()
        )
        self.first_epoch = commit["first_epoch"] or self.first_epoch
        for path in commit["removed"]:
            self.files.pop(path, None)
        for row in commit["added"]:
            self.files[row["path"]] = DataFile(**row)


@dataclass(frozen=True, slots=True)
class Staged:
    """A complete file in ``_staging``, to be committed as a file of ``place``."""

    name: str
    place: str
    rows: int
    size: int
    span: tuple[int, int]


def place_of(kind: str, server_code: str, date: str) -> str:
    """Return the folder of a kind's files of one server and day."""
    return f"{kind}/server_code={server_code}/date={date}"


def read_state(path: Path) -> State:
    """Return the committed state of a folder without changing anything; raises FolderError."""
    numbers = _commit_numbers(path)
    state, start = State(), 0
    commits = {number: _commit_file(path, number) for number in numbers}
    found: dict[int, dict[str, Any]] = {}
    for number in reversed(numbers):
        try:
            found[number] = json.loads(commits[number].read_bytes())
        except FileNotFoundError:  # the archive has just deleted it
            continue
        except (OSError, ValueError) as error:
            raise FolderError(f"{commits[number]} cannot be read ({error}): restore it from a backup") from error
        if found[number]["is_full"]:
            start = number
            break
    for number in range(start or 1, numbers[-1] + 1 if numbers else 0):
        if number not in found:
            if _commit_numbers(path)[-1:] != numbers[-1:]:  # a full commit has just replaced those before it
                return read_state(path)
            raise FolderError(f"{_commit_file(path, number)} is missing: restore it from a backup")
        state.apply(found[number])
    return state


def _commit_numbers(path: Path) -> list[int]:
    return sorted(int(file.stem) for file in (path / COMMITS).glob("*.json") if file.stem.isdecimal())


def _commit_file(path: Path, number: int) -> Path:
    return path / COMMITS / f"{number:010d}.json"


class ArchiveFolder:
    """The folder, for the one program that writes it; its methods may be called by several threads.

    ``files_waiting`` counts files that could not be moved or deleted yet, as on Windows while a reader has them open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mutex = RLock()
        self._staged_count = 0
        self._waiting_moves: dict[str, DataFile] = {}
        self._waiting_removals: set[str] = set()
        try:
            make_private_folder(path)  # one that is there already keeps its rights, so that others may read it
            if is_open_to_all(path):
                raise FolderError(f"{path} may be written to by every user of this machine: chmod o-w {path}")
            for folder in (path / COMMITS, path / STAGING):
                folder.mkdir(exist_ok=True)
            self._lock = FileLock(path / LOCK, thread_local=False)
            self._lock.acquire(timeout=0.3)
        except Timeout as error:
            raise FolderError(f"another mt4pump-archive writes to {path}: stop it, or give another --path") from error
        except OSError as error:
            raise FolderError(f"{path} cannot be written to ({error.strerror or error}): make it writable") from error
        try:
            self.state = read_state(path)
            self._recover()
        except BaseException:
            self._lock.release()
            raise

    @property
    def files_waiting(self) -> int:
        """Return how many files could not be moved or deleted yet."""
        return len(self._waiting_moves) + len(self._waiting_removals)

    def close(self) -> None:
        """Let another program write."""
        self._lock.release()

    def stage(self, table: pa.Table, kind: str, place: str) -> Staged:
        """Write a sorted table into ``_staging``; raises OSError."""
        order = [(name, "ascending") for name in sort_columns(kind)]
        with self.staging(table.schema, place) as writer:
            writer.write(table.sort_by(order))
        return writer.staged

    def discard(self, staged: Iterable[Staged]) -> None:
        """Delete staged files that are not committed."""
        for one in staged:
            with suppress(OSError):
                (self.path / STAGING / one.name).unlink(missing_ok=True)

    def staging(self, schema: pa.Schema, place: str) -> StagingWriter:
        """Return a writer of a file in ``_staging``."""
        with self._mutex:
            self._staged_count += 1
            name = f"{self.state.number:010d}-{self._staged_count}.parquet"
        return StagingWriter(self.path / STAGING / name, schema, place)

    def commit(
        self,
        staged: Iterable[Staged],
        *,
        removed: Iterable[str] = (),
        position: Mapping[str, Any] | None = None,
        seqs: Mapping[str, list[int]] | None = None,
        first_epoch: int = 0,
        imports: Mapping[str, str] | None = None,
        import_sizes: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        """Commit files, position and removals together, then publish the files; raises OSError if nothing happened."""
        gone = list(removed)
        with self._mutex:
            number = self.state.number + 1
            added = [
                DataFile(f"{one.place}/part-{number:010d}-{at}.parquet", one.name, one.rows, one.size, *one.span)
                for at, one in enumerate(staged)
            ]
            commit = {
                "number": number,
                "is_full": False,
                "position": position,
                "seqs": seqs or {},
                "first_epoch": first_epoch,
                "removed": gone,
                "imports": dict(imports or {}),
                "import_sizes": dict(import_sizes or {}),
                "added": [asdict(file) for file in added],
            }
            if number % FULL_EVERY == 0:
                commit = self._whole(commit)
            replace_file(_commit_file(self.path, number), json.dumps(commit).encode())
            self.state.apply(commit)
            self._waiting_moves.update((file.path, file) for file in added)
            self._waiting_removals.update(gone)
            self.settle()
            if commit["is_full"]:
                self._delete_commits_before(number)

    def _whole(self, commit: Mapping[str, Any]) -> dict[str, Any]:
        whole = State(files=dict(self.state.files), seqs=dict(self.state.seqs), position=self.state.position)
        whole.first_epoch, whole.imports = self.state.first_epoch, dict(self.state.imports)
        whole.import_sizes = dict(self.state.import_sizes)
        whole.apply(commit)
        files = [asdict(file) for file in whole.files.values()]
        return {
            "number": whole.number,
            "is_full": True,
            "position": whole.position,
            "seqs": whole.seqs,
            "first_epoch": whole.first_epoch,
            "removed": [],
            "imports": whole.imports,
            "import_sizes": whole.import_sizes,
            "added": files,
        }

    def settle(self) -> None:
        """Move committed files to their places and delete removed ones; what fails is tried again the next time."""
        with self._mutex:
            for file in list(self._waiting_moves.values()):
                try:
                    target = self.path / file.place
                    target.mkdir(parents=True, exist_ok=True)
                    (self.path / STAGING / file.staged).replace(self.path / file.path)
                    sync_folder(target)
                except OSError as error:
                    log.warning("%s is committed and cannot be moved to its place yet: %s", file.path, error)
                else:
                    del self._waiting_moves[file.path]
            for path in list(self._waiting_removals):
                try:
                    (self.path / path).unlink(missing_ok=True)
                except OSError as error:
                    log.warning("%s cannot be deleted yet: %s", path, error)
                else:
                    self._waiting_removals.discard(path)
                    with suppress(OSError):  # the day's folder, if it is empty now
                        (self.path / path).parent.rmdir()

    def _delete_commits_before(self, number: int) -> None:
        for file in (self.path / COMMITS).glob("*.json"):
            if file.stem.isdecimal() and int(file.stem) < number:
                with suppress(OSError):
                    file.unlink()

    def _recover(self) -> None:
        """Finish the last commits and remove what none names. Runs before anything is written."""
        for file in self.state.files.values():
            if (self.path / STAGING / file.staged).exists():
                self._waiting_moves[file.path] = file
            elif not (self.path / file.path).exists():
                log.error("%s is missing; its %d rows are lost unless you restore it", file.path, file.rows)
        kept = {file.staged for file in self._waiting_moves.values()}
        for left in (self.path / STAGING).iterdir():
            if left.name not in kept:
                left.unlink()
        for found in self.path.glob("*/server_code=*/date=*/part-*.parquet"):
            path = found.relative_to(self.path).as_posix()
            match = DATA_FILE.fullmatch(found.name)
            if match and path not in self.state.files:
                if int(match[1]) > self.state.number:
                    text = f"{path} is newer than the last commit: {COMMITS} is not of this archive; restore it"
                    raise FolderError(text)
                self._waiting_removals.add(path)
        self.settle()

    def free_bytes(self) -> int:
        """Return the free space of the disk."""
        return shutil.disk_usage(self.path).free


class StagingWriter:
    """Writes one file of ``_staging`` in row groups; ``staged`` describes it after the end. Raises OSError."""

    staged: Staged

    def __init__(self, path: Path, schema: pa.Schema, place: str) -> None:
        self._path, self._place = path, place
        self._rows, self._first_ts, self._last_ts = 0, 2**63 - 1, 0
        names = set(schema.names)
        self._writer = pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            use_dictionary=[name for name in REPEATING if name in names],
            column_encoding={name: encoding for name, encoding in DELTAS.items() if name in names},
        )

    def __enter__(self) -> Self:
        return self

    def write(self, table: pa.Table) -> None:
        """Write rows, which are in order and follow those before."""
        if table.num_rows:
            span = pc.min_max(table["ts"]).as_py()
            self._first_ts, self._last_ts = min(self._first_ts, span["min"]), max(self._last_ts, span["max"])
            self._rows += table.num_rows
            self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._writer.close()
            with self._path.open("rb+") as file:
                os.fsync(file.fileno())
            sync_folder(self._path.parent)
            size = self._path.stat().st_size
        except BaseException:
            self._path.unlink(missing_ok=True)
            raise
        if kind is not None:
            self._path.unlink(missing_ok=True)
        self.staged = Staged(self._path.name, self._place, self._rows, size, (self._first_ts, self._last_ts))
