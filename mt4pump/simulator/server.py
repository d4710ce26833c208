"""The simulated server: a broker that exists longer than its sessions, and the one thread that moves it."""

from __future__ import annotations

import logging
import math
from collections import deque
from itertools import starmap
from threading import Event, Thread, current_thread
from time import monotonic

from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.manager import Manager
from mt4pump.simulator.broker import CHUNK, ReplayFeed, SimulatedBroker, WalkFeed
from mt4pump.simulator.manager import SessionRegistry, SimulatorManager
from mt4pump.simulator.market import specification_of
from mt4pump.simulator.options import FaultSchedule, SimulatedFault, SimulatorOptions
from mt4pump.simulator.tick_files import TickFiles

SLEEP_LIMIT_S = 0.05
"""Longest sleep of the feed thread: whatever it should have been woken for is seen after that."""
STOP_WAIT_S = 5.0
SELECTION_WAIT_S = 1.0
"""How long a reader may take to select its symbols: the first after START, and one that appeared in a tick file."""
INJECTED_LIMIT = 1000

log = logging.getLogger(__name__)


class Simulator:
    """A Manager server without a DLL. Raises StartError when a tick file of ``options`` cannot be used.

    Repeatable: with the same options and ``start_s`` given, the events and the quotes' bytes are the same in every run,
    however fast machine and reader are. Not part of that are START, STOP and PING (wall clock), how often BIDASK is
    sent, and what a session receives that begins later or ends earlier.

    Attributes:
        finished: Set when a replay has ended and a session has read its last tick.
        ticks_sent: Quotes queued for a session.
        ticks_unseen: Quotes made while none was wanted.
        session_count: Sessions that began to pump.
        faults_done: Faults carried out, scheduled or injected.
        faults_refused: Faults injected beyond `INJECTED_LIMIT` waiting ones.
        room_waits: How often the market waited for the reader.
        failures: Errors that ended the feed thread.
    """

    def __init__(self, options: SimulatorOptions | None = None) -> None:
        self.options = options = options or SimulatorOptions()
        self.finished = Event()
        self.ticks_sent = self.ticks_unseen = self.session_count = 0
        self.faults_done = self.faults_refused = self.room_waits = self.failures = 0
        self.files: TickFiles | None = None
        self.feed: WalkFeed | ReplayFeed
        if options.ticks:
            self.files = TickFiles(options.ticks, options.tick_options)
            self.broker = SimulatedBroker(options, tuple(starmap(specification_of, self.files.digits.items())))
            self.feed = ReplayFeed(self.broker, self.files, options)
        else:
            self.broker = SimulatedBroker(options)
            self.feed = WalkFeed(self.broker, options)
        self.registry = SessionRegistry(self.broker, options.quote_buffer, keeps_quotes=self.files is not None)
        self.callbacks, self.quote_queue = self.registry.callbacks, self.registry.quote_queue
        self.broker.context.emit = self.callbacks.emit
        self.broker.send_bidask = self.callbacks.send_bidask
        self._schedule = FaultSchedule(options.faults)
        self._injected: deque[SimulatedFault] = deque()
        self._thread: Thread | None = None
        self._is_stopping = self._has_begun = False
        self._next_ping_s = self._selection_until_s = self._first_selection_until_s = math.inf

    def counters(self) -> dict[str, int]:
        """Return what the heartbeat publishes of the simulator."""
        return {
            "ticks_sent": self.ticks_sent,
            "ticks_unseen": self.ticks_unseen,
            "events_sent": self.callbacks.events_sent,
            "events_skipped": self.callbacks.events_skipped,
            "bad_lines": self.files.bad_lines if self.files else 0,
            "late_lines": self.files.late_lines if self.files else 0,
            "quotes_unread": self.quote_queue.unread,
        }

    def start(self) -> None:
        """Start the server. Time stands still until the first session pumps."""
        if self._thread:
            raise RuntimeError("this Simulator was started before; make a new one")
        self._thread = Thread(target=self._run, name="simulator", daemon=True)
        self.registry.is_open = True
        self._thread.start()
        what = f"{len(self.options.ticks)} tick files" if self.files else f"{self.options.rate:g} quotes/s"
        symbols, accounts = len(self.broker.market.instruments), len(self.broker.accounts.all)
        log.info("simulator started: %s, %d symbols, %d accounts, seed %d", what, symbols, accounts, self.options.seed)

    def stop(self) -> None:
        """Stop the server: a session that pumps is lost. Waits for the thread, `STOP_WAIT_S` at most.

        Called inside a callback it does not wait: that is the thread itself.
        """
        self._is_stopping = True
        self.registry.is_open = False
        self.registry.wake.set()
        if self._thread and self._thread.is_alive() and self._thread is not current_thread():
            self._thread.join(STOP_WAIT_S)
            if self._thread.is_alive():
                log.error("the simulator's thread did not end within %s s: a callback does not return", STOP_WAIT_S)

    def manager(self) -> Manager:
        """Return the Manager of the next session."""
        return SimulatorManager(self.registry)

    def inject(self, kind: str, amount: float | None = None) -> None:
        """Let a fault happen at once, from any thread. Raises ValueError as `SimulatedFault` does."""
        fault = SimulatedFault(kind, amount=amount)
        if len(self._injected) >= INJECTED_LIMIT:
            self.faults_refused += 1
            return
        self._injected.append(fault)
        self.registry.wake.set()

    def _run(self) -> None:
        try:
            while not self._is_stopping:
                with self.registry.lock:
                    pause_s = self._step(monotonic())
                if pause_s > 0:
                    self.registry.wake.wait(min(pause_s, SLEEP_LIMIT_S))
                    self.registry.wake.clear()
        except Exception:
            self.failures += 1
            log.exception("the simulator failed; its sessions are lost")
        finally:
            self.registry.is_open = False
            with self.registry.lock:
                self.registry.lose_all("the simulator stopped")
            self._report()

    def _step(self, now_s: float) -> float:
        """Do what is due; return seconds to sleep."""
        if self.callbacks.start():
            self._begin_session(now_s)
        if not self._has_begun:
            self._do_injected()
            return SLEEP_LIMIT_S
        for fault in self._schedule.pop_due(self.feed.elapsed_s(now_s)):
            self._do(fault)
        self._do_injected()
        if now_s >= self._next_ping_s:
            self.callbacks.send_ping()
            self._next_ping_s = now_s + self.options.ping_interval_s
        if self.registry.is_body_wanted:
            self.registry.is_body_wanted = False
            self.callbacks.emit(PumpCode.UPDATE_NEWS_BODY, 0, b"")
        return min(self._advance(now_s), max(0.0, self._next_ping_s - now_s))

    def _begin_session(self, now_s: float) -> None:
        self._has_begun = True
        self.session_count += 1
        self._next_ping_s = now_s + self.options.ping_interval_s
        self._first_selection_until_s = now_s + SELECTION_WAIT_S
        log.info("session %d pumps, flags %d", self.session_count, self.callbacks.flags)
        if len(self.quote_queue):
            self.callbacks.send_bidask()  # ticks that an earlier session did not read

    def _advance(self, now_s: float) -> float:
        """Make the quotes that are due, if the reader has room; return seconds until the next."""
        if self.files and not self.callbacks.has_session:
            self.feed.schedule.pause()
            return SLEEP_LIMIT_S
        wanted = self.callbacks.wants_quotes
        if wanted and not self._has_room(now_s):
            return SLEEP_LIMIT_S
        made = self.feed.advance(now_s, self._schedule.next_s, self.quote_queue.put if wanted else None)
        if wanted:
            self.ticks_sent += made
        else:
            self.ticks_unseen += made
        if made:
            self.callbacks.send_bidask()
        if self.feed.exhausted and not len(self.quote_queue) and not self.finished.is_set():
            ticks = self.ticks_sent + self.ticks_unseen
            log.info("replay ended: %d ticks, %d bad lines", ticks, self.counters()["bad_lines"])
            self.finished.set()
        if math.isinf(self.options.rate) and not wanted and not self.files:
            return SLEEP_LIMIT_S  # with no reader to wait for, the market would take a whole core
        return self.feed.wait_s(monotonic())

    def _has_room(self, now_s: float) -> bool:
        """Return whether a chunk of quotes fits, and no new symbol has to be selected first."""
        pumping = self.registry.pumping
        if self.feed.awaited and pumping and self.feed.awaited not in pumping.selected:
            self._selection_until_s = min(self._selection_until_s, now_s + SELECTION_WAIT_S)
            if now_s < self._selection_until_s:
                return False
        self.feed.awaited = b""
        self._selection_until_s = math.inf
        if self.quote_queue.has_room(CHUNK):
            return True
        if not self.files and pumping and not pumping.selected and now_s >= self._first_selection_until_s:
            self.quote_queue.clear()  # a walk does not wait for a reader that wants no symbol
            return True
        self.room_waits += 1
        return False

    def _do_injected(self) -> None:
        while self._injected:
            self._do(self._injected.popleft())

    def _do(self, fault: SimulatedFault) -> None:
        self.faults_done += 1
        log.info("fault %s, amount %g", fault.kind, fault.size)
        match fault.kind:
            case "drop":
                self.registry.drop(fault.size)
            case "silent":
                self.registry.fall_silent(fault.size)
            case "mute":
                self.callbacks.mute()
            case "null":
                self.callbacks.null(int(fault.size))
            case "skip":
                self.callbacks.skip(int(fault.size))
            case "burst":
                self.broker.traders.burst(int(fault.size))

    def _report(self) -> None:
        sent = self.callbacks
        log.info(
            "simulator stopped: %d ticks and %d events sent in %d sessions, %d faults, %d waits for the reader",
            self.ticks_sent, sent.events_sent, self.session_count, self.faults_done, self.room_waits,
        )  # fmt: skip
        lost = {
            "events unseen": sent.events_unseen, "hidden by flags": sent.events_hidden, "skipped": sent.events_skipped,
            "sent as NULL": sent.events_nulled, "errors in notify": sent.notify_errors,
            "times behind schedule": self.feed.schedule.slips, "faults refused": self.faults_refused,
        }  # fmt: skip
        if any(lost.values()):
            log.info("%s", ", ".join(f"{what} {count}" for what, count in lost.items()))
