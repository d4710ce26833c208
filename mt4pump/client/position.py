"""How far a reader has come in the durable events, and the small file that stores it.

The offset of the last event is not enough: an event can be lost on its way and be recovered a moment later, when
events of other topics with higher offsets were delivered already. A reader that stored the last (or the highest)
offset in that moment and died would never get the late one. So a position is

- ``log``: which journal the offsets are of (they mean nothing in another one),
- ``confirmed``: every durable event up to this offset was delivered (or reported ``lost``),
- ``ahead``: per topic, the last offset delivered beyond ``confirmed``. Within a topic nothing is ever delivered out of
  order, so this names exactly what was delivered, in as many entries as there are topics with events since.
"""

from __future__ import annotations

import json
import logging
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any

from mt4pump.client.checks import TEXT_MAX_CHARS, TOPIC_MAX_BYTES, is_count
from mt4pump.client.event import Checkpoint, Event
from mt4pump.errors import ClientError
from mt4pump.private_files import replace_file
from mt4pump.wire import NUMBER_MAX

FILE_MAX_BYTES = 128 * 2**20
AHEAD_LIMIT = 1_000_000
"""Topics named in a position; beyond it those named first are forgotten: their last events may come again."""
SAVE_INTERVAL_S = 1.0
"""Least time between two automatic writes of a position file."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Position:
    """Where to go on; see the module. ``log`` None: of whichever journal the daemon has."""

    log: str | None
    confirmed: int
    ahead: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, fit for JSON."""
        return {"log": self.log, "confirmed": self.confirmed, "ahead": dict(self.ahead)}

    @classmethod
    def of(cls, value: Position | Mapping[str, Any] | int) -> Position:
        """Return the position that ``value`` stands for; an int: every offset up to it is done.

        Raises ClientError (``position``) for anything else.
        """
        if is_count(value):
            return cls(None, value)  # type: ignore[arg-type]
        if isinstance(value, Position):
            value = {"log": value.log, "confirmed": value.confirmed, "ahead": value.ahead}
        if isinstance(value, Mapping):
            log_id, confirmed, ahead = value.get("log"), value.get("confirmed"), value.get("ahead", {})
            right = is_count(confirmed) and _is_log(log_id) and isinstance(ahead, Mapping)
            if right and len(ahead) <= AHEAD_LIMIT and all(map(_is_topic_offset, ahead.items())):
                return cls(log_id, int(confirmed or 0), dict(ahead))
        shown = repr(value) if isinstance(value, int | float) and abs(value) < NUMBER_MAX else type(value).__name__
        text = f"{shown} is no position: give what `Subscriber.position` or its as_dict() gave, or an offset"
        raise ClientError("position", text)


def _is_log(value: object) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= TEXT_MAX_CHARS)


def _is_topic_offset(entry: tuple[object, object]) -> bool:
    """Return whether this is a topic that can be on the wire, and an offset."""
    topic, offset = entry
    if not (isinstance(topic, str) and len(topic) <= TOPIC_MAX_BYTES and is_count(offset)):
        return False
    try:
        return len(topic.encode()) <= TOPIC_MAX_BYTES
    except UnicodeEncodeError:  # half a pair of surrogates
        return False


class PositionTracker:
    """Follows what was handed to the user.

    ``is_known`` is False until the first position is confirmed; ``current`` is the event that the user is handling.
    ``changes`` counts what changed the position.
    """

    def __init__(self) -> None:
        self.is_known = False
        self.changes = 0
        self._log: str | None = None
        self._confirmed = 0
        self._ahead: dict[str, int] = {}
        self.current: Event | None = None

    def hand_over(self, event: Event) -> None:
        """Make ``event`` the current one; those before it are handled."""
        self.finish()
        self.current = event

    def finish(self) -> None:
        """Record that the user has handled the current event."""
        event, self.current = self.current, None
        if event is not None and not event.snapshot and (offset := event.offset) is not None:
            self._ahead[event.topic] = offset
            self.changes += 1
            if len(self._ahead) > AHEAD_LIMIT:
                del self._ahead[next(iter(self._ahead))]

    def abandon(self) -> None:
        """Record that the user did not finish the current event: it will come again."""
        self.current = None

    def confirm(self, checkpoint: Checkpoint) -> None:
        """Record that everything up to ``checkpoint`` was handed over; one that is no later begins offsets anew."""
        self.finish()
        if checkpoint.log == self._log and (end := checkpoint.end) is not None:
            self._ahead = {topic: min(offset, end) for topic, offset in self._ahead.items()}
        elif checkpoint.log != self._log or checkpoint.offset <= self._confirmed:
            self._ahead.clear()
        self._log, self._confirmed, self.is_known = checkpoint.log, checkpoint.offset, True
        if self._ahead:
            self._ahead = {topic: offset for topic, offset in self._ahead.items() if offset > checkpoint.offset}
        self.changes += 1

    def start(self, position: Position) -> None:
        """Start from a position that was stored."""
        self._log, self._confirmed, self._ahead = position.log, position.confirmed, dict(position.ahead)
        self.is_known = True

    def position(self, *, with_current: bool) -> Position:
        """Return the position; ``with_current`` counts the current event as handled."""
        ahead = dict(self._ahead)
        event = self.current
        if with_current and event is not None and not event.snapshot and event.offset is not None:
            ahead[event.topic] = event.offset
        return Position(self._log, self._confirmed, ahead)


class PositionFile:
    """A position in a file: one JSON object, replaced as a whole, so that it is never half written.

    ``failures`` counts writes that failed (each is tried again with the next change). Any thread may write: ``close()``
    does, while the thread that reads ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failures = 0
        self._due_at_s = 0.0
        self._saved = -1
        self._lock = RLock()

    def load(self) -> Position | None:
        """Return the stored position, None when there is no file; raises ClientError for one that holds none."""
        try:
            stored = self._content()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ClientError("position", f"position file {self.path} cannot be read: {error}") from error
        try:
            return Position.of(json.loads(stored))
        except (ValueError, RecursionError, ClientError) as error:
            advice = "delete it to start from now, or give resume_from"
            raise ClientError("position", f"position file {self.path} holds no position ({error}): {advice}") from error

    def _content(self) -> bytes:
        """Return what the file holds; raises OSError, and ValueError for what is no file of a size that can be."""
        found = self.path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would have the reader wait for ever
            raise ValueError("it is no file")
        if found.st_size > FILE_MAX_BYTES:
            raise ValueError(f"it has {found.st_size} bytes, a position at most {FILE_MAX_BYTES}")
        with self.path.open("rb") as file:
            return file.read(FILE_MAX_BYTES + 1)

    def save_if_due(self, tracker: PositionTracker, now_s: float) -> None:
        """Write the position when it changed and the last write is `SAVE_INTERVAL_S` ago."""
        if now_s >= self._due_at_s and tracker.is_known and tracker.changes != self._saved:
            self._due_at_s = now_s + SAVE_INTERVAL_S
            self._try(tracker, durable=False)

    def save(self, tracker: PositionTracker) -> None:
        """Write the position durably; a failure is counted and logged."""
        if tracker.is_known:
            self._try(tracker, durable=True)

    def _try(self, tracker: PositionTracker, *, durable: bool) -> None:
        with self._lock:  # the position is read inside: an older one never replaces a newer one
            changes = tracker.changes
            try:
                self.write(tracker.position(with_current=False), durable=durable)
            except OSError as error:
                self.failures += 1
                log.warning("position file %s cannot be written (%s): it is tried again", self.path, error)
            else:
                self._saved = changes

    def write(self, position: Position, *, durable: bool) -> None:
        """Replace the file; ``durable`` waits for the disk. Raises OSError."""
        with self._lock:
            replace_file(self.path, json.dumps(position.as_dict()).encode(), durable=durable)
