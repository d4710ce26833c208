"""The DLL's own log, ``logs/YYYYMMDD.log`` in its working folder: the only place that says why a session ended.

A line is code, time, server and text, separated by tabs. The file grows from session to session and day to day; only
what was written since a session was made is about that session.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from mt4pump.log import MASK, SECRET_MIN_CHARS, one_line

FOLDER = "logs"
DAY = re.compile(r"[0-9]{8}\.log")
FILES_KEPT = 30
"""Days of the library's log that are kept."""
FILES_READ = 2
"""The newest files that are looked into: a session that ends after midnight may have its reason in the day before."""
TAIL_BYTES = 32 * 1024
LINES_SHOWN = 3
LINE_MAX_CHARS = 200
DEPTH_LIMIT_CHARS = 200
"""In a working folder whose path is as long as this, the DLL writes nothing at all, without an error."""


log = logging.getLogger(__name__)


class DllLog:
    """What the DLL writes below ``working_directory`` from now on; ``secrets`` are never shown."""

    def __init__(self, working_directory: Path, encoding: str) -> None:
        self.secrets: Collection[str] = ()
        self._folder = working_directory / FOLDER
        self._encoding = encoding
        self._delete_old()
        self._begins = {file.path: file.stat().st_size for file in self._files()[-FILES_READ:]}

    def _delete_old(self) -> None:
        """Delete the library's log files but the newest `FILES_KEPT`: it never deletes one itself."""
        old = [file for file in self._files() if DAY.fullmatch(file.name)][:-FILES_KEPT]
        deleted = 0
        for file in old:
            with suppress(OSError):  # open in another program, which Windows does not allow to delete; next time
                os.unlink(file.path)  # noqa: PTH108 - an entry of a folder is no Path
                deleted += 1
        if deleted:
            log.info("%d old log files of the library were deleted; the newest %d stay", deleted, FILES_KEPT)

    def last_faults(self) -> str:
        """Return the last `LINES_SHOWN` lines whose code is not 0, as one line of text; empty when there are none."""
        try:
            lines = (line for file in self._files()[-FILES_READ:] for line in self._lines(file))
            faults = [fault for line in lines if (fault := self._fault(line))]
        except OSError:  # a log that cannot be read explains nothing
            return ""
        return " | ".join(faults[-LINES_SHOWN:])

    def _files(self) -> list[os.DirEntry[str]]:
        """Return all log files, the newest last."""
        try:
            with os.scandir(self._folder) as entries:
                files = [entry for entry in entries if entry.name.endswith(".log") and entry.is_file()]
        except OSError:  # nothing was written yet
            return []
        return sorted(files, key=lambda entry: entry.name)

    def _lines(self, file: os.DirEntry[str]) -> Iterator[str]:
        """Yield what was written into ``file`` since, of its last `TAIL_BYTES`."""
        with open(file.path, "rb") as opened:  # noqa: PTH123 - an entry of a folder is no Path
            size = opened.seek(0, os.SEEK_END)
            since = self._begins.get(file.path, 0)
            begin = max(since if since <= size else 0, size - TAIL_BYTES)
            opened.seek(begin)
            yield from opened.read(TAIL_BYTES).decode(self._encoding, "replace").splitlines()

    def _fault(self, line: str) -> str:
        """Return a line of the log as it is shown, or nothing when it is no fault."""
        code, *rest = line.strip("\x00\ufeff").split("\t")
        try:
            if not rest or int(code) == 0:
                return ""
        except ValueError:  # the end of a longer line, or another program's
            return ""
        text = " ".join([code.strip(), *rest])
        for secret in self.secrets:
            if len(secret) >= SECRET_MIN_CHARS:
                text = text.replace(secret, MASK)
        shown = one_line(text)
        return shown if len(shown) <= LINE_MAX_CHARS else shown[: LINE_MAX_CHARS - 1] + "…"


def too_deep(working_directory: Path) -> str:
    """Return what is wrong with a folder into which the DLL would silently write nothing; empty if all is well."""
    length = len(str(working_directory.absolute()))
    if length < DEPTH_LIMIT_CHARS:
        return ""
    return (
        f"the library's working folder {working_directory} has a path of {length} characters: from {DEPTH_LIMIT_CHARS} "
        "on the library writes neither mail nor its log there, and says nothing; set data_dir to a shorter path"
    )
