"""Builds the rooms, owns the threads, and knows the order to start and stop them in."""

from __future__ import annotations

import gc
import logging
import sys

import zmq

from mt4pump import __version__
from mt4pump.clock import wall_clock
from mt4pump.complaints import Complaints
from mt4pump.emitter import Emitter
from mt4pump.inbox import Inbox
from mt4pump.intake import Intake
from mt4pump.publisher import Publisher
from mt4pump.pump import Pump, PumpOptions
from mt4pump.server_clock import ServerClock
from mt4pump.session import FINISH, Supervisor
from mt4pump.settings import Settings
from mt4pump.signals import asked_to_end
from mt4pump.sources import Source, source_of
from mt4pump.wire import QUOTE, Encoder
from mt4pump.wiring import intake_options, session_plan, socket_options

SUPERVISOR_STOP_S = 0.4
PUMP_STOP_S = 0.4
"""Together with the linger these keep a stop under a second, also when a call into the DLL does not come back."""
WAIT_SLICE_S = 0.2
"""Windows does not interrupt a longer wait for Ctrl-C."""

log = logging.getLogger(__name__)


class Daemon:
    """One pump from source to socket. `start`, then `stop`; never started again.

    ``source`` makes the Manager of each session; the daemon starts and stops it.
    """

    def __init__(self, settings: Settings, source: Source) -> None:
        self._source = source
        now_ns, anchor = wall_clock()
        self.inbox = Inbox(settings.inbox_limit, now_ns)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        publisher = Publisher(self._context, settings.pub_endpoint, socket_options(settings))
        self.endpoint = publisher.endpoint
        self.epoch = now_ns() // 1_000_000
        self._emitter = emitter = Emitter(Encoder(self.epoch), publisher)
        complaints = Complaints(log)
        self._intake = intake = Intake(emitter, intake_options(settings), complaints)
        self._supervisor = Supervisor(source.factory, self.inbox, session_plan(settings))
        self._pump = Pump(
            inbox=self.inbox,
            emitter=emitter,
            intake=intake,
            complaints=complaints,
            server_clock=ServerClock(settings.server_utc_offset_s),
            status=lambda: self._supervisor.status,
            source_counters=source.counters,
            options=PumpOptions(settings.heartbeat_interval_s, settings.log_summary_interval_s),
            anchor_clock=anchor,
            now_ns=now_ns,
        )

    def start(self, *, session: bool = True) -> None:
        """Start publishing, then the session; without it, `start_session` does that later."""
        log.info("mt4pump %s publishes on %s, epoch %d", __version__, self.endpoint, self.epoch)
        self._pump.start()
        if session:
            self.start_session()

    def start_session(self) -> None:
        """Start the source and its first session."""
        self._source.start()
        self._supervisor.start()

    def published(self, kind: str) -> int:
        """Return how many events of ``kind`` were published so far, with or without a subscriber."""
        return self._intake.quotes.published if kind == QUOTE.name else self._emitter.counts[kind]

    @property
    def crash(self) -> BaseException | None:
        """Return what ended a thread that should still run, if anything did."""
        return self._pump.crash or self._supervisor.crash

    def stop(self) -> bool:
        """End the session, publish the last heartbeat, close the socket; return whether all of it ended in time."""
        self._supervisor.stop()
        if self._supervisor.ident is not None:
            self._supervisor.join(SUPERVISOR_STOP_S)
        self.inbox.tell(FINISH, None)
        if self._pump.ident is not None:
            self._pump.join(PUMP_STOP_S)
        else:
            self._pump.run()
        self._source.stop()
        clean = not (self._supervisor.is_alive() or self._pump.is_alive())
        if not self._pump.is_alive():
            self._context.term()
        return clean


def run(settings: Settings) -> int:
    """Run the daemon until a signal; return the exit code. Raises StartError when it cannot start."""
    sys.setswitchinterval(settings.switch_interval_s)
    with asked_to_end() as asked:
        daemon = Daemon(settings, source_of(settings))
        gc.collect()
        gc.freeze()  # what lives for ever need not be looked at again
        try:
            daemon.start()
            while not asked.wait(WAIT_SLICE_S) and daemon.crash is None:
                pass
            log.info("stopping")
        finally:
            clean = daemon.stop()
    if daemon.crash is not None:
        log.error("ended by a crash of its own: %r", daemon.crash)
        return 1
    log.info("stopped%s", "" if clean else "; a call into the Manager API did not come back and was left behind")
    return 0
