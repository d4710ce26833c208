"""Which kinds of event go to the journal, as a setting; pure.

Either the whole list, ``trade,user,session``, or changes to the usual one, ``+quote,-mail``.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from mt4pump.settings.values import comma_separated, nearest
from mt4pump.wire import KINDS, QUOTE

USUAL = tuple(kind.name for kind in KINDS.values() if kind.durable)
"""The kinds that must never be lost silently."""
POSSIBLE = (QUOTE.name, *USUAL)
"""Quotes may be kept, too: many events, and each of them is soon replaced by the next."""
SIGNS = ("+", "-")


def durable_word(word: str) -> str:
    """Check one word of the list: a kind, perhaps with a sign before it; in small letters."""
    sign = word[:1] if word.startswith(SIGNS) else ""
    name = word.removeprefix(sign).strip().lower()
    if name in POSSIBLE:
        return sign + name
    if name in KINDS:
        raise ValueError(f"{word!r} is never stored; choose from {', '.join(POSSIBLE)}")
    near = nearest(name, POSSIBLE)
    cure = f"did you mean {sign}{near}?" if near else f"choose from {', '.join(POSSIBLE)}"
    raise ValueError(f"{word!r} is no kind of event; {cure}")


def durable_kinds(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the kinds that checked words select, each once, in the order of the contract."""
    signed = [word for word in words if word.startswith(SIGNS)]
    if not signed:
        return tuple(name for name in POSSIBLE if name in words)
    if len(signed) < len(words):
        plain = next(word for word in words if not word.startswith(SIGNS))
        raise ValueError(
            f"{plain!r} stands beside {signed[0]!r}; write either the whole list, or + and - before every kind"
        )
    added, removed = ({word[1:] for word in signed if word.startswith(sign)} for sign in SIGNS)
    if both := sorted(added & removed):
        raise ValueError(f"{both[0]!r} is both added and left out; write it once")
    return tuple(name for name in POSSIBLE if name in (added | set(USUAL)) - removed)


DurableKinds = Annotated[
    tuple[Annotated[str, AfterValidator(durable_word)], ...],
    BeforeValidator(comma_separated),
    AfterValidator(durable_kinds),
]
