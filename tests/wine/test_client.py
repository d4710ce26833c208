"""The Python client on a Windows Python: both event loops of Windows, and Ctrl-C; the daemon is on Linux."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.client.fake_daemon import FakeDaemon
from tests.programs import program
from tests.wine.machine import Machine

LIMIT_S = 60.0
STOP_LIMIT_S = 30.0
LOST_AND_LIVE = 4

ASYNC = f"""\
import asyncio, sys
from mt4pump.client import AsyncSubscriber, Notice, Trade

async def work():
    print("loop", type(asyncio.get_running_loop()).__name__, flush=True)
    async with AsyncSubscriber(sys.argv[1], query_endpoint=sys.argv[2], topics=["trade.*"]) as sub:
        while sub.position is None:
            await sub.receive(0.05)
        print("live", flush=True)
        seen = 0
        async for trade in sub:
            print("received", trade.seq, trade.healed, flush=True)
            seen += 1
            if seen == {LOST_AND_LIVE}:
                break

asyncio.run(work(), loop_factory=getattr(asyncio, sys.argv[3]))
print("ended", flush=True)
"""

PLAIN = """\
import sys
from mt4pump.client import Subscriber

with Subscriber(sys.argv[1], query_endpoint=sys.argv[2], topics=["trade.*"], notices=True) as sub:
    print("ready", flush=True)
    try:
        for item in sub:
            print(item, flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
print("ended", flush=True)
"""

BY_EVENTS = """\
import sys
from mt4pump.client import Subscriber, console_events

with Subscriber(sys.argv[1], query_endpoint=sys.argv[2], topics=["trade.*"]) as sub, console_events(sub.close):
    print("ready", flush=True)
    for item in sub:
        print(item, flush=True)
print("ended", flush=True)
"""

IDLE_LOOP = """\
import asyncio, sys
from mt4pump.client import AsyncSubscriber, console_events

async def work():
    async with AsyncSubscriber(sys.argv[1], query_endpoint=sys.argv[2]) as sub:
        with console_events(sub.close):
            print("ready", flush=True)
            async for item in sub:
                print(item, flush=True)

asyncio.run(work(), loop_factory=asyncio.SelectorEventLoop)
print("ended", flush=True)
"""

NOBODY = ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2")
"""Addresses that nothing listens on."""


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    """Give a scripted daemon."""
    with FakeDaemon() as running:
        yield running


@pytest.mark.parametrize("loop", ["ProactorEventLoop", "SelectorEventLoop"])
def test_both_event_loops_of_windows_bring_every_trade_once_and_healed(
    windows: Machine, daemon: FakeDaemon, loop: str
) -> None:
    assert daemon.query_endpoint is not None
    arguments = ("-u", "-c", ASYNC, daemon.endpoint, daemon.query_endpoint, loop)
    with program(windows.start(windows.python, *arguments)) as run:
        assert run.line("loop").endswith(loop)
        run.line("live", LIMIT_S)
        daemon.publish("trade.1")
        daemon.lose("trade.1", "trade.1")
        daemon.publish("trade.1")
        seen = [run.line("received ", LIMIT_S).split() for _ in range(LOST_AND_LIVE)]
        assert [seq for _, seq, _ in seen] == [str(seq) for seq in range(1, LOST_AND_LIVE + 1)]
        assert [healed for _, _, healed in seen[:-1]] == ["False", "True", "True"], "the lost ones, from the journal"
        run.line("ended", STOP_LIMIT_S)
        assert run.end(STOP_LIMIT_S) == 0, run.text


@pytest.mark.parametrize("alone", [True, False], ids=["nobody is there", "heartbeats come"])
def test_ctrl_c_is_a_keyboard_interrupt_that_ends_the_plain_subscriber(
    windows: Machine, daemon: FakeDaemon, *, alone: bool
) -> None:
    where = NOBODY if alone else (daemon.endpoint, str(daemon.query_endpoint))
    with program(windows.start(windows.python, "-u", "-c", PLAIN, *where)) as run:
        run.line("ready", LIMIT_S)
        if not alone:
            run.line("connected", LIMIT_S)
        run.process.send_signal(signal.SIGINT)
        run.line("interrupted", STOP_LIMIT_S)
        assert run.end(STOP_LIMIT_S) == 0, run.text
        assert run.lines[-1] == "ended"


@pytest.mark.parametrize("code", [BY_EVENTS, IDLE_LOOP], ids=["plain", "an idle selector loop"])
def test_console_events_close_a_subscriber_without_an_exception(windows: Machine, code: str) -> None:
    with program(windows.start(windows.python, "-u", "-c", code, *NOBODY)) as run:
        run.line("ready", LIMIT_S)
        run.process.send_signal(signal.SIGINT)
        assert run.end(STOP_LIMIT_S) == 0, run.text
        assert run.lines[-1] == "ended"
