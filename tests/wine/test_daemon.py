"""The daemon on Windows Python and a Windows DLL, received by a subscriber on Linux, from start to Ctrl-C."""

from __future__ import annotations

import signal
import socket as sockets
from contextlib import AbstractContextManager
from pathlib import Path

import msgpack
import pytest
import zmq

from mt4pump.security.keys import new_pair
from tests.bus import LIMIT_MS, context
from tests.programs import Program, program
from tests.security.keyring import Keyring
from tests.test_resets import READY_DEALER, REQUESTS, break_amid
from tests.vendor.listener import last_messages, pumping, received, session_flags
from tests.vendor.scenario import QUOTES, TRADES, VARIABLE, trading
from tests.wine.console import EVENTS, raising
from tests.wine.machine import Machine

STOP_LIMIT_S = 30.0
LOOK_LIMIT_S = 300.0
"""To find who holds an address, Wine searches all of the host's processes once per connection of the host."""


def daemon(
    windows: Machine, library: Path, folder: Path, *flags: str, script: str = ""
) -> AbstractContextManager[Program]:
    """Run ``mt4pump run`` on the machine, on a session of the fake library."""
    arguments = session_flags(windows.windows(library), windows.windows(folder))
    return program(
        windows.start(windows.python, "-u", "-m", "mt4pump", *arguments, *flags, cwd=folder, extra={VARIABLE: script})
    )


def test_what_the_dll_reports_reaches_a_subscriber_on_linux_until_ctrl_c_ends_it_cleanly(
    windows: Machine, library: Path, tmp_path: Path
) -> None:
    scenario, go = trading(tmp_path / "script", windows.windows)
    with daemon(windows, library, tmp_path, script=scenario.write()) as run, context() as own:
        assert run.fact("build 1403")["level"] == "info"
        subscriber = pumping(own, run.endpoint())
        events = received(subscriber, go)
        trades = [event.body for event in events if event.topic == "trade.1001"]
        quotes = [event.body for event in events if event.topic == "quote.EURUSD"]
        assert [(body["order"], body["change"]) for body in trades] == [(n, "opened") for n in range(1, TRADES + 1)]
        assert [body["seq"] for body in trades] == list(range(1, TRADES + 1))
        assert [body["seq"] for body in quotes] == list(range(1, len(quotes) + 1))
        assert 0 < len(quotes) <= QUOTES
        run.process.send_signal(signal.SIGINT)
        assert run.end(STOP_LIMIT_S) == 0, run.text
        rest = last_messages(subscriber)
    assert [event.body["reason"] for event in rest if event.topic == "session.stop"] == ["stopped by us"]
    assert (rest[-1].topic, rest[-1].body["state"]) == ("heartbeat", "stopping")
    assert "stopped" in run.lines[-1]


def test_with_curve_the_known_client_receives_everything_and_a_stranger_nothing(
    windows: Machine, library: Path, tmp_path: Path
) -> None:
    keys = Keyring(tmp_path)
    keys.admit("reader", "*")
    scenario, go = trading(tmp_path / "script", windows.windows)
    flags = [f"--curve-secret-key={windows.windows(keys.secret)}", f"--curve-clients={windows.windows(keys.clients)}"]
    with daemon(windows, library, tmp_path, *flags, script=scenario.write()) as run, context() as own:
        endpoint = run.endpoint()
        stranger = keys.set_keys(own.socket(zmq.SUB), new_pair())
        stranger.connect(endpoint)
        stranger.setsockopt(zmq.SUBSCRIBE, b"")
        reader = pumping(own, endpoint, lambda socket: keys.set_keys(socket, keys.pairs["reader"]))
        events = received(reader, go)
        assert [event.body["order"] for event in events if event.topic == "trade.1001"] == list(range(1, TRADES + 1))
        assert not stranger.poll(0)
        run.process.send_signal(signal.SIGINT)
        assert run.end(STOP_LIMIT_S) == 0, run.text


def test_ctrl_c_before_the_session_runs_ends_it_too(windows: Machine, library: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.txt"
    script.write_text("accept 6 another other:443\n", encoding="utf-8")  # every server and login is refused
    with daemon(windows, library, tmp_path, script=windows.windows(script)) as run:
        run.endpoint()
        run.process.send_signal(signal.SIGINT)
        assert run.end(STOP_LIMIT_S) == 0, run.text


def test_second_daemon_on_the_same_address_exits_with_3_and_says_so(
    windows: Machine, library: Path, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    with daemon(windows, library, tmp_path) as first:
        endpoint = first.endpoint()
        with daemon(windows, library, tmp_path / "second", f"--pub-endpoint={endpoint}") as second:
            assert second.end(LOOK_LIMIT_S) == 3
        assert f"cannot start: pub_endpoint {endpoint} is taken" in second.text
        assert first.process.poll() is None


def test_address_that_another_program_holds_exits_with_3(windows: Machine, library: Path, tmp_path: Path) -> None:
    with sockets.create_server(("127.0.0.1", 0)) as holder:
        endpoint = f"tcp://127.0.0.1:{holder.getsockname()[1]}"
        with daemon(windows, library, tmp_path, f"--pub-endpoint={endpoint}") as run:
            assert run.end(LOOK_LIMIT_S) == 3
    assert endpoint in run.text
    assert "publish on another address" in run.text


WAIT = "asked.wait()"
SELECTOR_LOOP = """\
import asyncio
    loop = asyncio.SelectorEventLoop()
    waiting = loop.run_in_executor(None, asked.wait)
    loop.run_until_complete(waiting)
    loop.close()"""


@pytest.mark.parametrize("wait", [WAIT, SELECTOR_LOOP], ids=["a wait without a limit", "an idle selector loop"])
def test_ctrl_c_reaches_a_main_thread_that_python_s_own_handler_does_not(windows: Machine, wait: str) -> None:
    code = f"""\
from mt4pump.process.signals import asked_to_end
with asked_to_end() as asked:
    print("ready", flush=True)
    {wait}
    print("asked to end", flush=True)
"""
    with program(windows.start(windows.python, "-u", "-c", code)) as run:
        run.line("ready")
        run.process.send_signal(signal.SIGINT)
        run.line("asked to end", STOP_LIMIT_S)
        assert run.end(STOP_LIMIT_S) == 0


@pytest.mark.parametrize("event", EVENTS)
def test_the_other_console_events_end_it_cleanly_too(
    windows: Machine, library: Path, tmp_path: Path, event: str
) -> None:
    """Windows kills a process whose handler for a closed window or a shutdown returns; ours holds on until the end."""
    go = tmp_path / "go"
    arguments = session_flags(windows.windows(library), windows.windows(tmp_path))
    command = raising(EVENTS[event], windows.windows(go), "mt4pump", *arguments)
    started = windows.start(windows.python, *command, cwd=tmp_path, extra={VARIABLE: ""})
    with program(started) as run, context() as own:
        subscriber = pumping(own, run.endpoint())
        go.touch()
        assert run.end(STOP_LIMIT_S) == 0, run.text
        rest = last_messages(subscriber)
    assert (rest[-1].topic, rest[-1].body["state"]) == ("heartbeat", "stopping")
    assert "stopped" in run.lines[-1]


def test_second_daemon_on_the_same_folder_exits_with_3_and_names_the_first(
    windows: Machine, library: Path, tmp_path: Path
) -> None:
    with daemon(windows, library, tmp_path) as first:
        first.endpoint()
        with daemon(windows, library, tmp_path) as second:
            assert second.end() == 3
        assert first.process.poll() is None
    assert "is in use by mt4pump" in second.text
    assert "--data-dir" in second.text


def test_urgent_data_amid_requests_that_wait_do_not_end_the_daemon(windows: Machine, tmp_path: Path) -> None:
    flags = ["--source=simulator", f"--data-dir={windows.windows(tmp_path)}", "--log-format=json"]
    flags += ["--pub-endpoint=tcp://127.0.0.1:*", "--query-endpoint=tcp://127.0.0.1:*"]
    process = windows.start(windows.python, "-u", "-m", "mt4pump", "run", *flags, cwd=tmp_path)
    with program(process) as run, context() as own, own.socket(zmq.REQ) as honest:
        endpoint = run.endpoint("answered on ")
        break_amid(int(endpoint.rpartition(":")[2]), READY_DEALER, REQUESTS, "127.0.0.2", urgent=True)
        honest.connect(endpoint)
        honest.send(msgpack.packb({"op": "describe"}))
        assert honest.poll(LIMIT_MS), run.printed()
