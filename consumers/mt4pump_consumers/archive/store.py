"""What the archive writes to: the interface of a store, what one commit holds, and what a store remembers."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
from prometheus_client.core import Metric

from mt4pump_consumers.archive.settings import ArchiveSettings


class StoreError(Exception):
    """The store cannot be used, or not now; the text says why and what to do."""


class StoreChangedError(StoreError):
    """The store is not as the last commit left it: to write on would store events twice, or lose some."""


@dataclass(slots=True)
class StreamState:
    """What a store has of the stream.

    ``position`` is that of `KnownJournals`. ``seqs`` has the last (epoch, seq) of each topic that is not stored in the
    journal, ``first_epoch`` the run of the daemon that the archive began in.
    """

    position: dict[str, Any] | None = None
    seqs: dict[str, list[int]] = field(default_factory=dict)
    first_epoch: int = 0


@dataclass(slots=True)
class ArchiveBatch:
    """What one commit stores: tables by (server code, kind), and the position after them. ``id`` is unique."""

    tables: dict[tuple[str, str], list[pa.Table]] = field(default_factory=lambda: defaultdict(list))
    rows: int = 0
    position: Mapping[str, Any] | None = None
    seqs: dict[str, list[int]] = field(default_factory=dict)
    first_epoch: int = 0
    id: str = field(default_factory=lambda: secrets.token_hex(8))


class ArchiveStore(Protocol):
    """A place for events, which one archive at a time writes to. Two threads use it: one commits, one maintains."""

    @property
    def name(self) -> str:
        """Return where the store is, for the log."""

    @property
    def state(self) -> StreamState:
        """Return what is committed."""

    @property
    def durable_ts(self) -> int:
        """Return the time of the newest event of the journal that is committed, in ns since 1970; 0: none is."""

    @property
    def newest_ts(self) -> int:
        """Return the time of the newest event that is known to be committed, in ns since 1970; 0: none is."""

    def commit(self, batch: ArchiveBatch) -> None:
        """Store a batch and its position together; raises StoreError or OSError, then the same batch is tried again."""

    def maintain(self, settings: ArchiveSettings, feed_ts: int) -> None:
        """Delete what is too old, and the like; ``feed_ts`` is the daemon's time. Raises StoreError or OSError."""

    def metrics(self) -> Iterator[Metric]:
        """Yield the metrics that this store alone has."""

    def close(self) -> None:
        """Let another archive write."""
