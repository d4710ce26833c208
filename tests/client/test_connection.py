"""What runs the core on real sockets: it waits when there is nothing to do, and loses no count.

Private access: the runner of a subscriber, because single iterations and their waits are what is tested, and a caller
sees only what they bring.
"""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from threading import Thread

import pytest
import zmq

from mt4pump.client import ClientError, Subscriber, Trade, connection
from mt4pump.client.connection import ConnectionChanges, SubConnection
from mt4pump.client.stream import Stream
from tests.client.fake_daemon import LIMIT_S, FakeDaemon
from tests.client.reading import live, next_item, subscriber, until


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with FakeDaemon() as running:
        yield running


def test_without_a_file_descriptor_left_the_error_says_what_to_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_arguments: object) -> SubConnection:
        raise zmq.ZMQError(errno.EMFILE)

    monkeypatch.setattr(connection, "SubConnection", none_left)
    with (
        Subscriber("tcp://127.0.0.1:1", query_endpoint=None) as sub,
        pytest.raises(ClientError, match="raise LimitNOFILE"),
    ):
        sub.receive(0)


@pytest.mark.parametrize("query_endpoint", [None, "tcp://127.0.0.1:1"])
def test_an_iteration_with_nothing_to_read_waits_once_for_whatever_may_come(
    monkeypatch: pytest.MonkeyPatch, query_endpoint: str | None
) -> None:
    waits: list[tuple[set[int], object]] = []

    class Recorder(zmq.Poller):
        def poll(self, timeout: float | None = None) -> list[tuple[object, int]]:
            waits.append(({socket.type for socket, _ in self.sockets}, timeout))
            return []

    monkeypatch.setattr(zmq, "Poller", Recorder)
    with Subscriber("tcp://127.0.0.1:1", query_endpoint=query_endpoint, silence_s=3_600) as sub:
        sub.receive(0)  # what happens at the start
        waits.clear()
        for _ in range(5):
            sub._runner.run_once(0.05)  # noqa: SLF001
    sockets = {zmq.SUB, zmq.PAIR} if query_endpoint is None else {zmq.SUB, zmq.PAIR, zmq.DEALER}
    assert waits == [(sockets, 50)] * 5


@pytest.mark.parametrize("moment", ["before the thread begins", "while the thread begins"])
def test_ctrl_c_while_the_sockets_open_leaves_a_subscriber_that_closes(
    monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    threads: list[Interrupted] = []

    class Interrupted(Thread):
        def start(self) -> None:
            threads.append(self)
            if moment == "while the thread begins":
                super().start()
            raise KeyboardInterrupt

    monkeypatch.setattr(connection, "Thread", Interrupted)
    with pytest.raises(KeyboardInterrupt), Subscriber("tcp://127.0.0.1:1", query_endpoint=None) as sub:
        sub.receive(0)
    (thread,) = threads
    if moment == "before the thread begins":
        Thread.start(thread)
    thread.join(LIMIT_S)
    assert not thread.is_alive()
    assert sub._runner._sub is None, "nothing is opened after the end"  # noqa: SLF001


def test_the_break_of_a_connection_is_known_before_a_message_of_the_next_one_is_handled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []

    def recording(owner: type, name: str, result: object) -> None:
        def call(*_arguments: object) -> object:
            calls.append(name)
            return result

        monkeypatch.setattr(owner, name, call)

    recording(SubConnection, "read", [(b"heartbeat", b"")])
    recording(SubConnection, "changes", ConnectionChanges(broke=True, made=True))
    for name in ("set_disconnected", "set_connected", "handle", "set_drained"):
        recording(Stream, name, None)
    with Subscriber("tcp://127.0.0.1:1", query_endpoint=None) as sub:
        sub._runner.run_once(0)  # noqa: SLF001
    assert calls == ["read", "changes", "set_disconnected", "set_connected", "handle"]


def test_a_message_of_one_frame_is_counted_once(daemon: FakeDaemon) -> None:
    with subscriber(daemon, "trade.*", "quote.*") as sub:
        live(sub)
        daemon.send_raw(b"quote.X", b"\xc1")  # from here on messages are read whole
        daemon.publish("trade.1")
        next_item(sub, lambda item: isinstance(item, Trade))
        assert sub.counts["decode_errors"] == 1
        daemon.send_raw(b"quote.X")
        for _ in range(2):
            daemon.publish("trade.1")
            next_item(sub, lambda item: isinstance(item, Trade))
            assert sub.counts["decode_errors"] == 2


def test_what_is_foreign_on_the_wire_is_counted_and_the_rest_goes_on(daemon: FakeDaemon) -> None:
    with subscriber(daemon, "*") as sub:
        live(sub)
        for frames in ((b"quote.X",), (b"quote.X", b"\xc1"), (b"a", b"b", b"c"), (b"quote.X", b"\x01")):
            daemon.send_raw(*frames)
            daemon.publish("trade.1")
        seen = [next_item(sub, lambda item: isinstance(item, Trade)).seq for _ in range(4)]
        assert seen == [1, 2, 3, 4]
        assert sub.counts["decode_errors"] >= 4


def test_a_reader_that_holds_all_it_may_waits_for_the_answer_and_uses_no_processor(daemon: FakeDaemon) -> None:
    with subscriber(daemon, "trade.*", hold_limit=100, query_timeout_s=LIMIT_S) as sub:
        live(sub)
        waits: list[float] = []
        sub._runner._wait = lambda sub, wait_s: waits.append(wait_s)  # type: ignore[method-assign]  # noqa: ARG005, SLF001
        daemon.do(lambda: setattr(daemon, "mute", True))
        daemon.lose("trade.1")
        daemon.publish(*["trade.1"] * 2_500)
        until(sub, lambda: sub._stream.is_full)  # noqa: SLF001
        for _ in range(5):
            waits.clear()
            assert sub.receive(0.001) is None
            assert waits, "it neither read nor waited"


CLOSED_BY_A_SIGNAL = """
import signal
from mt4pump.client import Subscriber

sub = Subscriber("tcp://127.0.0.1:1", query_endpoint=None)
signal.signal(signal.SIGTERM, lambda *_: sub.close())
runner, wait = sub._runner, sub._runner._wait

def wait_and_signal(connection, wait_s):
    signal.raise_signal(signal.SIGTERM)
    wait(connection, wait_s)  # the sockets are still open

runner._wait = wait_and_signal
MAIN
assert runner._sub is None, "open"
sub.close()
print("closed")
"""


@pytest.mark.parametrize("main", ["for event in sub: pass", "assert sub.receive() is None", "sub.run()"])
def test_a_signal_amid_a_read_closes_at_its_end(main: str) -> None:
    program = CLOSED_BY_A_SIGNAL.replace("MAIN", main)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert (done.stdout, done.returncode) == ("closed\n", 0), done.stderr
