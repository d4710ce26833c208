"""The connections from the daemon to its readers: queues that fill, repeat, are late, and end with their connection."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

Frames = tuple[bytes, bytes]


class Full(Exception):
    """Never raised: the publisher of the simulation passes full queues over by itself."""


class Clock:
    """Virtual time; each reading of the clock moves it by a microsecond."""

    def __init__(self) -> None:
        self._ns = 1_700_000_000_000_000_000
        self._began_ns = self._ns

    def now_ns(self) -> int:
        """Return ns since 1970."""
        self._ns += 1_000
        return self._ns

    def now_s(self) -> float:
        """Return the seconds since the simulation began."""
        return (self._ns - self._began_ns) / 1e9

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._ns += max(1_000, int(seconds * 1e9))


class Connection:
    """One connection of one reader. ``queue`` holds at most ``limit`` messages; what is more is lost to the reader.

    ``subscribing`` are subscriptions that have not reached the daemon yet. As with libzmq, a queue that refused a
    message refuses all until half of it was read.
    """

    def __init__(self, subscriptions: list[bytes], limit: int) -> None:
        self.subscribing = deque(subscriptions)
        self.subscribed: tuple[bytes, ...] = ()
        self.queue: deque[Frames] = deque()
        self.limit = limit
        self.is_full = False

    def offer(self, frames: Frames) -> str:
        """Take a message from the daemon; return what became of it: ``sent``, ``full``, ``dropped`` or nothing."""
        if not frames[0].startswith(self.subscribed) or not self.subscribed:
            return ""
        if self.is_full:
            if len(self.queue) > self.limit // 2:
                return "dropped"
            self.is_full = False
        if len(self.queue) >= self.limit:
            self.is_full = True
            return "full"
        self.queue.append(frames)
        return "sent"

    def repeat_one(self, random: Random) -> bool:
        """Have one of the waiting messages come a second time, somewhere behind the first."""
        if not self.queue:
            return False
        place = random.randrange(len(self.queue))
        self.queue.insert(random.randrange(place + 1, len(self.queue) + 1), self.queue[place])
        return True

    def end(self, keep: int) -> list[Frames]:
        """End the connection; return the messages that had reached the reader's side."""
        arrived = list(self.queue)[:keep]
        self.queue.clear()
        return arrived


class AllSubscribed:
    """Reports a subscriber for every topic; the simulated connections filter by topic."""

    def has_subscriber(self, _topic: bytes) -> bool:
        """Return True."""
        return True

    def __len__(self) -> int:
        return 1


class Wire:
    """The publisher of one run of the daemon. ``published`` is called with each message before it is sent.

    ``queue_filled`` counts the queues that were found newly full, as the heartbeat's ``slow_readers`` does.
    """

    full: type[Exception] = Full

    def __init__(self, published: Callable[[bytes, bytes], None]) -> None:
        self.subscriptions = AllSubscribed()
        self.sent = 0
        self.queue_filled = 0
        self.connections: list[Connection] = []
        self._published = published
        self._topic = b""

    def send(self, topic: bytes, body: bytes) -> None:
        """Send one message to whom it concerns."""
        self._published(topic, body)
        self.sent += 1
        for connection in self.connections:
            self.queue_filled += self.deliver(connection, (topic, body)) == "full"

    def deliver(self, connection: Connection, frames: Frames) -> str:
        """Put a message into one connection's queue."""
        return connection.offer(frames)

    def send_frame(self, data: bytes, flags: int = 0, /) -> None:
        """Send one frame of a message of two."""
        if flags:
            self._topic = data
        else:
            self.send(self._topic, data)
            self.sent -= 1  # whoever sends frames counts them

    def resend(self, topic: bytes, body: bytes) -> None:
        """Send a message past full queues."""
        self.send(topic, body)
