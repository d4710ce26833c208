"""The SUB socket of a subscriber and its monitor: messages, and what happens to the connection."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import zmq
from zmq.utils.monitor import parse_monitor_message

from mt4pump.client.held_events import Frames
from mt4pump.client.keys import ClientKeys
from mt4pump.client.query_connection import Context
from mt4pump.client.stream import HEARTBEAT_TOPIC

BATCH = 1_000
"""Messages read in one go, so that everything else gets its turn."""
FRAME_MAX_BYTES = 256 * 2**20
"""Far above what is believed: libzmq ends the connection of a longer one, and never makes it anew."""
RECONNECT_MS, RECONNECT_LIMIT_MS = 100, 2_000
ZMTP_HEARTBEAT_MS, ZMTP_TIMEOUT_MS = 5_000, 15_000
REFUSALS = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
WATCHED = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | REFUSALS


@dataclass(slots=True)
class ConnectionChanges:
    """What happened to the connection since the last look, in this order."""

    broke: bool = False
    made: bool = False
    refused: bool = False


class SubConnection:
    """Connects to ``endpoint``. ``is_drained``: at the last `read`, all that was there was read. One thread's."""

    def __init__(self, context: Context, endpoint: str, keys: ClientKeys | None, rcvhwm: int) -> None:
        self.is_drained = False
        self.faults = 0
        self._prefixes: set[bytes] = set()
        self._aligned = True
        self.socket = context.socket(zmq.SUB)
        self.socket.setsockopt(zmq.RCVHWM, rcvhwm)
        self.socket.setsockopt(zmq.MAXMSGSIZE, FRAME_MAX_BYTES)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_LIMIT_MS)
        self.socket.setsockopt(zmq.HEARTBEAT_IVL, ZMTP_HEARTBEAT_MS)
        self.socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, ZMTP_TIMEOUT_MS)
        self.socket.setsockopt(zmq.IPV6, 1 if "[" in endpoint else 0)
        if keys is not None:
            keys.apply(self.socket)
        address = f"inproc://mt4pump-client-{uuid.uuid4().hex}"
        self.socket.monitor(address, WATCHED)
        self.monitor = context.socket(zmq.PAIR)
        self.monitor.setsockopt(zmq.LINGER, 0)
        self.monitor.connect(address)
        self.socket.connect(endpoint)
        self._receive = super(zmq.Socket, self.socket).recv  # below the layer for options we do not use

    def subscribe(self, prefixes: set[bytes]) -> None:
        """Subscribe to exactly these, and to the heartbeat after them: the daemon sends one at once for that."""
        wanted = prefixes - {HEARTBEAT_TOPIC}
        for prefix in sorted(wanted - self._prefixes):
            self.socket.setsockopt(zmq.SUBSCRIBE, prefix)
        for prefix in sorted(self._prefixes - wanted):
            self.socket.setsockopt(zmq.UNSUBSCRIBE, prefix)
        self._prefixes = wanted
        self.socket.setsockopt(zmq.UNSUBSCRIBE, HEARTBEAT_TOPIC)  # without it a second subscription would not be sent
        self.socket.setsockopt(zmq.SUBSCRIBE, HEARTBEAT_TOPIC)

    def read(self) -> list[Frames]:
        """Return the messages that are there, at most `BATCH` of them."""
        if not self._aligned:
            return self._read_whole()
        receive, now = self._receive, zmq.NOBLOCK
        messages = []
        self.is_drained = False
        try:
            messages.append((receive(now), receive(now)))
            if not self._goes_on():
                for _ in range(BATCH - 1):
                    messages.append((receive(now), receive(now)))  # noqa: PERF401 - keeps what came before the end
                self._goes_on()
        except zmq.Again:
            self.is_drained = True
        return messages

    def _goes_on(self) -> bool:
        """Return whether the last message has more than two frames; skip those, and read messages whole from now on.

        Asked once or twice a batch, as it costs twice as much as reading a message does. Where it comes too late, what
        does not come in pairs shows as `look_at_frames`, and what was lost in that one batch as gaps.
        """
        goes_on = False
        while self.socket.getsockopt(zmq.RCVMORE):
            goes_on = True
            self._receive(zmq.NOBLOCK)
        if goes_on:
            self.look_at_frames()
        return goes_on

    def look_at_frames(self) -> None:
        """Read slowly from now on: not everything comes in pairs (a later version, or not of this protocol)."""
        self._aligned = False

    def _read_whole(self) -> list[Frames]:
        messages = []
        self.is_drained = False
        try:
            for _ in range(BATCH):
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
                if len(frames) >= 2:  # those behind the two are a later version's
                    messages.append((frames[0], frames[1]))
                else:
                    self.faults += 1
        except zmq.Again:
            self.is_drained = True
        return messages

    def turns(self) -> ConnectionChanges:
        """Return what happened to the connection since the last look."""
        turns = ConnectionChanges()
        while True:
            try:
                event = parse_monitor_message(self.monitor.recv_multipart(zmq.NOBLOCK))["event"]
            except zmq.Again:
                return turns
            turns.broke |= event == zmq.EVENT_DISCONNECTED
            turns.made |= event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            turns.refused |= bool(event & REFUSALS)

    def close(self) -> None:
        """Close both sockets."""
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)
