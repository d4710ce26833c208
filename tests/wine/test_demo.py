"""``mt4pump demo`` on a Windows Python: every part is served to Linux, and Ctrl-C ends all of them."""

from __future__ import annotations

import signal
from pathlib import Path
from urllib.request import urlopen

from mt4pump.client import Query, Quote, Subscriber
from tests.bus import until
from tests.chaos.processes import free_ports
from tests.programs import program
from tests.wine.machine import Machine

LIMIT_S = 90.0
FLAGS = ("--pub-port", "--query-port", "--gateway-port", "--metrics-port")


def page(address: str) -> str:
    """Return what is served at an address of ours."""
    with urlopen(address, timeout=LIMIT_S) as reply:  # noqa: S310 - the demo's own
        text: str = reply.read().decode()
    return text


def test_the_demo_is_served_to_linux_and_ctrl_c_ends_all_of_its_parts(windows: Machine, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    publish, query, gateway, metrics = ports = free_ports(len(FLAGS))
    words = [word for flag, port in zip(FLAGS, ports, strict=True) for word in (flag, str(port))]
    arguments = ("-u", "-m", "mt4pump", "demo", *words, "--data-dir", windows.windows(data))
    with program(windows.start(windows.python, *arguments, cwd=tmp_path)) as run:
        run.line("Ctrl-C ends all of it", LIMIT_S)
        assert "<html" in page(f"http://127.0.0.1:{gateway}/")
        until(lambda: "mt4pump_up 1.0" in page(f"http://127.0.0.1:{metrics}/metrics"), "the metrics are up", LIMIT_S)
        stream, queries = f"tcp://127.0.0.1:{publish}", f"tcp://127.0.0.1:{query}"
        with Query(queries) as ask:
            assert ask.describe()["pub_endpoint"] == stream
        with Subscriber(stream, query_endpoint=queries, topics=["quote.*"]) as quotes:
            assert isinstance(quotes.receive(LIMIT_S), Quote)
        run.process.send_signal(signal.SIGINT)
        assert run.end(LIMIT_S) == 0, run.text
        assert "all programs have ended" in run.text
        assert "was killed" not in run.text
