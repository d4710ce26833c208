"""Request bytes to the frames of a reply, whatever the bytes are. Runs on the query thread; knows no sockets."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from mt4pump import __version__
from mt4pump.errors import PumpError
from mt4pump.journal import Journal, JournalReader
from mt4pump.log import FaultCounters
from mt4pump.protocol import ContractOptions, common_fields, fields_of, kinds_for
from mt4pump.pump.heartbeat import ServerClock
from mt4pump.pump.snapshot import SnapshotRequest, StateSnapshot
from mt4pump.query.limits import QueryOptions, Stopped, WorkBudget, YieldToPump
from mt4pump.query.requests import Cursor, ParsedRequest, RequestError, parse_request, request_id, unpack_request
from mt4pump.query.snapshots import Peer, SnapshotCache, page, sort_snapshot
from mt4pump.security import Permissions
from mt4pump.settings import Settings
from mt4pump.wire import PROTOCOL, Body, pack_map

STOP_CHECK_S = 0.02
"""How often a thread that waits for a snapshot checks whether it is to stop."""
SNAPSHOT_GAP_S, SNAPSHOT_GAPS = 0.2, 5
"""The longest pause between two snapshots: the pump gets five times a snapshot's time for its other work."""

log = logging.getLogger(__name__)


class QuerySources(NamedTuple):
    """What replies are made from.

    ``permissions`` returns those of a client's name (empty without CURVE); ``request_snapshot`` hands a request to the
    pump thread; ``reader`` reads the journal, None without one; ``describe`` returns the body of a description.
    """

    permissions: Callable[[str], Permissions]
    request_snapshot: Callable[[SnapshotRequest], object]
    reader: JournalReader | None
    describe: Callable[[], Body]
    yield_to_pump: YieldToPump


class RequestHandler:
    """Handles one request at a time. ``counts`` are totals; their keys never change."""

    def __init__(
        self,
        options: QueryOptions,
        sources: QuerySources,
        is_stopping: Callable[[], bool] = lambda: False,
        *,
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.counts = dict.fromkeys(fields_of("heartbeat")["query"].fields, 0)
        self.snapshots = SnapshotCache(options, now_s)
        self.budget = WorkBudget(options.work_s, options.rest_s, sources.yield_to_pump, is_stopping)
        self.fault_counters = FaultCounters(log)
        self._options = options
        self._sources = sources
        self._is_stopping = is_stopping
        self._now_s = now_s
        self._sleep = sleep
        self._next_snapshot_s = 0.0

    def parse(self, payload: bytes | None) -> tuple[Body, ParsedRequest | RequestError]:
        """Return the ``id`` of a request, as a map of itself or empty, and the request, or the error to reply.

        ``payload`` is None for a message that was not one frame.
        """
        self.counts["requests"] += 1
        id_: Body = {}
        try:
            fields = unpack_request(payload, self._options)
            id_ = request_id(fields)
            return id_, parse_request(fields, self._options)
        except RequestError as error:
            # Without its frames: they hold all that was unpacked for as long as the request is queued.
            return id_, RequestError(error.code, str(error))
        except Exception as error:  # noqa: BLE001 - nothing that a client sends may end the thread
            return id_, self._internal_error(error)

    def reply(self, id_: Body, request: ParsedRequest | RequestError, peer: Peer) -> list[bytes]:
        """Return head and frames of the reply to a parsed request, with its ``id``. Raises only Stopped."""
        self.budget.begin()
        if isinstance(request, RequestError):  # never raised: its frames would hold it, until the collector runs
            self.counts["errors"] += 1
            return error_reply(id_, request)
        is_snapshot = request.op == "snapshot"
        self.budget.rest_s = self._options.snapshot_rest_s if is_snapshot else self._options.rest_s
        try:
            head, frames = self._reply(request, peer)
            return [pack_map({**head, **id_}), *frames]
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            self.counts["errors"] += 1
            return error_reply(id_, error if isinstance(error, RequestError) else self._internal_error(error))

    def snapshot_wait_s(self) -> float:
        """Return how long it is until the pump may be asked for a snapshot again."""
        return self._next_snapshot_s - self._now_s()

    def _internal_error(self, error: Exception) -> RequestError:
        self.fault_counters.record("internal_error", f"a query failed: {error!r}", error)
        return RequestError("internal_error", "the daemon failed to answer this; its log says why")

    def _reply(self, request: ParsedRequest, peer: Peer) -> tuple[Body, list[bytes]]:
        client = f"client {peer.user!r}" if peer.user else "this client"
        permissions = self._sources.permissions(peer.user)
        if not permissions.query:
            raise RequestError("forbidden", f"{client} may not use this endpoint")
        if request.op == "describe":
            return {**self._sources.describe(), "ok": True}, []
        if request.cursor is not None:
            return self._next_page(request, request.cursor, peer, permissions)
        prefixes = permissions.narrow(request.topics)
        if not prefixes:
            raise RequestError("forbidden", f"{client} may read none of these topics")
        if request.op == "snapshot":
            return self._first_page(request, prefixes, peer)
        if self._sources.reader is None:
            raise RequestError("no_journal", "this daemon keeps no journal: its setting `journal` is off")
        head, frames = replay_page(self._sources.reader, request, prefixes, self._options, self.budget)
        return {"epoch": self._sources.describe().get("epoch"), **head}, frames

    def _first_page(self, request: ParsedRequest, prefixes: tuple[bytes, ...], peer: Peer) -> tuple[Body, list[bytes]]:
        made = sort_snapshot(self._new_snapshot(prefixes), peer, prefixes, self.budget)
        head, frames = page(made, 0, request.limit, self._options, self.budget, values=request.values)
        if head["cursor"] is not None:
            self.snapshots.keep(made)
        return head, frames

    def _next_page(
        self, request: ParsedRequest, cursor: Cursor, peer: Peer, permissions: Permissions
    ) -> tuple[Body, list[bytes]]:
        held = self.snapshots.find(cursor, peer)
        if set(permissions.narrow(held.prefixes)) != set(held.prefixes):
            self.snapshots.drop(held)
            raise RequestError("cursor_expired", "the permissions of this client changed: ask for a new snapshot")
        head, frames = page(held, cursor.start, request.limit, self._options, self.budget, values=request.values)
        held.is_done = head["cursor"] is None
        return head, frames

    def _new_snapshot(self, prefixes: tuple[bytes, ...]) -> StateSnapshot:
        """Return a snapshot that the pump thread makes now; raises RequestError (busy) if it makes none in time."""
        while (early_s := self.snapshot_wait_s()) > 0:
            self._raise_if_stopping()
            self._sleep(min(early_s, STOP_CHECK_S))
        asked_s = self._now_s()
        request = SnapshotRequest(prefixes)
        self._sources.request_snapshot(request)
        while (snapshot := request.wait(STOP_CHECK_S)) is None:
            self._raise_if_stopping()
            waited_s = self._now_s() - asked_s
            has_failed = not request.is_open and request.wait(0) is None  # it may have been answered since the wait
            if has_failed or waited_s >= self._options.snapshot_wait_s:
                request.cancel()
                raise RequestError("busy", f"the pump made no snapshot within {waited_s:.1f} s: ask again")
        now_s = self._now_s()
        self._next_snapshot_s = now_s + min(SNAPSHOT_GAP_S, SNAPSHOT_GAPS * (now_s - asked_s))
        self.counts["cuts"] += 1
        return snapshot

    def _raise_if_stopping(self) -> None:
        if self._is_stopping():
            raise Stopped


def error_reply(id_: Body, error: RequestError) -> list[bytes]:
    """Return the reply that carries only an error."""
    return [pack_map({"ok": False, "code": error.code, "error": str(error), **id_})]


def replay_page(
    reader: JournalReader,
    request: ParsedRequest,
    prefixes: tuple[bytes, ...],
    options: QueryOptions,
    budget: WorkBudget,
) -> tuple[Body, list[bytes]]:
    """Return head and frames of one page of the requested events within ``prefixes``; raises RequestError."""
    frames: list[bytes] = []
    after, size, whole = request.after, 0, True
    while True:
        try:
            found = reader.page(
                after=after,
                to=request.to,
                prefixes=prefixes,
                limit=min(options.slice_rows, request.limit - len(frames) // 2),
                since=request.since,
                until=request.until,
            )
        except PumpError as error:
            raise RequestError("journal_error", f"{error}") from error
        for event in found.events:
            frames += (event.topic, event.body)
            size += len(event.body)
        whole = whole and found.whole
        if found.next is None or found.next <= after:  # the second never happens, but would loop for ever
            break
        after = found.next
        if len(frames) // 2 >= request.limit or size >= options.page_bytes or budget.spent_s() >= options.page_s:
            break
        if budget.tick():  # beside a rapid stream: a large page would keep its reader's core from others for long
            break
    head = {
        "log": found.log,
        "ok": True,
        "whole": whole,
        "first_available": found.first_available,
        "next": found.next,
        "last": found.last,
        "count": len(frames) // 2,
    }
    return head, frames


def describer(
    settings: Settings,
    options: QueryOptions,
    *,
    epoch: int,
    pub_endpoint: str,
    journal: Journal | None,
    server_clock: ServerClock,
) -> Callable[[], Body]:
    """Return a function that returns the body of a description as of now. What never changes is made once."""
    contract_options = ContractOptions(
        user_fields=frozenset(settings.user_fields),
        mail_fields=frozenset(settings.mail_fields),
        plugin_parameters=settings.plugin_parameters,
        durable=frozenset(settings.durable) if settings.journal else frozenset(),
        topic_suffix=settings.topic_suffix,
    )
    constant: Body = {
        "protocol": PROTOCOL,
        "version": __version__,
        "epoch": epoch,
        "topic_suffix": settings.topic_suffix,
        "server_code": settings.server_code,
        "encoding": settings.encoding,
        "heartbeat_interval_s": settings.heartbeat_interval_s,
        "pub_endpoint": pub_endpoint,
        "retention": {"max_age_s": settings.journal_max_age_s, "max_bytes": settings.journal_max_bytes},
        "limits": {
            "request_bytes": options.max_request_bytes,
            "prefixes": options.max_prefixes,
            "page_rows": options.limit_rows,
            "page_bytes": options.page_bytes,
        },
        "kinds": kinds_for(contract_options),
        "common": common_fields(),
    }
    return lambda: {
        **constant,
        "log": journal.log_id if journal else None,
        "offset": journal.last_offset if journal else 0,
        "offsets": dict(journal.last_offsets) if journal else {},
        "durable": journal is not None and journal.durable,
        "server_utc_offset_s": server_clock.offset_s,
    }
