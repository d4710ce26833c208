"""The simulated server: a world that lives on while sessions come and go, and the one thread that moves it."""

from __future__ import annotations

import logging
import math
from collections import deque
from threading import Event, Thread, current_thread
from time import monotonic

from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.manager import Manager, Notify
from mt4pump.simulator.callbacks import CallbackSender
from mt4pump.simulator.context import FairLock
from mt4pump.simulator.faults import BURST, DROP, MUTE, NULL, SILENT, SKIP, FaultSchedule, amount_of, check_amount
from mt4pump.simulator.feeds import CHUNK, Feed, QuoteQueue, ReplayFeed, WalkFeed
from mt4pump.simulator.manager import SessionRegistry, SimulatorManager
from mt4pump.simulator.market import specification_of
from mt4pump.simulator.options import SimulatorOptions
from mt4pump.simulator.tick_files import TickFiles
from mt4pump.simulator.world import World

SLICE_S = 0.05
"""Longest sleep of the feed thread: whatever it should have been woken for is seen after that."""
STOP_WAIT_S = 5.0
SELECTION_WAIT_S = 1.0
"""How long a reader may take to select its symbols: the first after START, and one that came up in a tick file."""
INJECTED_LIMIT = 1000
BODIES_LIMIT = 256

log = logging.getLogger(__name__)


class Simulator:
    """A Manager server without a DLL. Raises StartError when a tick file of ``options`` cannot be used.

    Repeatable: with the same options and ``start_s`` given, the events and the quotes' bytes are the same in every run,
    however fast machine and reader are. Not part of that are START, STOP and PING (wall clock), how often BIDASK rings,
    and what a session hears that comes later or leaves in between.

    Attributes:
        finished: Set when a replay has ended and its last tick was taken by a session.
        ticks_sent: Quotes put in line for a session.
        ticks_unseen: Quotes made while none was wanted.
        sessions: Sessions that began to pump.
        faults_done: Faults carried out, scheduled or injected.
        faults_refused: Faults injected beyond `INJECTED_LIMIT` waiting ones.
        room_waits: How often the market waited for the reader.
        failures: Errors that ended the feed thread.
    """

    def __init__(self, options: SimulatorOptions | None = None) -> None:
        self.options = options = options or SimulatorOptions()
        self.finished = Event()
        self.ticks_sent = self.ticks_unseen = self.sessions = 0
        self.faults_done = self.faults_refused = self.room_waits = self.failures = 0
        self.turn = FairLock()
        self._wake = Event()
        self.line = QuoteQueue(options.quote_buffer, self._wake.set)
        self.delivery = CallbackSender()
        self.reception = SessionRegistry(self.delivery)
        self.files = TickFiles(options.ticks, options.repeat, options.tick_options) if options.ticks else None
        self.world, self.feed = self._build()
        self.world.stage.emit = self.delivery.emit
        self.world.ring = self.delivery.ring
        self._schedule = FaultSchedule(options.faults)
        self._injected: deque[tuple[str, float]] = deque()
        self._bodies: deque[int] = deque(maxlen=BODIES_LIMIT)
        self._thread: Thread | None = None
        self._is_stopping = False
        self._has_begun = False
        self._next_ping_s = math.inf
        self._selection_until_s = self._first_selection_until_s = math.inf

    @property
    def events_sent(self) -> int:
        """Return how many calls of ``notify`` were made, BIDASK and PING left out."""
        return self.delivery.events_sent

    @property
    def events_skipped(self) -> int:
        """Return how many trade events fault ``skip`` swallowed."""
        return self.delivery.events_skipped

    @property
    def bad_lines(self) -> int:
        """Return how many rows of the tick files could not be used."""
        return self.files.bad_lines if self.files else 0

    @property
    def late_lines(self) -> int:
        """Return how many rows of the tick files had a time before that of a row above."""
        return self.files.late_lines if self.files else 0

    def start(self) -> None:
        """Start the server. Time stands still until the first session pumps."""
        if self._thread:
            msg = "this Simulator was started before; make a new one"
            raise RuntimeError(msg)
        self._thread = Thread(target=self._run, name="simulator", daemon=True)
        self._thread.start()
        what = f"{len(self.options.ticks)} tick files" if self.files else f"{self.options.rate:g} quotes/s"
        symbols, accounts = len(self.world.market.instruments), len(self.world.accounts.all)
        log.info("simulator started: %s, %d symbols, %d accounts, seed %d", what, symbols, accounts, self.options.seed)

    def stop(self) -> None:
        """Stop the server: a session that pumps is lost. Waits for the thread, `STOP_WAIT_S` at most.

        Called inside a callback it does not wait: that is the thread itself.
        """
        self._is_stopping = True
        self._wake.set()
        if self._thread and self._thread.is_alive() and self._thread is not current_thread():
            self._thread.join(STOP_WAIT_S)
            if self._thread.is_alive():
                log.error("the simulator's thread did not end within %s s: a callback does not come back", STOP_WAIT_S)

    def manager(self) -> Manager:
        """Return the Manager of the next session."""
        return SimulatorManager(self)

    def inject(self, kind: str, amount: float | None = None) -> None:
        """Let a fault happen at once, from any thread. Raises ValueError as `parse_fault` does."""
        check_amount(kind, amount)
        if len(self._injected) >= INJECTED_LIMIT:
            self.faults_refused += 1
            return
        self._injected.append((kind, amount_of(kind, amount)))
        self._wake.set()

    # What sessions need, from their threads

    def admit(self, session: SimulatorManager) -> None:
        """Let a session connect; raises ConnectionLost while the server is away."""
        is_running = self._thread is not None and self._thread.is_alive() and not self._is_stopping
        self.reception.admit(session, running=is_running)

    def silent_s(self) -> float:
        """Return for how many seconds more no login is answered."""
        return self.reception.silent_s()

    def attach(self, session: SimulatorManager, flags: int, notify: Notify) -> None:
        """Begin to pump; START follows from the feed thread. A session that pumps already is lost."""
        with self.turn():
            self.reception.attach(session, flags, notify)
            if self.files is None:
                self.line.clear()  # quotes of before are stale; ticks of a replay are owed
        self._wake.set()

    def detach(self, session: SimulatorManager) -> Notify | None:
        """Let go of a session that was closed; takes no turn, as a callback may hold it."""
        notify = self.reception.detach(session)
        self._wake.set()
        return notify

    def want_body(self, key: int) -> None:
        """Let UPDATE_NEWS_BODY follow."""
        self._bodies.append(key)
        self._wake.set()

    # The feed thread

    def _run(self) -> None:
        try:
            while not self._is_stopping:
                with self.turn():
                    pause_s = self._move(monotonic())
                if pause_s > 0:
                    self._wake.wait(min(pause_s, SLICE_S))
                    self._wake.clear()
        except Exception:
            self.failures += 1
            log.exception("the simulator failed; its sessions are lost")
        finally:
            with self.turn():
                self.reception.lose_all("the simulator stopped")
            self._report()

    def _move(self, now_s: float) -> float:
        """Do what is due; return seconds to sleep."""
        if self.delivery.start():
            self._greet(now_s)
        if not self._has_begun:
            self._do_injected()
            return SLICE_S
        self._do_faults(now_s)
        if now_s >= self._next_ping_s:
            self.delivery.ping()
            self._next_ping_s = now_s + self.options.ping_interval_s
        if self._bodies:
            self._bodies.clear()
            self.delivery.emit(PumpCode.UPDATE_NEWS_BODY, 0, b"")
        return min(self._advance(now_s), max(0.0, self._next_ping_s - now_s))

    def _greet(self, now_s: float) -> None:
        self.sessions += 1
        self._next_ping_s = now_s + self.options.ping_interval_s
        self._first_selection_until_s = now_s + SELECTION_WAIT_S
        if not self._has_begun:
            self._has_begun = True
            self.feed.begin(now_s)
        log.info("session %d pumps, flags %d", self.sessions, self.delivery.flags)
        if len(self.line):
            self.delivery.ring()  # ticks that an earlier session left behind

    def _advance(self, now_s: float) -> float:
        """Make the quotes that are due, if the reader has room; return seconds until the next."""
        is_replay = self.files is not None
        if is_replay and not self.delivery.is_heard:
            self.feed.pause()
            return SLICE_S
        wanted = self.delivery.wants_quotes
        if wanted and not self._has_room(now_s, is_replay=is_replay):
            return SLICE_S
        made = self.feed.advance(now_s, self._schedule.next_s, self.line.put if wanted else None)
        if wanted:
            self.ticks_sent += made
        else:
            self.ticks_unseen += made
        if made:
            self.delivery.ring()
        self._see_the_end()
        wait_s = self.feed.wait_s(monotonic())
        # Flat out with nobody to wait for, the world would run away: let it stroll.
        return SLICE_S if not wait_s and not wanted and not is_replay and math.isinf(self.options.rate) else wait_s

    def _has_room(self, now_s: float, *, is_replay: bool) -> bool:
        """Return whether a chunk of quotes fits, and nobody has to select a new symbol first."""
        pumping = self.reception.pumping
        if self.feed.awaits and pumping and self.feed.awaits not in pumping.selected:
            self._selection_until_s = min(self._selection_until_s, now_s + SELECTION_WAIT_S)
            if now_s < self._selection_until_s:
                return False
        self.feed.awaits = b""
        self._selection_until_s = math.inf
        if self.line.has_room(CHUNK):
            return True
        if not is_replay and pumping and not pumping.selected and now_s >= self._first_selection_until_s:
            self.line.clear()  # a walk does not wait for a reader that wants no symbol
            return True
        self.room_waits += 1
        return False

    def _see_the_end(self) -> None:
        if self.feed.exhausted and not len(self.line) and not self.finished.is_set():
            log.info("replay ended: %d ticks, %d bad lines", self.ticks_sent + self.ticks_unseen, self.bad_lines)
            self.finished.set()

    def _do_faults(self, now_s: float) -> None:
        for fault in self._schedule.take(self.feed.elapsed_s(now_s)):
            self._do(fault.kind, fault.size)
        self._do_injected()

    def _do_injected(self) -> None:
        while self._injected:
            kind, amount = self._injected.popleft()
            self._do(kind, amount)

    def _do(self, kind: str, amount: float) -> None:
        self.faults_done += 1
        log.info("fault %s, amount %g", kind, amount)
        if kind == DROP:
            self.reception.cut(amount)
        elif kind == SILENT:
            self.reception.fall_silent(amount)
        elif kind == MUTE:
            self.delivery.mute()
        elif kind == NULL:
            self.delivery.null(int(amount))
        elif kind == SKIP:
            self.delivery.skip(int(amount))
        elif kind == BURST:
            self.world.crowd.burst(int(amount))

    def _report(self) -> None:
        sent = self.delivery
        log.info(
            "simulator stopped: %d ticks and %d events sent in %d sessions, %d faults, %d waits for the reader",
            self.ticks_sent, sent.events_sent, self.sessions, self.faults_done, self.room_waits,
        )  # fmt: skip
        lost = sent.events_unseen, sent.events_skipped, sent.notify_errors, self.feed.pace.slips
        if any(lost):
            log.info("events unseen %d, skipped %d, errors in notify %d, times behind schedule %d", *lost)

    def _build(self) -> tuple[World, Feed]:
        if self.files is None:
            world = World(self.options)
            return world, WalkFeed(world, self.options)
        specs = tuple(specification_of(symbol, digits) for symbol, digits in self.files.digits.items())
        world = World(self.options, specs, trading=False)
        return world, ReplayFeed(world, self.files, self.options)
