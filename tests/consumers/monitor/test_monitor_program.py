"""The whole program beside a real daemon: lines for pipes, restarts of the daemon, silence, ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.processes import free_endpoints
from tests.consumers.monitor.monitor_run import LIMIT_S, Truth, daemon, end, kept, monitor, receiver, until
from tests.programs import Program

RULES = '[[rule]]\nname = "{name}"\nwhen = "{when}"\n{rest}\n'


def rules_file(folder: Path, name: str, when: str, rest: str) -> Path:
    """Write a file with one rule."""
    path = folder / "rules.toml"
    path.write_text(RULES.format(name=name, when=when, rest=rest))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def test_json_lines_have_executions_with_lots_and_end_with_their_reader(tmp_path: Path, data: Path) -> None:
    with daemon(data, "--rate", "2000") as feed:
        command = [sys.executable, "-c", "from mt4pump_consumers.monitor.__main__ import run; raise SystemExit(run())"]
        command += ["--json", "--endpoint", feed.pub, "--query-endpoint", feed.query]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        ) as process:
            assert process.stdout is not None
            found: list[dict[str, Any]] = []
            while len(found) < 5:
                line = json.loads(process.stdout.readline())
                found += [line] if line["type"] == "execution" else []
            process.stdout.close()
            assert process.wait(LIMIT_S) == 0
            assert process.stderr is not None
            assert "Traceback" not in process.stderr.read()
    for line in found:
        assert line["lots"] == line["volume"] / 100
        assert line["change"] in {"opened", "activated", "closed", "deleted"}
        assert line["offset"] > 0


def test_a_reader_that_does_not_read_does_not_keep_it_from_ending(tmp_path: Path, data: Path) -> None:
    fcntl = pytest.importorskip("fcntl", reason="Windows cannot show whether a pipe is full")
    termios = pytest.importorskip("termios")
    with daemon(data, "--rate", "5000") as feed:
        command = [sys.executable, "-m", "mt4pump_consumers.monitor", "--view", "json", "--start", "journal"]
        command += ["--endpoint", feed.pub, "--query-endpoint", feed.query]
        read, write = os.pipe()
        capacity = fcntl.fcntl(read, 1032)  # F_GETPIPE_SZ
        with subprocess.Popen(command, stdout=write, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
            os.close(write)

            def waiting() -> int:
                number = fcntl.ioctl(read, termios.FIONREAD, bytes(4))
                return int.from_bytes(number, sys.byteorder)

            until(lambda: waiting() > capacity - 8_192, "the pipe never was full")
            process.terminate()
            assert process.wait(LIMIT_S) == 0
        os.close(read)


def test_it_lives_through_the_daemons_death_and_misses_nothing(tmp_path: Path, data: Path) -> None:
    store, rules = tmp_path / "s.db", rules_file(tmp_path, "big", "volume", "lots = 5")
    pub, query = free_endpoints()
    with daemon(data, "--rate", "2000", pub=pub, query=query) as feed:
        flags = ("--endpoint", pub, "--query-endpoint", query, "--view", "json", "--start", "journal")
        with monitor(*flags, "--store", store, "--rules", rules, cwd=tmp_path) as running:
            for _ in range(20):
                running.line('"type": "execution"')
            feed.program.process.kill()
            feed.program.process.wait()
            running.line('"kind": "disconnected"')
            with daemon(data, "--rate", "2000", pub=pub, query=query) as again:
                running.line('"kind": "restarted"')
                goal = again.last_offset() + 50
                running.line("the daemon is asked anew for what is open")
                until(lambda: again.last_offset() >= goal, "the new daemon publishes nothing")
                until(lambda: _runs_seen(running) == 2, "never came to the new run")
                end(running)
                executions, position = kept(store)
                truth = Truth(query, position, rules)
    assert {(done.epoch, done.topic, done.seq): done for done in executions} == truth.executions
    assert len({done.epoch for done in executions}) == 2


def _runs_seen(running: Program) -> int:
    """Read on; return of how many runs of the daemon executions were seen."""
    running.line('"type": "execution"')
    return len({json.loads(line)["epoch"] for line in running.lines if '"type": "execution"' in line})


def test_a_dead_daemon_is_an_alert_and_so_is_its_return(tmp_path: Path, data: Path) -> None:
    rules = rules_file(tmp_path, "silence", "feed_silent", 'seconds = 1.5\nof = "daemon"\nseverity = "critical"')
    pub, query = free_endpoints()
    with receiver() as hook, daemon(data, pub=pub, query=query) as feed:
        flags = ("--endpoint", pub, "--query-endpoint", query, "--view", "log", "--webhook", hook.url)
        with monitor(*flags, "--store", tmp_path / "s.db", "--rules", rules, cwd=tmp_path) as running:
            running.line("connected to the daemon")
            feed.program.process.kill()
            assert "mt4pump: nothing for" in running.line("[silence]")
            feed.program.process.wait()
            with daemon(data, pub=pub, query=query):
                assert "mt4pump: there again" in running.line("[silence]")
                until(lambda: len(hook.bodies) == 2, "the webhook was not called")
                end(running)
        assert hook.url not in running.text
        assert "SECRET" not in running.text
    assert [(body["status"], body["severity"], body["subject"]) for body in hook.bodies] == [
        ("firing", "critical", "feed"),
        ("resolved", "critical", "feed"),
    ]


def test_without_a_daemon_it_waits_and_ends_cleanly(tmp_path: Path) -> None:
    with monitor("--endpoint", "tcp://127.0.0.1:1", "--silence-s", "0.5", cwd=tmp_path) as running:
        running.line("silent: no heartbeat")
        end(running)


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("--rules", "rules.toml"), 2, "need a store, which remembers"),
        (("--rules", "none.toml", "--store", "s.db"), 2, "there is no file none.toml"),
        (("--webhook", "https://example.com/x"), 2, "webhook (flag --webhook): is for alerts"),
        (("--webhook", "ftp://example.com/x"), 2, "give a whole address"),
        (
            ("--rules", "rules.toml", "--store", "s.db", "--webhook", "http://10.0.0.1/", "--webhook-token", "t"),
            2,
            "plain text",
        ),
        (("--changes", "open"), 2, "there is no change open"),
        (("--store", "none/s.db"), 3, "there is no folder none"),
        (("--csv", "none/t.csv"), 3, "csv: none/t.csv cannot be written"),
        (("--keys", "none.key"), 3, "keys: "),
    ],
)
def test_wrong_settings_are_named_and_end_it(tmp_path: Path, flags: tuple[str, ...], code: int, words: str) -> None:
    rules_file(tmp_path, "big", "volume", "lots = 5")
    with monitor(*flags, cwd=tmp_path) as running:
        assert running.end() == code, running.text
    assert words in running.text
    assert "Traceback" not in running.text
