"""Deletes old files that programs leave beside those in use: rotated logs, damaged journals, folders of the library.

A rule names them by an exact pattern. Links, and folders that are links, are never followed and never deleted.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import NamedTuple

CHECK_INTERVAL_S = 3600.0
DAY_S = 86_400.0
STAMP = r"(?P<stamp>[0-9]{8}T[0-9]{6})"
"""UTC time in a name, as ``20261128T154637``."""
STAMP_FORMAT = "%Y%m%dT%H%M%S"
SERVICE_LOGS, DAMAGED_JOURNALS, LIBRARY_FOLDERS = "service_logs", "damaged_journals", "library_folders"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OldFilesRule:
    """Which entries of ``folder`` are old: all but the newest ``kept``, and those older than ``max_age_s``.

    The newest one always stays. ``pattern`` matches the whole name; its group ``stamp`` is the time, without it that
    is the entry's own; its group ``number`` orders entries of one second; files that differ in its group ``part`` alone
    are one entry. ``name`` is that of the counter. ``are_folders``: whole folders instead of files. ``only_at_start``:
    later ones may be in use.
    """

    name: str
    folder: Path
    pattern: re.Pattern[str]
    kept: int
    max_age_s: float
    are_folders: bool = False
    only_at_start: bool = False


class _Entry(NamedTuple):
    """One file, or folder, that a rule matches; ``order`` begins with seconds since 1970."""

    order: tuple[float, int]
    path: Path


def service_logs(program: str) -> OldFilesRule:
    """Return the rule for logs that NSSM rotated in the working folder of ``program``, as ``daemon`` or ``gateway``."""
    pattern = rf"{re.escape(program)}-{STAMP}\.(?P<number>[0-9]{{3}})\.log"
    return OldFilesRule(SERVICE_LOGS, Path("logs"), re.compile(pattern), 20, 90 * DAY_S)


def damaged_journals(journal: Path) -> OldFilesRule:
    """Return the rule for damaged journals that were quarantined beside ``journal``."""
    pattern = rf"{re.escape(journal.name)}\.damaged-{STAMP}Z(?:\.(?P<number>[0-9]{{1,4}}))?(?P<part>-wal|-shm)?"
    return OldFilesRule(DAMAGED_JOURNALS, journal.parent, re.compile(pattern), 3, 90 * DAY_S)


def library_folders(data_dir: Path) -> OldFilesRule:
    """Return the rule for working folders of interfaces that earlier daemons abandoned; ``manager-0`` is in use."""
    pattern = re.compile(r"manager-[1-9][0-9]{0,5}")
    return OldFilesRule(LIBRARY_FOLDERS, data_dir, pattern, 3, 90 * DAY_S, are_folders=True, only_at_start=True)


class OldFiles:
    """Deletes what ``rules`` find, at the first check and every hour; ``counts`` has the entries deleted by rule.

    A check that is due starts a thread: a slow disk delays nobody.
    """

    def __init__(
        self,
        rules: Sequence[OldFilesRule],
        now_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = Counter({rule.name: 0 for rule in rules})
        self._rules = rules
        self._now_s, self._monotonic_s = now_s, monotonic_s
        self._due_at_s = 0.0
        self._is_first = True
        self._thread: Thread | None = None

    def check(self) -> None:
        """Start a deletion when it is due; to be called often, by one thread."""
        if not self._rules or self._monotonic_s() < self._due_at_s:
            return
        if self._thread is not None and self._thread.is_alive():
            return
        self._due_at_s = self._monotonic_s() + CHECK_INTERVAL_S
        rules = [rule for rule in self._rules if self._is_first or not rule.only_at_start]
        self._is_first = False
        self._thread = Thread(target=self._delete, args=(rules,), name="old files", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait for a deletion that runs; return whether it ended."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    def _delete(self, rules: Sequence[OldFilesRule]) -> None:
        for rule in rules:
            try:
                self._apply(rule)
            except Exception:  # the next check tries again
                log.exception("%s: old files could not be deleted", rule.folder)

    def _apply(self, rule: OldFilesRule) -> None:
        for paths in old_entries(rule, self._now_s()):
            try:
                for path in paths:
                    _delete_path(path, is_folder=rule.are_folders)
            except FileNotFoundError:  # another program of ours deleted it
                continue
            except OSError as error:  # open in another program, which Windows does not allow to delete
                log.warning("%s: it is old and could not be deleted (%s); tried again", paths[0], error.strerror)
                continue
            self.counts[rule.name] += 1
            days = rule.max_age_s / DAY_S
            log.info("%s: deleted; the newest %d of the last %g days stay", paths[0], rule.kept, days)


def old_entries(rule: OldFilesRule, now_s: float) -> Iterator[list[Path]]:
    """Yield the paths of each entry that is to be deleted."""
    found: dict[str, list[_Entry]] = {}
    for name, entry in _entries(rule):
        found.setdefault(name, []).append(entry)
    for rank, entries in enumerate(sorted(found.values(), key=lambda each: max(each).order, reverse=True)):
        age_s = now_s - max(entries).order[0]
        if rank >= rule.kept or (rank > 0 and age_s > rule.max_age_s):
            yield [entry.path for entry in sorted(entries, key=lambda each: each.path.name)]


def _entries(rule: OldFilesRule) -> Iterator[tuple[str, _Entry]]:
    """Yield each entry that the rule matches, after the name that its parts share."""
    if not _is_real(rule.folder, stat.S_ISDIR):
        return
    for path in rule.folder.iterdir():
        match = rule.pattern.fullmatch(path.name)
        if match is None or not _is_real(path, stat.S_ISDIR if rule.are_folders else stat.S_ISREG):
            continue
        groups = match.groupdict()
        part = groups.get("part") or ""
        try:
            order = _time_s(groups["stamp"]) if "stamp" in groups else path.lstat().st_mtime
        except (ValueError, FileNotFoundError):  # no time, so no name of ours; or gone meanwhile
            continue
        yield path.name.removesuffix(part), _Entry((order, int(groups.get("number") or 0)), path)


def _time_s(stamp: str) -> float:
    return datetime.strptime(stamp, STAMP_FORMAT).replace(tzinfo=UTC).timestamp()


def _is_real(path: Path, is_kind: Callable[[int], bool]) -> bool:
    """Return whether ``path`` is of this kind itself: no link, and on Windows no junction or other reparse point."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return is_kind(found.st_mode) and not getattr(found, "st_reparse_tag", 0)


def _delete_path(path: Path, *, is_folder: bool) -> None:
    if is_folder:
        shutil.rmtree(path)  # it does not follow links
    else:
        path.unlink()
