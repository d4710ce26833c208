"""Deletes old files that programs leave beside those in use: logs that NSSM rotated, damaged journals.

A rule names them by an exact pattern with a time. Links are never followed and never deleted.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

CHECK_INTERVAL_S = 3600.0
DAY_S = 86_400.0
MAX_AGE_S = 90 * DAY_S
CLOCK_TOLERANCE_S = DAY_S
"""A name with a time that far ahead of the clock is left alone: one of the two times is wrong."""
LOGS_KEPT = 20
STAMP = r"(?P<stamp>[0-9]{8}T[0-9]{6})"
"""UTC time in a name, as ``20261128T154637``."""
STAMP_FORMAT = "%Y%m%dT%H%M%S"
SERVICE_LOGS, DAMAGED_JOURNALS = "service_logs", "damaged_journals"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OldFilesRule:
    """Which files of ``folder`` are old: those older than `MAX_AGE_S`, and all but the newest ``kept`` (0: no limit).

    The newest one always stays. ``pattern`` matches the whole name; its group ``stamp`` is the time, its group
    ``number`` orders those of one second. Files of the same time and number are one entry. ``name`` is that of the
    counter. ``beside`` must exist in ``folder``: else the folder is not the program's.
    """

    name: str
    folder: Path
    pattern: re.Pattern[str]
    kept: int = 0
    beside: str = ""


def service_logs(program: str) -> OldFilesRule:
    """Return the rule for logs that NSSM rotated in the working folder of ``program``, as ``daemon`` or ``gateway``."""
    pattern = rf"{re.escape(program)}-{STAMP}\.(?P<number>[0-9]{{3}})\.log"
    return OldFilesRule(SERVICE_LOGS, Path("logs"), re.compile(pattern), LOGS_KEPT, f"{program}.log")


def service_log_rules(program: str) -> list[OldFilesRule]:
    """Return the rule for the rotated logs of ``program`` where NSSM is: on Windows."""
    return [service_logs(program)] if sys.platform == "win32" else []


def damaged_journals(journal: Path) -> OldFilesRule:
    """Return the rule for damaged journals that were quarantined beside ``journal``."""
    pattern = rf"{re.escape(journal.name)}\.damaged-{STAMP}Z(?:\.(?P<number>[0-9]{{1,4}}))?(?:-wal|-shm)?"
    return OldFilesRule(DAMAGED_JOURNALS, journal.parent, re.compile(pattern))


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
        self._thread: Thread | None = None

    def check(self) -> None:
        """Start a deletion when it is due; to be called often, by one thread."""
        if not self._rules or self._monotonic_s() < self._due_at_s:
            return
        if self._thread is not None and self._thread.is_alive():
            return
        self._due_at_s = self._monotonic_s() + CHECK_INTERVAL_S
        thread = Thread(target=self._delete, name="old files", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no thread can be started now
            log.warning("old files are not deleted now (%s); tried again in an hour", error)
        else:
            self._thread = thread

    def wait(self, timeout_s: float) -> bool:
        """Wait for a deletion that runs; return whether it ended."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    def _delete(self) -> None:
        for rule in self._rules:
            try:
                self._apply(rule)
            except Exception:  # the next check tries again
                log.exception("%s: old files could not be deleted", rule.folder)

    def _apply(self, rule: OldFilesRule) -> None:
        failed: list[str] = []
        for paths in old_entries(rule, self._now_s()):
            try:
                for path in paths:
                    path.unlink(missing_ok=True)  # another program of ours may delete it, too
            except OSError as error:  # open in another program, which Windows does not allow to delete
                failed.append(f"{path.name} ({error.strerror})")
                continue
            self.counts[rule.name] += 1
            log.info("%s: deleted, because it is old", paths[-1])
        if failed:
            text = "%s: %d old files could not be deleted, the first is %s; tried again in an hour"
            log.warning(text, rule.folder, len(failed), failed[0])


def old_entries(rule: OldFilesRule, now_s: float) -> Iterator[list[Path]]:
    """Yield the files of each entry that is to be deleted, its companions first."""
    if not rule.folder.is_dir() or (rule.beside and not _is_file(rule.folder / rule.beside)):
        return
    entries: dict[tuple[float, int], list[Path]] = {}
    for path in rule.folder.iterdir():
        match = rule.pattern.fullmatch(path.name)
        if match is None or not _is_file(path):
            continue
        try:
            time_s = datetime.strptime(match["stamp"], STAMP_FORMAT).replace(tzinfo=UTC).timestamp()
        except ValueError:  # no time, so no name of ours
            continue
        if time_s <= now_s + CLOCK_TOLERANCE_S:
            entries.setdefault((time_s, int(match["number"] or 0)), []).append(path)
    for rank, ((time_s, _), paths) in enumerate(sorted(entries.items(), reverse=True)):
        is_expired = rank > 0 and now_s - time_s > MAX_AGE_S
        if is_expired or (rule.kept and rank >= rule.kept):
            yield sorted(paths, reverse=True)


def _is_file(path: Path) -> bool:
    """Return whether ``path`` is a file itself: no link, and on Windows no reparse point."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and not getattr(found, "st_reparse_tag", 0)
