"""Commands that ask a real daemon: describe, snapshot, replay; its settings file changed, SIGHUP, a second instance."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.commands import LIMIT_S, finish, start

FLAGS = ("--source=simulator", "--data-dir=data", "--pub-endpoint=tcp://127.0.0.1:*", "--symbols=EUR*")


class Operated(NamedTuple):
    """A daemon in a process of its own, pumping, with ``own.toml`` as its settings file."""

    process: subprocess.Popen[str]
    query: str

    def line_with(self, words: str) -> str:
        """Return the next line of its log that has ``words``."""
        assert self.process.stderr is not None
        seen = []
        for line in self.process.stderr:
            seen.append(line)
            if words in line:
                return line
        pytest.fail("".join(seen))


@pytest.fixture
def daemon() -> Iterator[Operated]:
    Path("own.toml").write_text('query_endpoint = "tcp://127.0.0.1:*"\n', encoding="utf-8")
    with start("run", *FLAGS[:3], "--config=own.toml") as process:
        try:
            found = Operated(process, "")
            query = found.line_with("queries are answered on").split()[-1]
            found.line_with("session pumping")
            yield Operated(process, query)
        finally:
            process.kill()
            process.communicate()


def test_describe_snapshot_and_replay_of_a_real_daemon(daemon: Operated) -> None:
    code, out, error = finish("describe", "--json", f"--endpoint={daemon.query}")
    assert (code, error) == (0, "")
    kinds = json.loads(out)["kinds"]
    assert kinds["trade"]["durable"]
    assert "open_price" in kinds["trade"]["fields"]

    code, out, error = finish("snapshot", "symbol", "--json", f"--endpoint={daemon.query}")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0, error
    assert rows
    assert all(row["topic"].startswith("symbol.") and row["body"]["snapshot"] for row in rows)

    code, out, error = finish("replay", "--after=0", "--json", f"--endpoint={daemon.query}")
    assert code == 0, error
    offsets = [json.loads(line)["body"]["offset"] for line in out.splitlines()]
    assert offsets == list(range(1, len(offsets) + 1))
    assert f"mt4pump replay: {len(offsets)} events" in error
    code, out, _ = finish("replay", "session.start", "--since=1h", "--limit=1", f"--endpoint={daemon.query}")
    assert (code, out.split()[1]) == (0, "session.start")


def test_a_second_daemon_on_the_folder_is_3_and_names_the_first(daemon: Operated) -> None:
    code, _, error = finish("run", *FLAGS, "--query-endpoint=none")
    assert code == 3
    assert "cannot start: data_dir data is in use by mt4pump " in error
    assert f"pid {daemon.process.pid}, since " in error
    assert "set --data-dir to another folder" in error


def test_a_changed_settings_file_is_applied_and_a_wrong_one_refused(daemon: Operated) -> None:
    settings = 'query_endpoint = "tcp://127.0.0.1:*"\n'
    Path("own.toml").write_text(settings + 'symbols = ["GBP*"]\nrate = 5\n', encoding="utf-8")
    daemon.line_with("reload: taken over: symbols; needs a restart: rate")
    Path("own.toml").write_text(settings + 'symbls = ["GBP*"]\n', encoding="utf-8")
    assert "did you mean symbols?" in daemon.line_with("reload: nothing changed: settings are wrong:")
    assert finish("describe", f"--endpoint={daemon.query}")[0] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
def test_sighup_reloads_and_the_daemon_goes_on(daemon: Operated) -> None:
    daemon.process.send_signal(signal.SIGHUP)
    daemon.line_with("reload: no setting to take over changed")
    assert finish("describe", f"--endpoint={daemon.query}")[0] == 0
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(LIMIT_S) == 0


def test_a_query_that_is_refused_is_code_1() -> None:
    code, out, error = finish("describe", "--endpoint=tcp://127.0.0.1:1", "--timeout=5")
    assert (code, out) == (1, "")
    assert "tcp://127.0.0.1:1: the connection was refused, nothing listens there" in error
    assert "start the daemon (mt4pump run)" in error
