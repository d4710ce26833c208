"""What the journal can be told; plain values from the settings of the same names."""

from __future__ import annotations

from dataclasses import dataclass

SYNCHRONOUS = ("off", "normal", "full", "extra")
SYNCED_LEVELS = ("full", "extra")
"""Levels at which a commit is on the disk when it returns."""


@dataclass(frozen=True, slots=True)
class JournalOptions:
    """How safe, how old, how large, and whose mirror.

    ``synchronous`` says what a loss of **power** (or a crash of the operating system) costs. A crash or kill of the
    daemon alone never costs a committed event, at any level.

    - ``off``: the last commits may be lost, up to about ten seconds of them, and the file may be damaged, as nothing
      makes the disk keep the order of writes; a damaged file is set aside.
    - ``normal``: the last commits may be lost, the same ten seconds; the file stays sound.
    - ``full``: nothing that was published is lost: each commit waits for the disk (0.1 ms on a good SSD, 10 ms and
      more on a hard disk), and so does the stream.
    - ``extra``: as ``full``; SQLite also syncs the folder where that matters, which with a write-ahead log it does not.

    Below ``full`` events that readers have already seen may be missing after a loss of power. Their offsets are not
    given again: the daemon skips behind a mark that it had put on the disk ahead of time, and a replay across the
    skipped offsets is not ``whole``.

    Events older than ``max_age_s`` (seconds, by their ``ts``) are deleted, and the oldest ones when the file holds
    more than ``max_bytes`` (0: no bound, for either). The file itself does not shrink: freed pages are used again.
    The write-ahead log comes on top: 256 MiB and the writes of a few seconds (512 MiB where commits never pause), as
    long as no other program holds it.
    ``identity`` names whose open orders the mirror holds: source, login and servers.
    """

    synchronous: str = "normal"
    max_age_s: float = 7 * 86400
    max_bytes: int = 4 * 2**30
    identity: str = ""

    def __post_init__(self) -> None:
        """Refuse a level that SQLite would silently take for another."""
        if self.synchronous not in SYNCHRONOUS:
            raise ValueError(f"synchronous must be one of {', '.join(SYNCHRONOUS)}, not {self.synchronous!r}")
