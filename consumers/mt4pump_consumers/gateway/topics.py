"""Names and patterns of topics: what a client asks for, and what its token allows; pure.

Patterns are the shell's (``trade.*``, ``quote.???JPY``). A topic is always compared whole, so ``trade.100`` never lets
``trade.1001`` through.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import translate
from functools import lru_cache

from mt4pump.client.topic_state import is_pattern, literal_start

NAME_LIMIT = 200
"""Longest name or pattern, in characters."""
STARS_LIMIT = 4
"""Most ``*`` in a pattern: each one more multiplies the work of comparing."""
CHECKED_LIMIT = 10
"""Topics of a request, or of a token, that are checked for names which can match nothing."""
ALL = "*"


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

    __slots__ = ("_selection", "patterns", "whole")

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(dict.fromkeys(patterns))
        self.whole = ALL in self.patterns
        # It holds what is compiled: patterns of clients push it out of the cache.
        self._selection = TopicSelection(self.patterns)

    def covers(self, topic: str) -> bool:
        """Return whether an event on ``topic`` may be seen."""
        return self.whole or topic in self._selection

    def touches(self, asked: str) -> bool:
        """Return whether ``asked`` could give anything at all; what it gives is checked topic by topic."""
        if not is_pattern(asked):
            return self.covers(asked)
        return any(_may_overlap(asked, pattern) for pattern in self.patterns)


def _may_overlap(one: str, other: str) -> bool:
    """Return False only when no topic can match the pattern ``one`` and ``other``; their beginnings must agree."""
    if not is_pattern(other):
        return bool(matcher(one)(other))
    first, second = literal_start(one), literal_start(other)
    return first.startswith(second) or second.startswith(first)
