"""Commands as one would type them, from which cmd.exe and the program get the same words; how they are started.

Private access: the start of one command, because the system refuses a start at no fixed moment.
"""

from __future__ import annotations

import errno
import os
import sys

import pytest

from mt4pump.service import windows
from mt4pump.service.plan import ServiceError
from mt4pump.service.windows import CommandResult, shown

WORDS = (
    *("a&b", "a & b", "a^b", "%PATH%", "100%", "a|b", "a<b>c", "a\\", "a&\\", "a b\\", "(x)", "C:\\A&B\\py thon.exe"),
    *(
        '-X utf8 --config "C:\\A & B\\x.toml"',
        'say "hi" & calc',
        '"',
        '"&"',
        "a^&b",
        "",
        "*S-1-5-18:(OI)(CI)F",
        "ends in ^",
    ),
)


def seen_by_cmd(line: str) -> str:
    """Return what cmd.exe hands over; fails where it would act on a sign."""
    out, position, is_quoted = "", 0, False
    while position < len(line):
        sign = line[position]
        if sign == "^" and not is_quoted:
            position += 1
            out += line[position]
        else:
            assert is_quoted or sign not in "&|<>", line[:position]
            assert sign != "%", line[:position]
            is_quoted ^= sign == '"'
            out += sign
        position += 1
    return out


def split(line: str) -> list[str]:
    """Return the words that a program of Windows gets: backslashes count only before a quote."""
    words: list[str] = []
    word, position, is_quoted, is_begun = "", 0, False, False
    while position < len(line):
        count = 0
        while line[position : position + 1] == "\\":
            count, position = count + 1, position + 1
        sign = line[position : position + 1]
        if sign == '"':
            word += "\\" * (count // 2)
            if count % 2:
                word += '"'
            else:
                is_quoted = not is_quoted
            is_begun = True
        else:
            word += "\\" * count
            is_begun |= count > 0
            if sign == " " and not is_quoted:
                words += [word] if is_begun else []
                word, is_begun = "", False
            elif sign:
                word, is_begun = word + sign, True
        position += 1
    return [*words, word] if is_begun else words


@pytest.mark.parametrize("word", WORDS)
def test_a_word_reaches_the_program_as_it_is(word: str) -> None:
    command = ["nssm", "set", word, "Application", word]
    assert split(seen_by_cmd(shown(command))) == command


def test_words_without_signs_are_written_as_ever() -> None:
    assert shown(["icacls", "a b", "/grant:r", "*S-1-5-18:(OI)(CI)F"]) == 'icacls "a b" /grant:r *S-1-5-18:(OI)(CI)F'


class Refusing:
    """A system that refuses to start a command ``times`` times, in place of `windows._run_once`."""

    def __init__(self, error: OSError, times: int) -> None:
        self._error = error
        self._times = times
        self.tries = 0

    def __call__(self, command: list[str]) -> CommandResult:
        self.tries += 1
        if self.tries <= self._times:
            raise self._error
        return CommandResult(0, " ".join(command))


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing between two tries."""
    monkeypatch.setattr(windows, "PAUSE_S", 0.0)


def test_a_command_that_the_system_does_not_start_at_once_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    system = Refusing(OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)), windows.TRIES - 1)
    monkeypatch.setattr(windows, "_run_once", system)
    assert windows.run(["nssm", "status"]) == (0, "nssm status")


@pytest.mark.parametrize(("code", "tries"), [(errno.EAGAIN, windows.TRIES), (errno.ENOENT, 1), (errno.EACCES, 1)])
def test_one_that_is_never_started_is_an_error_and_one_that_is_not_there_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, code: int, tries: int
) -> None:
    system = Refusing(OSError(code, os.strerror(code)), windows.TRIES)
    monkeypatch.setattr(windows, "_run_once", system)
    with pytest.raises(ServiceError, match=f"nssm status cannot be run: {os.strerror(code)}"):
        windows.run(["nssm", "status"])
    assert system.tries == tries


def test_a_command_that_ran_is_not_run_again_whatever_its_exit_code() -> None:
    code = "import sys; print('once'); sys.exit(3)"
    assert windows.run([sys.executable, "-c", code]) == (3, "once")
