"""The server, the daemon with its journal, and the disk of one seed: the steps that change them, and their faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from mt4pump.client.stream import Stream
from tests.simulation.broker import Broker
from tests.simulation.checks import PublishedEvents
from tests.simulation.daemon import Daemon
from tests.simulation.journal import JournalFile, MemoryJournal
from tests.simulation.reader import MakeStream
from tests.simulation.wire import Clock, Wire


class Crash(Exception):
    """The daemon dies in the middle of its work."""


class CrashingWire(Wire):
    """A wire whose daemon dies at the next message but ``crash_after``, when that is set."""

    crash_after: int | None = None

    def send(self, topic: bytes, body: bytes) -> None:
        """Send one message, or die before it."""
        if self.crash_after is not None:
            if not self.crash_after:
                raise Crash
            self.crash_after -= 1
        super().send(topic, body)


@dataclass(frozen=True)
class Plan:
    """What is used for the parts that a planted fault replaces."""

    make_stream: MakeStream = Stream
    wire: type[CrashingWire] = CrashingWire
    journal: type[MemoryJournal] = MemoryJournal
    restores: bool = False
    """Whether the daemon sometimes starts with an older copy of its journal, and detects it or uses offsets again."""


class Backend:
    """Owns server, daemon and disk. Each step returns what it did, nothing when there was nothing to do.

    ``daemon`` is None while none runs; ``daemon_ended`` is called at its end. ``inbox_limit`` is for the next run.
    """

    def __init__(
        self, random: Random, clock: Clock, ledger: PublishedEvents, plan: Plan, daemon_ended: Callable[[], None]
    ) -> None:
        self.random = random
        self.clock = clock
        self.ledger = ledger
        self.broker = Broker(random)
        self.daemon: Daemon | None = None
        self.inbox_limit = 0
        self._plan = plan
        self._daemon_ended = daemon_ended
        self._file = JournalFile("log-1")
        self._files = 1
        self._connected = random.random() < 0.9  # to the server
        self._disk_works = True

    @property
    def running(self) -> Daemon:
        """Return the daemon, which runs."""
        assert self.daemon is not None
        return self.daemon

    def change(self) -> str:
        """Change one thing at the server, and report it."""
        reports = self.broker.change()
        if self.random.random() < 0.05:
            reports += reports[-1:]
        if self.daemon is not None and self.daemon.session is not None:
            for report in reports:
                self.daemon.inbox.notify(*report)
            return f"server: {_shown(reports)}"
        return f"server: {_shown(reports)} not received"

    def burst(self) -> str:
        """Change many things at once."""
        count = self.random.randrange(10, 40)
        return f"burst of {count}: " + "; ".join(self.change() for _ in range(count))

    def swallow(self) -> str:
        """Change one thing that the API does not report."""
        return f"server: {_shown(self.broker.change())} swallowed by the API"

    def quote(self) -> str:
        """Report a quote."""
        if self.daemon is None or self.daemon.session is None:
            return ""
        self.daemon.inbox.notify(*self.broker.quote())
        return "server: a quote"

    def work(self) -> str:
        """Let the daemon handle some records."""
        if self.daemon is None:
            return ""
        before = len(self.ledger.events)
        count = self.daemon.work(self.random.randrange(1, 12))
        return f"daemon: {count} records, {self._published_since(before)}" if count else ""

    def _published_since(self, before: int) -> str:
        return "published " + (", ".join(map(str, self.ledger.events[before:])) or "nothing")

    def compare(self) -> str:
        """Let the daemon compare all tables."""
        if self.daemon is None:
            return ""
        before = len(self.ledger.events)
        self.daemon.reread_all()
        return f"daemon: compared all tables, {self._published_since(before)}"

    def crash(self) -> str:
        """Kill the daemon."""
        if self.daemon is None:
            return ""
        self._end_daemon()
        return "daemon: killed"

    def crash_while_publishing(self) -> str:
        """Kill the daemon between a commit and a send."""
        if self.daemon is None:
            return ""
        wire = self.daemon.wire
        assert isinstance(wire, CrashingWire)
        wire.crash_after = self.random.randrange(4)
        try:
            self.daemon.work(20)
        except Crash:
            self._end_daemon()
            return "daemon: died between commit and send"
        wire.crash_after = None
        return ""

    def _end_daemon(self) -> None:
        self.daemon = None
        self._daemon_ended()

    def start_again(self, *, may_restore: bool) -> str:
        """Start the daemon again, sometimes with another journal, or a copy; ``may_restore``: perhaps not detected."""
        if self.daemon is not None:
            return ""
        if self.random.random() < 0.1:
            self._files += 1
            last = self._file.last if self._files % 2 else 0  # offsets that go on, and offsets that come again
            self._file = JournalFile(f"log-{self._files}", last=last)
        elif self._plan.restores and self._file.last > self._file.first and self.random.random() < 0.5:
            self._restore_copy(is_detected=not may_restore or self.random.random() < 0.7)
        opened = self.random.random() < 0.9
        self.start(opened=opened)
        return f"daemon: starts, journal {self._file.log_id} at {self._file.last} {'open' if opened else 'not open'}"

    def _restore_copy(self, *, is_detected: bool) -> None:
        """Put an older copy in place of the journal; detected, all that may have been published is skipped."""
        first, last = self._file.first, self._file.last
        if (
            is_detected and self.random.random() < 0.5
        ):  # a copy that lacks the last events only: no heartbeat may have named them
            first = max(first, last - 6)
        end = self.random.randrange(first, last)
        skipped_to = last + self.random.randrange(20) if is_detected else 0
        self._file.lose_end(end, skipped_to)
        self.ledger.lose_end(self._file.log_id, end, skipped_to)

    def start(self, *, opened: bool) -> None:
        """Start a run of the daemon."""
        journal = self._plan.journal(self._file, self.random, self.ledger.stored, opened=opened and self._disk_works)
        journal.works = self._disk_works
        epoch = max(self.ledger.epoch + 1, self.clock.now_ns() // 1_000_000)
        self.ledger.begin(epoch, self._file.log_id)
        wire = self._plan.wire(self.ledger.sent)
        self.daemon = Daemon(epoch, journal, wire, self.clock, inbox_limit=self.inbox_limit)
        if self._connected:
            self.daemon.begin_session(self.broker)

    def lose_server(self) -> str:
        """End the connection to the server."""
        if not self._connected:
            return ""
        self._connected = False
        if self.daemon is not None:
            self.daemon.end_session()
        return "server: lost"

    def find_server(self) -> str:
        """Connect to the server again."""
        if self._connected:
            return ""
        self._connected = True
        if self.daemon is not None:
            early = self.broker.change() if self.random.random() < 0.5 else []
            self.daemon.begin_session(self.broker, early)
        return "server: found"

    def break_disk(self) -> str:
        """Make the disk fail."""
        self._disk_works = False
        if self.daemon is not None:
            self.daemon.journal.works = False
        return "disk: fails"

    def repair_disk(self) -> str:
        """Make the disk work."""
        if self._disk_works:
            return ""
        self._disk_works = True
        if self.daemon is not None:
            self.daemon.journal.works = True
        return "disk: works"

    def delete_old(self) -> str:
        """Delete old events, as retention does."""
        span = self._file.last - self._file.first
        if span < 2:
            return ""
        offset = self._file.first + self.random.randrange(span)
        self._file.delete_up_to(offset)
        for event in self.ledger.events:
            if event.log == self._file.log_id and 0 < event.offset <= offset:
                event.is_deleted = True
        return f"journal: deleted up to {offset}"


def _shown(reports: list[tuple[int, int, bytes]]) -> str:
    return ", ".join(f"code {code} action {action} ({len(data)} bytes)" for code, action, data in reports)
