"""Last values read anew, once the stream has said that some of its events are gone for good."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from mt4pump.client import ClientError, Notice, Snapshot
from mt4pump_consumers.gateway.broadcaster import Broadcaster

CAUSES = frozenset({"restarted", "not_whole", "lost"})
"""Notices after which an end may be missing: of an order, an account, a margin call."""
REFRESHED = "refreshed"
RETRY_FIRST_S, RETRY_LAST_S = 0.5, 30.0
"""Pause between two cuts, which doubles while they fail."""

log = logging.getLogger(__name__)


class Refresher:
    """``read`` asks for a cut and waits; ``epoch`` tells the daemon's life while its feed is live, else 0."""

    def __init__(
        self, hub: Broadcaster, read: Callable[[], Snapshot], epoch: Callable[[], int], tell: Callable[[Notice], None]
    ) -> None:
        self._hub, self._read, self._epoch, self._tell = hub, read, epoch, tell
        self._task: asyncio.Task[None] | None = None
        self._is_due = False
        self._not_before_s, self._pause_s = 0.0, RETRY_FIRST_S

    def note(self, notice: Notice) -> None:
        """Take note of what the stream says; a lost quote is no reason, as the next one replaces it."""
        if notice.kind in CAUSES and not notice.topic.startswith("quote."):
            self._is_due = True

    def look(self, now_s: float) -> None:
        """Ask for a cut if one is due; not before the daemon's tables are whole again."""
        epoch = self._epoch()
        if self._is_due and epoch and self._task is None and now_s >= self._not_before_s:
            self._is_due = False
            self._hub.last.await_cut()
            self._task = asyncio.get_running_loop().create_task(self._refresh(epoch))

    async def _refresh(self, epoch: int) -> None:
        cut: Snapshot | None = None
        try:
            cut = await asyncio.to_thread(self._read)
            if cut.epoch != epoch:
                cut = None  # of another life, whose tables may not be whole yet
        except ClientError as error:
            log.warning("last values could not be read anew (%s); trying again", error)
        except Exception:
            log.exception("last values could not be read anew by an error that should not happen; trying again")
        finally:
            done = self._hub.last.renew(cut)
            self._pause_s = RETRY_FIRST_S if done else min(self._pause_s * 2, RETRY_LAST_S)
            self._not_before_s = asyncio.get_running_loop().time() + self._pause_s
            self._is_due = self._is_due or not done
            self._task = None
        if done:
            log.info("last values were read anew: %d rows", len(self._hub.last))
            self._tell(Notice(REFRESHED, "last values were read anew, as events were lost; subscribe again for them"))

    async def close(self) -> None:
        """Wait for the question that is under way."""
        if self._task is not None:
            await asyncio.wait([self._task])
