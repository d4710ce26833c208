"""Commands as one would type them: cmd.exe and the program behind it get the same words out of the line."""

from __future__ import annotations

import pytest

from mt4pump.service.nssm import shown

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
