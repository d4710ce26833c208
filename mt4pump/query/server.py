"""The query thread and its ROUTER socket: requests in, replies out, and no peer in the way of another.

The name of the peer is sent before the work on its request begins: a peer whose queue is full, as it reads none of its
replies, is found out there, at the cost of one call, and costs nobody anything but itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread

import zmq

from mt4pump.errors import BindError
from mt4pump.publishing.binding import apply, bind, bind_failure
from mt4pump.pumping.state import CutRequest
from mt4pump.query.answers import Answers, Peer, Permissions
from mt4pump.query.envelope import FRAMES_LIMIT, Letter, opened
from mt4pump.query.options import QueryOptions
from mt4pump.query.pace import Stopped, Way
from mt4pump.query.replays import Reader
from mt4pump.query.replies import Reply, packed_head
from mt4pump.wire import Body

POLL_MS = 50
"""How late, at most, an idle thread notices that it is to stop, or that a held cut has expired."""
WIRE_SLACK = 4
"""A frame up to this many times too large is still read, so that its sender is told; a larger one cuts it off."""
FRAMES_PER_LOOK = 16
"""Frames sent or skipped between two looks at the clock."""

log = logging.getLogger(__name__)


class QueryServer(Thread):
    """Answers `describe`, `snapshot` and `replay` on ``endpoint``. Binds in the caller's thread; raises BindError.

    ``secure`` makes the socket a CURVE server, or nothing; ``allowed`` gives the permissions of a client's name (empty
    without CURVE); ``ask_cut`` hands a request to the pump thread; ``reader`` is the journal (None: there is none) and
    from here on the thread's own; ``describe`` gives the body of a description;
    ``way`` makes way for the live stream in the midst of long work. ``crash`` is what ended the thread
    when it should not have.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        *,
        options: QueryOptions,
        secure: Callable[[zmq.Socket[bytes]], None],
        allowed: Callable[[str], Permissions],
        ask_cut: Callable[[CutRequest], None],
        reader: Reader | None,
        describe: Callable[[], Body],
        way: Way | None = None,
    ) -> None:
        super().__init__(name="query", daemon=True)
        self.crash: BaseException | None = None
        self._told_to_stop = Event()
        self._is_begun = False
        self._reader = reader
        self._answers = Answers(
            options,
            allowed=allowed,
            ask_cut=ask_cut,
            reader=reader,
            describe=describe,
            is_stopping=self._told_to_stop.is_set,
            way=way,
        )
        self.counts = self._answers.counts
        self._socket = context.socket(zmq.ROUTER)
        try:
            _apply(self._socket, options)
            secure(self._socket)
            bind(self._socket, endpoint)
        except zmq.ZMQError as error:
            self._socket.close(0)
            raise BindError(bind_failure(endpoint, error, setting="query_endpoint")) from error
        except BaseException:
            self._socket.close(0)
            raise
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._send = super(zmq.Socket, self._socket).send  # half the cost of the layer above it

    def stop(self) -> None:
        """Tell the thread to end, which takes it less than 100 ms; a thread that never began lets go of its address."""
        self._told_to_stop.set()
        if self.ident is None:
            self._close()

    def run(self) -> None:
        """Answer until told to stop."""
        try:
            while not self._told_to_stop.is_set():
                self._turn()
        except (Stopped, zmq.ContextTerminated):
            pass
        except BaseException as error:
            self.crash = error
            log.exception("the query thread crashed")
        finally:
            self._close()

    def _close(self) -> None:
        self._socket.close()
        if self._reader is not None:
            self._reader.close()

    def _turn(self) -> None:
        """Take and answer one request, if there is one. An error of our own costs this request only, and is counted."""
        try:
            if not self._socket.poll(POLL_MS, zmq.POLLIN):
                self._answers.cuts.expire()
                return
            peer, letter = self._received()
            self._reply(peer, letter)
        except (Stopped, zmq.ContextTerminated):
            raise
        except Exception as error:
            self._answers.complaints.add("query_socket", f"a request was lost: {error!r}")
            log.debug("a request was lost", exc_info=True)
            self._answers.counts["dropped"] += 1
            self._end_message()
            self._told_to_stop.wait(0.01)  # whatever it is, it shall not make the thread run hot

    def _received(self) -> tuple[Peer, Letter]:
        """Return the next message; its frames beyond what a request has are skipped."""
        name = self._socket.recv(zmq.NOBLOCK)
        frames: list[bytes] = []
        user, skipped = "", 0
        while self._socket.getsockopt(zmq.RCVMORE):
            if len(frames) < FRAMES_LIMIT:
                frame = self._socket.recv(zmq.NOBLOCK, copy=False)
                frames.append(frame.bytes)
                user = user or _user_of(frame)
            else:
                self._socket.recv(zmq.NOBLOCK)
                skipped += 1
                if not skipped % FRAMES_PER_LOOK:
                    self._answers.pace.tick()
        return Peer(name, user), opened(frames)

    def _reply(self, peer: Peer, letter: Letter) -> None:
        """Answer one message, unless its sender cannot take an answer."""
        try:
            self._send(peer.connection, zmq.SNDMORE | zmq.NOBLOCK)
        except zmq.ContextTerminated:
            raise
        except zmq.ZMQError:  # EAGAIN: it does not read its replies; EHOSTUNREACH: it is gone
            self._answers.counts["requests"] += 1
            self._answers.counts["dropped"] += 1
            return
        self._is_begun = True
        reply = self._answers.answer(letter.payload, peer)
        try:
            head = packed_head(reply.head)
        except Exception as error:  # noqa: BLE001 - the message is begun and must be ended, with whatever can be said
            reply = self._answers.failed(error)
            head = packed_head(reply.head)
        self._send_all(letter.hops, head, reply)
        self._is_begun = False

    def _end_message(self) -> None:
        """End a message that an error cut short, so that the next one does not become its tail."""
        if self._is_begun:
            self._is_begun = False
            self._send(b"", int(zmq.NOBLOCK))

    def _send_all(self, hops: tuple[bytes, ...], head: bytes, reply: Reply) -> None:
        """Send what follows the peer's name. Once that is queued, nothing of the rest waits or is refused."""
        send, more = self._send, zmq.SNDMORE | zmq.NOBLOCK
        plain_more = int(more)  # an enum costs more than the call
        frames = reply.frames
        for hop in hops:
            send(hop, plain_more)
        if not frames:
            send(head, int(zmq.NOBLOCK))
            return
        send(head, plain_more)
        last = len(frames) - 1
        for start in range(0, last, FRAMES_PER_LOOK):
            for frame in frames[start : min(start + FRAMES_PER_LOOK, last)]:
                send(frame, plain_more)
            self._answers.pace.tick()
        send(frames[last], int(zmq.NOBLOCK))
        self._answers.counts["events"] += reply.events


def _user_of(frame: zmq.Frame) -> str:
    """Return the client's name that ZAP gave to the connection; empty without CURVE."""
    try:
        return str(frame.get("User-Id"))
    except (zmq.ZMQError, UnicodeDecodeError):
        return ""


def _apply(socket: zmq.Socket[bytes], options: QueryOptions) -> None:
    apply(socket, options.transport)
    socket.setsockopt(zmq.SNDHWM, options.sndhwm)
    socket.setsockopt(zmq.RCVHWM, options.rcvhwm)
    socket.setsockopt(zmq.MAXMSGSIZE, WIRE_SLACK * options.max_request_bytes)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.setsockopt(zmq.ROUTER_HANDOVER, 0)
