"""Builds all parts of the daemon in dependency order; starts and stops its threads, and detects one that hangs."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack
from threading import Thread
from threading import enumerate as enumerate_threads

import zmq

from mt4pump import __version__
from mt4pump.errors import HangError, StartError
from mt4pump.journal import Journal, JournalOptions, JournalReader
from mt4pump.log import FaultCounters
from mt4pump.process.clock import wall_clock
from mt4pump.process.data_folder import DataFolderLock, next_epoch
from mt4pump.process.old_files import OldFiles, damaged_journals, service_log_rules
from mt4pump.publisher.capacity import DescriptorGuard, limit_connections, raise_limit
from mt4pump.publisher.publisher import Publisher
from mt4pump.pump.dispatch import Dispatcher
from mt4pump.pump.event_writer import EventWriter
from mt4pump.pump.heartbeat import HeartbeatPublisher, ServerClock
from mt4pump.pump.inbox import Inbox
from mt4pump.pump.loop import Pump
from mt4pump.pump.session import Command, ReadThread
from mt4pump.pump.snapshot import SnapshotRequest
from mt4pump.query import QueryOptions, QueryServer, QuerySources, YieldToPump
from mt4pump.query.handlers import describer
from mt4pump.security import PlainAuthenticator, ZapAuthenticator
from mt4pump.session_source import Source
from mt4pump.settings import Settings
from mt4pump.supervisor import Supervisor
from mt4pump.wire import Encoder

COMPARISON_SLICE_S = 0.003
"""Longest time that the pump thread compares whole tables before it handles records again."""
SUPERVISOR_STOP_S = 0.4
PUMP_PUBLISH_S, PUMP_END_S = 0.6, 0.8
"""Time from `stop`: until the pump thread drops what still waits, and until it must have closed socket and journal.

With the linger, these keep a stop under a second, even when a call into the DLL does not return.
"""
QUERY_STOP_S = 0.3
CHECK_GAP_MAX_S = 1.0
"""The time between two checks counts as this at most: no thread runs while machine or process is suspended."""

log = logging.getLogger(__name__)


class Daemon:
    """The whole daemon, from source to sockets. `start` it once, then `stop` it.

    ``source`` makes the Manager of each session; the daemon starts and stops it. Raises StartError when the data
    folder, an address or a key cannot be used; nothing is left open then.
    """

    def __init__(self, settings: Settings, source: Source) -> None:
        with ExitStack() as undo:
            self._build(settings, source, undo)
            undo.pop_all()

    def _build(self, settings: Settings, source: Source, undo: ExitStack) -> None:
        now_ns, anchor_clock = wall_clock()
        self._source = source
        self._hang_detector = HangDetector(settings.hang_timeout_s)
        self._hang: HangError | None = None
        self.fault_counters = fault_counters = FaultCounters(log)
        self._lock = DataFolderLock(settings.data_dir)
        undo.callback(self._lock.close)
        self.epoch = next_epoch(settings.data_dir, now_ns() // 1_000_000)
        journal = Journal(settings.journal_path, journal_options(settings), now_ns) if settings.journal else None
        deletion_ns = now_ns if journal is None else journal.proven_ns
        rules = [*service_log_rules("daemon"), damaged_journals(settings.journal_path)]
        self._old_files = OldFiles(rules, lambda: deletion_ns() / 1e9)
        if journal is not None:
            undo.callback(journal.close)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        undo.callback(self._context.destroy, 0)
        self._zap = authenticator_of(self._context, settings, fault_counters)
        self._zap.start()
        undo.callback(self._zap.stop)
        publisher = Publisher(self._context, settings, self._zap, fault_counters, socket_class=source.socket_class)
        undo.callback(publisher.close)
        self.endpoint = publisher.endpoint
        self.inbox = Inbox(settings.inbox_limit, now_ns)
        encoder = Encoder(self.epoch, settings.topic_suffix)
        writer = EventWriter(encoder, publisher, journal, settings.durable)
        self._dispatcher = Dispatcher(writer, settings, fault_counters, slice_s=COMPARISON_SLICE_S)
        self._dispatcher.restore_orders()
        self._supervisor = Supervisor(source.factory, self.inbox, settings)
        server_clock = ServerClock(settings.server_utc_offset_s)
        self._query = self._query_server(settings, journal, server_clock)
        if self._query is not None:
            undo.callback(self._query.stop)
        self._limit_connections()
        self._pump = self._build_pump(settings, source, server_clock, anchor_clock)

    def _build_pump(
        self, settings: Settings, source: Source, server_clock: ServerClock, anchor_clock: Callable[[], None]
    ) -> Pump:
        """Return the pump thread, not yet started."""
        heartbeat = HeartbeatPublisher(
            inbox=self.inbox,
            dispatcher=self._dispatcher,
            server_clock=server_clock,
            status=lambda: self._supervisor.status,
            source_counters=source.counters,
            query_counters=self._query_counters,
            deleted_files=self._old_files.counts,
            settings=settings,
        )
        return Pump(
            self.inbox,
            self._dispatcher,
            heartbeat,
            reconcile_interval_s=settings.reconcile_interval_s,
            anchor_clock=anchor_clock,
        )

    def _query_server(
        self, settings: Settings, journal: Journal | None, server_clock: ServerClock
    ) -> QueryServer | None:
        """Bind the query endpoint, if there is to be one."""
        if settings.query_endpoint is None:
            return None
        yield_to_pump = YieldToPump(lambda: self._pump.is_busy or len(self.inbox), lambda: self.inbox.received)
        reader = None
        if journal is not None:
            reader = JournalReader(settings.journal_path, lambda: journal.unstored_after, yield_to_pump)
        options = QueryOptions()
        describe = describer(
            settings,
            options,
            epoch=self.epoch,
            pub_endpoint=self.endpoint,
            journal=journal,
            server_clock=server_clock,
        )
        sources = QuerySources(self._zap.allowed_query, self.request_snapshot, reader, describe, yield_to_pump)
        secure = self._zap.secure_query
        return QueryServer(self._context, settings.query_endpoint, settings, options, sources, secure=secure)

    def _query_counters(self) -> dict[str, int]:
        """Return the heartbeat's ``query``: the server's counters, with what the authenticator's thread has closed."""
        query = self._query
        if query is None:
            return {}
        counts, closed = query.counts, query.connections
        over_limit, shut_out = counts["over_limit"] + closed.over_limit, counts["shut_out"] + closed.senders_closed
        return {**counts, "over_limit": over_limit, "shut_out": shut_out}

    def _limit_connections(self) -> None:
        """Limit the connections to what the system allows; the authenticator's thread enforces the limits."""
        endpoints = [self._dispatcher.writer.publisher.connections]
        if self._query is not None:
            endpoints.append(self._query.connections)
        limit_connections(endpoints, raise_limit())
        self._zap.add_guards(
            *(each.guard for each in endpoints),
            DescriptorGuard(endpoints, self.fault_counters).check,
            wake_numbers=tuple(each.wake_number for each in endpoints),
        )

    @property
    def query_endpoint(self) -> str | None:
        """Return the address that answers queries, if there is one."""
        return self._query.endpoint if self._query else None

    def request_snapshot(self, request: SnapshotRequest) -> None:
        """Have the pump thread answer ``request`` with its state between two events."""
        self.inbox.put_command(Command.SNAPSHOT, request)

    def select(self, symbols: tuple[str, ...]) -> None:
        """Publish the quotes of the symbols that match these patterns from now on."""
        self.inbox.put_command(Command.SELECT, symbols)

    def reload_permissions(self) -> None:
        """Read the clients' keys and permissions now; a client that lost one is disconnected within a second."""
        self._zap.reload()

    def start(self, *, session: bool = True) -> None:
        """Start publishing, then the session; without it, `start_session` does that later."""
        log.info("mt4pump %s publishes on %s, epoch %d", __version__, self.endpoint, self.epoch)
        self._pump.start()
        if self._query is not None:
            log.info("queries are answered on %s", self._query.endpoint)
            self._query.start()
        if session:
            self.start_session()

    def start_session(self) -> None:
        """Start the source and its first session."""
        self._source.start()
        self._supervisor.start()

    def published(self, kind: str) -> int:
        """Return how many events of ``kind`` were published so far, with or without a subscriber."""
        return self._dispatcher.counts.get(kind, 0)

    @property
    def has_baseline(self) -> bool:
        """Return whether all tables were read once."""
        return self._dispatcher.tables.has_baseline and self._dispatcher.trades.orders.has_baseline

    @property
    def iterations(self) -> int:
        """Return the wake-ups of the pump thread: many a second, unless it hangs."""
        return self._pump.iterations

    @property
    def state(self) -> str:
        """Return the session's state, as in the heartbeat."""
        return self._supervisor.status.state

    @property
    def crash(self) -> BaseException | None:
        """Return the error that ended a thread, or the hang of one; None while all run."""
        query_crash = self._query.crash if self._query else None
        return self._pump.crash or self._supervisor.crash or query_crash or self._zap.crash or self._hang

    def check_threads(self) -> None:
        """Check that all threads make progress; to be called often. One that hangs too long is a `crash`."""
        pump, supervisor = self._pump, self._supervisor
        progress = {pump: pump.iterations if pump.is_alive() else None, supervisor: supervisor.calling}
        self._hang = self._hang or self._hang_detector.check(progress)

    def delete_old_files(self) -> None:
        """Delete old logs and damaged journals when that is due; to be called often."""
        self._old_files.check()

    def stop(self) -> bool:
        """End the session, publish the last heartbeat, close sockets and journal; return whether all ended in time.

        A thread that did not end is logged.
        """
        began_s = time.monotonic()
        self._supervisor.stop()
        if self._query is not None:
            self._query.stop()
        if self._supervisor.ident is not None:
            self._supervisor.join(SUPERVISOR_STOP_S)
        self._pump.finish(began_s + PUMP_PUBLISH_S - time.monotonic())
        if self._pump.ident is not None:
            self._pump.join(max(0.0, began_s + PUMP_END_S - time.monotonic()))
        else:
            self._pump.run()
        if self._query is not None and self._query.ident is not None:
            self._query.join(QUERY_STOP_S)
        self._source.stop()
        clean = self._log_left_behind()
        self._zap.stop()  # also when the pump thread hangs: no connection is let in any more
        if not self._pump.is_alive() or self._pump.is_shut_down:  # then only its journal is still open
            self._context.term()
        self._lock.close()
        return clean

    def _log_left_behind(self) -> bool:
        """Log which threads did not end in time, and why; return whether all did."""
        supervisor_hangs, pump_hangs = self._supervisor.is_alive(), self._pump.is_alive()
        if supervisor_hangs:
            log.warning("a call into the Manager API did not return; its thread was abandoned")
        if pump_hangs and self._pump.is_shut_down:
            log.warning("the stop did not wait for the journal to close: what it holds is committed")
        elif pump_hangs:
            log.warning(
                "the pump thread hangs and was abandoned: %d records and the end are not published", len(self.inbox)
            )
        return not (supervisor_hangs or pump_hangs)


def journal_options(settings: Settings) -> JournalOptions:
    """Return the journal's part of the settings.

    ``identity`` names account and servers: open orders that the journal keeps are of no use for others.
    """
    servers = ",".join(sorted(settings.servers))
    synchronous = settings.journal_synchronous
    if synchronous == "extra":
        log.warning("journal_synchronous = extra is the same as full: write full, as extra will be refused one day")
        synchronous = "full"
    identity = f"{settings.source}:{settings.login or 0}@{servers}"
    return JournalOptions(synchronous, settings.journal_max_age_s, settings.journal_max_bytes, identity)


def authenticator_of(
    context: zmq.Context[zmq.Socket[bytes]], settings: Settings, fault_counters: FaultCounters
) -> ZapAuthenticator | PlainAuthenticator:
    """Return the authenticator that the settings describe, not yet started; raises StartError or KeyFileError."""
    secret_key, clients = settings.curve_secret_key, settings.curve_clients
    if secret_key is None and clients is None:
        return PlainAuthenticator(context, fault_counters)
    if secret_key is None or clients is None:
        raise StartError("curve_secret_key and curve_clients belong together: set both, or none")
    return ZapAuthenticator(context, secret_key, clients, suffix=settings.topic_suffix, fault_counters=fault_counters)


class HangDetector:
    """Checks the progress of threads; one whose progress does not change for ``limit_s`` hangs. 0 is no limit."""

    def __init__(self, limit_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._now_s = now_s
        self._checked_at_s = now_s()
        self._still: dict[Thread, tuple[Hashable, float]] = {}

    def check(self, progress: Mapping[Thread, Hashable | None]) -> HangError | None:
        """Return the error of the first thread that hangs; None if there is none.

        A thread's progress is a value that changes as it works, and None while it may be idle (it waits, it has
        ended). The stack of a thread that hangs is logged.
        """
        now_s = self._now_s()
        passed_s, self._checked_at_s = min(now_s - self._checked_at_s, CHECK_GAP_MAX_S), now_s
        for thread, value in progress.items():
            seen, still_s = self._still.get(thread, (None, 0.0))
            still_s = still_s + passed_s if value is not None and value == seen else 0.0
            self._still[thread] = value, still_s
            if 0 < self._limit_s <= still_s:
                text = f"the {thread.name} thread made no progress for {still_s:.0f} s (limit: hang_timeout_s) in "
                return HangError(text + _place(thread))
        return None


def _place(thread: Thread) -> str:
    """Return where ``thread`` is, or the read of a table that the pump thread waits for; log their whole stacks."""
    frames, place = sys._current_frames(), "a place that is not known"  # noqa: SLF001 - documented, and the only way
    reads = [read for read in enumerate_threads() if isinstance(read, ReadThread)] if isinstance(thread, Pump) else []
    for each in (thread, *reads[-1:]):
        if (frame := frames.get(each.ident or 0)) is not None:
            stack = traceback.extract_stack(frame)
            log.error("the stack of the %s thread:\n%s", each.name, "".join(traceback.format_list(stack)).rstrip())
            place = f"{stack[-1].name} ({stack[-1].filename}:{stack[-1].lineno})"
    return place
