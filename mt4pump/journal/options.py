"""What the journal can be told; plain values from the settings of the same names."""

from __future__ import annotations

from dataclasses import dataclass

SYNCHRONOUS = ("off", "normal", "full", "extra")
WAL_LIMIT_BYTES = 256 * 2**20
"""A log beyond it is begun anew by force. Up to it the file is kept: writing over it costs half of making it longer."""
WAL_SHARE = 4
"""Which part of ``max_bytes`` the write-ahead log may take, at most."""
WAL_HELD_LEAST_BYTES = 256 * 2**20
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

    Events older than ``max_age_s`` (seconds) are deleted, and the oldest ones when the file and ``wal_limit_bytes`` of
    its write-ahead log hold more than ``max_bytes`` (0: no bound, for either). The file itself does not shrink: freed
    pages are used again. Age is measured by the highest ``ts`` up to the event, and by a clock that believes a jump
    ahead only slowly (`ProvenClock`): a day per hour, or ``max_age_s`` per hour where that is less. So an event may be
    kept longer, by as much as a clock was wrong when it was stored, but none goes because of a moment's wrong clock.

    The write-ahead log is begun anew at ``wal_limit_bytes`` (twice that where commits never pause), as long as no
    other program holds it by a transaction that stays open. While one does, it grows, which is counted and logged; at
    ``wal_max_bytes`` nothing more is stored until that program lets go.
    ``identity`` names whose open orders the mirror holds: source, login and servers.
    """

    synchronous: str = "normal"
    max_age_s: float = 7 * 86400
    max_bytes: int = 4 * 2**30
    identity: str = ""

    @property
    def wal_limit_bytes(self) -> int:
        """Return the size from which the write-ahead log is begun anew."""
        return min(WAL_LIMIT_BYTES, self.max_bytes // WAL_SHARE) if self.max_bytes else WAL_LIMIT_BYTES

    @property
    def wal_max_bytes(self) -> int:
        """Return the size at which a write-ahead log that is held takes nothing more; 0 for no bound."""
        return max(self.max_bytes, WAL_HELD_LEAST_BYTES) if self.max_bytes else 0

    def __post_init__(self) -> None:
        """Refuse a level that SQLite would silently take for another."""
        if self.synchronous not in SYNCHRONOUS:
            raise ValueError(f"synchronous must be one of {', '.join(SYNCHRONOUS)}, not {self.synchronous!r}")
