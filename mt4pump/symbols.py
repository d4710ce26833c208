"""Which symbols the settings select; pure."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase


class SymbolFilter:
    """Patterns in the shell's way (``EUR*``, ``??JPY``, ``[!X]*``); one that begins with ``!`` excludes.

    A symbol is selected when a pattern includes it and none excludes it; excludes alone leave all the others in.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = [pattern.strip() for pattern in patterns]
        self._excluded = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
        self._included = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]

    def selects(self, symbol: str) -> bool:
        """Return whether quotes of ``symbol`` are wanted."""
        if any(fnmatchcase(symbol, pattern) for pattern in self._excluded):
            return False
        return any(fnmatchcase(symbol, pattern) for pattern in self._included)
