"""From the bytes of a request to the reply, whatever the bytes are. Runs on the query thread; knows no sockets."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from mt4pump.log import FaultCounters
from mt4pump.protocol import fields_of
from mt4pump.pump.snapshot import SnapshotRequest, StateSnapshot
from mt4pump.query.limits import QueryOptions, Stopped, WorkBudget, YieldToPump
from mt4pump.query.replay import PageReader, replay_page
from mt4pump.query.replies import OutgoingReply, refused
from mt4pump.query.requests import (
    BUSY,
    CURSOR_EXPIRED,
    FORBIDDEN,
    INTERNAL_ERROR,
    NO_JOURNAL,
    Cursor,
    DescribeRequest,
    QueryLimits,
    ReplayRequest,
    Request,
    RequestError,
    SnapshotQuery,
    echo,
    read,
    unpacked,
)
from mt4pump.query.snapshots import Peer, SnapshotCache, SortedSnapshot, arranged, page
from mt4pump.wire import Body

CUT_LOOK_S = 0.02
"""How often a thread that waits for a cut looks whether it is to stop."""
CUT_GAP_S, CUT_GAPS = 0.2, 5
"""The longest pause between two cuts; as cutting is the pump's work, it gets five times a cut's time for its own."""

log = logging.getLogger(__name__)


class PermissionLookup(Protocol):
    """What one client may read."""

    @property
    def query(self) -> bool:
        """Return whether it may ask anything at all."""

    def narrow(self, prefixes: Iterable[bytes], /) -> tuple[bytes, ...]:
        """Return the part of ``prefixes`` that it may read, as prefixes."""


class RequestHandler:
    """Answers one request at a time. ``counts`` are totals; their keys never change."""

    def __init__(
        self,
        options: QueryOptions,
        *,
        allowed: Callable[[str], PermissionLookup],
        ask_cut: Callable[[SnapshotRequest], None],
        reader: PageReader | None,
        describe: Callable[[], Body],
        is_stopping: Callable[[], bool],
        way: YieldToPump | None = None,
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.counts = dict.fromkeys(fields_of("heartbeat")["query"].fields, 0)
        self.cuts = SnapshotCache(options, now_s)
        self.pace = WorkBudget(options.work_s, options.rest_s, is_stopping, way)
        self.fault_counters = FaultCounters(log)
        self._options = options
        self._limits = QueryLimits(
            options.max_request_bytes, options.max_prefixes, options.page_rows, limit_rows=options.limit_rows
        )
        self._allowed = allowed
        self._ask_cut = ask_cut
        self._reader = reader
        self._describe = describe
        self._is_stopping = is_stopping
        self._now_s = now_s
        self._sleep = sleep
        self._next_cut_s = 0.0

    def answer(self, payload: bytes | None, peer: Peer) -> OutgoingReply:
        """Return the answer to ``payload``; None is a message that was not one frame. Raises only Stopped."""
        return self.reply(*self.parse(payload), peer)

    def parse(self, payload: bytes | None) -> tuple[Body, Request | OutgoingReply]:
        """Return the ``id`` of a request, as a map of itself or of nothing, and the request, or why it is refused."""
        self.counts["requests"] += 1
        name: Body = {}
        try:
            fields = unpacked(payload, self._limits)
            name = echo(fields)
            return name, read(fields, self._limits)
        except RequestError as refusal:
            return name, refused(refusal)
        except Exception as error:  # noqa: BLE001 - the top of what foreign bytes reach; counted and logged
            return name, self._failed(error)

    def reply(self, name: Body, request: Request | OutgoingReply, peer: Peer) -> OutgoingReply:
        """Return the answer to a request that was parsed, with its ``id``. Raises only Stopped."""
        self.pace.begin()
        try:
            reply = request if isinstance(request, OutgoingReply) else self._reply(request, peer)
        except RequestError as refusal:
            reply = refused(refusal)
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            reply = self._failed(error)
        self.counts["errors"] += not reply.head["ok"]
        return OutgoingReply({**reply.head, **name}, reply.frames)

    def busy(self, name: Body, text: str) -> OutgoingReply:
        """Return the refusal of a request that cannot be served for now, and count it."""
        self.counts["busy"] += 1
        return OutgoingReply({**refused(RequestError(BUSY, text)).head, **name}, [])

    def cut_wait_s(self) -> float:
        """Return how long it is until the pump may be asked for a cut again."""
        return self._next_cut_s - self._now_s()

    def _failed(self, error: Exception) -> OutgoingReply:
        self.fault_counters.record(INTERNAL_ERROR, f"a query failed: {error!r}")
        log.debug("a query failed", exc_info=error)
        return refused(RequestError(INTERNAL_ERROR, "the daemon failed to answer this; its log says why"))

    def failed(self, error: Exception) -> OutgoingReply:
        """Return the answer in place of one that could not be packed."""
        self.fault_counters.record(INTERNAL_ERROR, f"a reply could not be packed: {error!r}")
        self.counts["errors"] += 1
        return refused(RequestError(INTERNAL_ERROR, "the daemon failed to pack this; its log says why"))

    def _reply(self, request: Request, peer: Peer) -> OutgoingReply:
        if not self._allowed(peer.user).query:
            raise RequestError(FORBIDDEN, f"{_named(peer)} may not use this endpoint")
        if isinstance(request, DescribeRequest):
            return OutgoingReply({**self._describe(), "ok": True}, [])
        if isinstance(request, ReplayRequest):
            return self._replay(request, peer)
        if request.cursor is not None:
            return self._next_page(request, request.cursor, peer)
        return self._first_page(request, peer)

    def _replay(self, request: ReplayRequest, peer: Peer) -> OutgoingReply:
        prefixes = self._narrowed(request.topics, peer)
        if self._reader is None:
            raise RequestError(NO_JOURNAL, "this daemon keeps no journal: its setting `journal` is off")
        reply = replay_page(self._reader, request, prefixes, self._options, self.pace)
        about = self._describe()  # the page's own log wins: the journal may just have been replaced
        return OutgoingReply({"epoch": about.get("epoch"), "log": about.get("log"), **reply.head}, reply.frames)

    def _narrowed(self, prefixes: tuple[bytes, ...], peer: Peer) -> tuple[bytes, ...]:
        narrowed = self._allowed(peer.user).narrow(prefixes)
        if not narrowed:
            raise RequestError(FORBIDDEN, f"{_named(peer)} may read none of these topics")
        return narrowed

    def _first_page(self, request: SnapshotQuery, peer: Peer) -> OutgoingReply:
        prefixes = self._narrowed(request.topics, peer)
        cut = arranged(self._cut(prefixes), peer, prefixes, self.pace)
        reply = page(cut, 0, request.limit, self._options, self.pace, values=request.values)
        if reply.head["cursor"] is not None:
            self.cuts.keep(cut)
        return reply

    def _next_page(self, request: SnapshotQuery, cursor: Cursor, peer: Peer) -> OutgoingReply:
        cut = self.cuts.find(cursor, peer)
        self._check_still_allowed(cut, peer)
        reply = page(cut, cursor.start, request.limit, self._options, self.pace, values=request.values)
        cut.is_done = reply.head["cursor"] is None
        return reply

    def _check_still_allowed(self, cut: SortedSnapshot, peer: Peer) -> None:
        """Refuse a cut whose owner has lost some of its topics meanwhile."""
        if set(self._allowed(peer.user).narrow(cut.prefixes)) != set(cut.prefixes):
            self.cuts.drop(cut)
            raise RequestError(CURSOR_EXPIRED, "the permissions of this client changed: ask for a new snapshot")

    def _cut(self, prefixes: tuple[bytes, ...]) -> StateSnapshot:
        """Return a cut made by the pump thread now; raises Refusal (busy) when it makes none in time."""
        while (early_s := self._next_cut_s - self._now_s()) > 0:
            self._stop_if_told()
            self._sleep(min(early_s, CUT_LOOK_S))
        asked_s = self._now_s()
        wanted = SnapshotRequest(prefixes)
        self._ask_cut(wanted)
        while (cut := wanted.wait(CUT_LOOK_S)) is None:
            self._stop_if_told()
            waited_s = self._now_s() - asked_s
            has_failed = not wanted.is_open and wanted.wait(0) is None  # it may have come since the look
            if has_failed or waited_s >= self._options.cut_wait_s:
                wanted.cancel()
                raise RequestError(BUSY, f"the pump made no cut of its state within {waited_s:.1f} s: ask again")
        now_s = self._now_s()
        self._next_cut_s = now_s + min(CUT_GAP_S, CUT_GAPS * (now_s - asked_s))
        self.counts["cuts"] += 1
        return cut

    def _stop_if_told(self) -> None:
        if self._is_stopping():
            raise Stopped


def _named(peer: Peer) -> str:
    return f"client {peer.user!r}" if peer.user else "this client"
