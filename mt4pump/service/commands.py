"""Runs commands, or only shows them."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mt4pump.service.errors import ServiceError

SIGNS = frozenset("&|<>^%")
"""What cmd.exe acts on within a word."""
LIMIT_S = 120.0
"""Longer than NSSM waits for any service."""


class CommandResult(NamedTuple):
    """What a command ended with."""

    code: int
    text: str


Call = Callable[[Sequence[str]], CommandResult]
"""Runs one command to its end. Raises ServiceError when it cannot be run, or does not end."""


def run(command: Sequence[str]) -> CommandResult:
    """Run a command for real."""
    try:
        # Its words into a file: a pipe stays open as long as anything that the command has started.
        with tempfile.TemporaryFile() as words:
            done = subprocess.run(  # noqa: S603 - ours, and a list: no shell reads it
                command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, check=False, timeout=LIMIT_S
            )
            words.seek(0)
            text = decoded(words.read())
    except subprocess.TimeoutExpired as error:
        raise ServiceError(f"{shown(command)} did not end within {LIMIT_S:g} s: look at it in services.msc") from error
    except OSError as error:
        raise ServiceError(f"{shown(command)} cannot be run: {error.strerror or error}") from error
    return CommandResult(done.returncode, text)


def shown(command: Sequence[str]) -> str:
    """Return a command as one would type it into cmd.exe."""
    return " ".join(map(_typed, command))


def _typed(word: str) -> str:
    """Return one word for cmd.exe, which looks for its own signs before the program splits the line.

    Quotes hide them, but for the ``%``, and as long as there are no quotes within: then each sign gets its caret.
    """
    plain = subprocess.list2cmdline([word])
    if not SIGNS & set(word):
        return plain
    if '"' in word or "%" in word:
        return re.sub(r'([&|<>^%()!"])', r"^\1", plain)
    return plain if plain.startswith('"') else f'"{word}{trailing_backslashes(word)}"'


def trailing_backslashes(word: str) -> str:
    """Return the backslashes that ``word`` ends in: before a closing quote they have to be doubled."""
    return word[len(word.rstrip("\\")) :]


def decoded(output: bytes) -> str:
    """Return a program's words on one line; NSSM writes UTF-16 into a pipe, others a code page."""
    text = output.decode("utf-16-le" if b"\0" in output else "utf-8", "replace")
    return " ".join(text.split())
