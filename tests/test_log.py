"""Log lines: one per fact, for people or as JSON, and never the end of the program."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from mt4pump.log import StderrHandler, configure
from tests.isolation import logging_put_back

__all__ = ["logging_put_back"]

log = logging.getLogger("mt4pump.bridge.session")
HUMAN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (\w+) +(\S+)  (.*)\n")
Lines = Callable[[], list[str]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """Give what reads the lines logged since the last call."""
    return lambda: capsys.readouterr().err.splitlines(keepends=True)


def one_human(lines: Lines) -> tuple[str, str, str]:
    (line,) = lines()
    match = HUMAN.fullmatch(line)
    assert match, line
    return match[1], match[2], match[3]


def one_json(lines: Lines) -> dict[str, Any]:
    (line,) = lines()
    entry: dict[str, Any] = json.loads(line)
    return entry


def test_a_human_line_has_time_level_short_logger_text_and_fields(lines: Lines) -> None:
    configure()
    log.info("logged in", extra={"login": 5, "server": "mt4.example.com:443", "delay_s": 1.25})
    assert one_human(lines) == (
        "INFO",
        "bridge.session",
        "logged in login=5 server=mt4.example.com:443 delay_s=1.25",
    )


def test_a_json_line_has_the_same_as_keys(lines: Lines) -> None:
    configure(format="json")
    log.warning("lost", extra={"reason": "no ping", "age_s": float("inf"), "login": 5})
    entry = one_json(lines)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("ts"))
    assert entry == {
        "level": "warning",
        "logger": "mt4pump.bridge.session",
        "message": "lost",
        "reason": "no ping",
        "age_s": None,
        "login": 5,
    }


def test_fields_named_like_the_lines_own_keys_do_not_replace_them(lines: Lines) -> None:
    configure(format="json")
    log.info("text", extra={"level": "l", "logger": "g"})
    entry = one_json(lines)
    assert (entry["message"], entry["level"]) == ("text", "info")
    assert (entry["level_"], entry["logger_"]) == ("l", "g")


def test_values_whose_end_could_not_be_seen_are_quoted(lines: Lines) -> None:
    configure()
    log.info("x", extra={"a": "two words", "b": "", "c": 'say "hi"', "d": "k=v"})
    assert one_human(lines)[2] == 'x a="two words" b="" c="say \'hi\'" d="k=v"'


@pytest.mark.parametrize("format_", ["human", "json"])
def test_a_log_line_is_one_line_whatever_text_it_holds(format_: Any, lines: Lines) -> None:
    configure(format=format_)
    log.info("first\nsecond\r\x1b[31m\u2028", extra={"comment": "a\nb\x85c"})
    (line,) = lines()
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line


@pytest.mark.parametrize("format_", ["human", "json"])
def test_a_traceback_stays_in_its_line(format_: Any, lines: Lines) -> None:
    configure(format=format_)
    try:
        int("boom")
    except ValueError:
        log.exception("failed")
    (line,) = lines()
    assert "failed" in line
    assert "ValueError: invalid literal" in line
    assert "\\n" in line


def test_the_level_decides_what_is_logged(lines: Lines) -> None:
    configure("warning")
    log.info("no")
    log.warning("yes")
    assert one_human(lines)[2] == "yes"


def test_configuring_again_replaces_and_does_not_double(lines: Lines) -> None:
    configure("debug", "json")
    configure("info", "human")
    log.debug("no")
    log.info("once")
    assert one_human(lines)[2] == "once"


def test_handlers_of_others_stay() -> None:
    other = logging.NullHandler()
    logging.getLogger().addHandler(other)
    configure()
    assert other in logging.getLogger().handlers


def test_warnings_become_log_lines(lines: Lines) -> None:
    configure()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)  # catch_warnings put the usual way of showing them back
        warnings.warn("old thing", UserWarning, stacklevel=1)
    level, logger, text = one_human(lines)
    assert (level, logger) == ("WARNING", "py.warnings")
    assert "old thing" in text


@pytest.mark.parametrize("format_", ["human", "json"])
def test_secrets_are_blotted_out_however_they_are_spelled(format_: Any, lines: Lines) -> None:
    canary = 'pa"ss\nwörd'
    configure(format=format_, secrets=[canary, "abc"])
    log.info("text %s abc", canary, extra={"field": canary, "deep": {"in": [canary]}})
    (line,) = lines()
    assert line.count("********") == 3
    assert "wörd" not in line
    assert "w\\u00f6rd" not in line
    assert "abc" in line  # too short to be a secret that could be hidden


class Broken(io.StringIO):
    """A stream whose other end is gone."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [None, Broken(), closed()], ids=["none", "broken", "closed"])
def test_a_line_that_cannot_be_written_does_no_harm(stream: object, monkeypatch: pytest.MonkeyPatch) -> None:
    configure()
    monkeypatch.setattr(sys, "stderr", stream)
    log.info("into the void")
    log.info("once more")
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log.info("written again")
    assert stream.getvalue().count("written again") == 1


def test_a_log_call_with_wrong_arguments_is_reported_and_harmless(lines: Lines) -> None:
    configure()
    root = logging.getLogger()
    root.handlers[:] = [each for each in root.handlers if isinstance(each, StderrHandler)]  # pytest's own raises
    log.info("%d things", "no number")
    (line,) = lines()
    assert line.startswith("log line lost: mt4pump.bridge.session:")
