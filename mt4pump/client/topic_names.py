"""Names and patterns of topics that can match nothing, and the nearest right form."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from mt4pump.client.topic_state import WILDCARDS
from mt4pump.wire import KINDS, QUOTE

log = logging.getLogger(__name__)


def right_form(name: str) -> str | None:
    """Return the nearest name or pattern that can match a topic, for one that cannot; None for one that can."""
    end = min((place for wild in WILDCARDS if (place := name.find(wild)) >= 0), default=len(name) + 1)
    kind, dot, key = name.partition(".")
    if end <= len(kind):  # a wildcard in the kind
        return None if any(known.startswith(name[:end]) for known in KINDS) else "*"
    if kind in KINDS:
        has_key = bool(KINDS[kind].key)
        return None if bool(dot) == has_key else f"{kind}.*" if has_key else kind
    import difflib  # noqa: PLC0415 - only for a wrong name

    if near := difflib.get_close_matches(kind.lower(), KINDS, n=1):
        return f"{near[0]}.{key or '*'}" if KINDS[near[0]].key else near[0]
    return None if dot else f"{QUOTE.name}.{name}"  # a dot: perhaps a kind of a later version


def unmatched(names: Iterable[str]) -> list[str]:
    """Return a warning for each name that can match nothing."""
    found = ((name, right_form(name)) for name in names)
    text = "topic {!r} can match nothing that a daemon publishes; did you mean {!r}?"
    return [text.format(name, right) for name, right in found if right is not None]


def warn_of_unmatched(names: Iterable[str]) -> None:
    """Log a warning for each name that can match nothing."""
    for text in unmatched(names):
        log.warning("%s", text)
