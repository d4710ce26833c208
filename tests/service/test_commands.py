"""Commands that fail to run say which and why; words come through whatever they are encoded in."""

from __future__ import annotations

import sys

import pytest

from mt4pump.service import commands
from mt4pump.service.errors import ServiceError


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-8"])
def test_words_are_one_line_in_either_encoding(encoding: str) -> None:
    assert commands.decoded(" SERVICE_RUNNING\r\n now\r\n".encode(encoding)) == "SERVICE_RUNNING now"


def test_exit_code_and_both_outputs_are_the_answer() -> None:
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(7)"
    assert commands.run([sys.executable, "-c", code]) == commands.Answer(7, "out err")


def test_program_that_is_missing_is_named() -> None:
    with pytest.raises(ServiceError, match="no-such-program stop x cannot be run"):
        commands.run(["no-such-program", "stop", "x"])


def test_program_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "LIMIT_S", 0.2)
    with pytest.raises(ServiceError, match=r"did not end within 0\.2 s"):
        commands.run([sys.executable, "-c", "import threading; threading.Event().wait()"])
