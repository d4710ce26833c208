"""Names and patterns of topics: what a client asks for, and what its token allows; pure.

Patterns are the shell's (``trade.*``, ``quote.???JPY``). A topic is always compared whole, so ``trade.100`` never lets
``trade.1001`` through.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import translate
from functools import lru_cache

WILD = "*?["
NAME_LIMIT = 200
"""Longest name or pattern, in characters."""
STARS_LIMIT = 4
"""Most ``*`` in a pattern: each one more multiplies the work of comparing."""
CHECKED_LIMIT = 10
"""Topics of a request, or of a token, that are checked for names which can match nothing."""
ALL = "*"


def is_pattern(name: str) -> bool:
    """Return whether ``name`` has a wildcard in it."""
    return any(mark in name for mark in WILD)


def is_name(value: object) -> bool:
    """Return whether ``value`` may stand for topics or symbols at all."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= NAME_LIMIT
        and value.isprintable()
        and value.count("*") <= STARS_LIMIT
    )


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))


def matches(pattern: str, topic: str) -> bool:
    """Return whether ``topic`` is ``pattern``, or is meant by it."""
    return pattern == topic or (is_pattern(pattern) and _compiled(pattern).match(topic) is not None)


def matcher(pattern: str) -> Callable[[str], object]:
    """Return a function that matches names with ``pattern``."""
    if is_prefix(pattern):
        start = pattern[:-1]
        return lambda name: name.startswith(start)
    return _compiled(pattern).match


def is_prefix(pattern: str) -> bool:
    """Return whether ``pattern`` is a plain beginning, as most are: nothing has to be compiled for it."""
    return pattern.endswith(ALL) and not is_pattern(pattern[:-1])


class TopicSelection:
    """Names and patterns together, for those who ask of many topics which are meant."""

    __slots__ = ("_names", "_patterns")

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._patterns = [matcher(name) for name in self._names if is_pattern(name)]

    def __contains__(self, topic: str) -> bool:
        return topic in self._names or any(match(topic) for match in self._patterns)


class Allowed:
    """The topics that a token lets its owner see."""

    __slots__ = ("_wish", "patterns", "whole")

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(dict.fromkeys(patterns))
        self.whole = ALL in self.patterns
        self._wish = TopicSelection(
            self.patterns
        )  # holds what is compiled: patterns of clients push it out of the cache

    def covers(self, topic: str) -> bool:
        """Return whether an event on ``topic`` may be seen."""
        return self.whole or topic in self._wish

    def touches(self, asked: str) -> bool:
        """Return whether ``asked`` could give anything at all; what it gives is checked topic by topic."""
        if not is_pattern(asked):
            return self.covers(asked)
        return any(_may_overlap(asked, pattern) for pattern in self.patterns)


def _may_overlap(one: str, other: str) -> bool:
    """Return False only when no topic can match both; their literal beginnings must agree."""
    if not is_pattern(other):
        return matches(one, other)
    first, second = _literal(one), _literal(other)
    return first.startswith(second) or second.startswith(first)


def _literal(pattern: str) -> str:
    end = min(place for mark in WILD if (place := pattern.find(mark)) >= 0)
    return pattern[:end]
