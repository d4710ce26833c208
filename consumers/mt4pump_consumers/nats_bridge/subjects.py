"""Topics as NATS subjects and back; pure.

A subject equals its topic (``quote.EURUSD``, ``trade.1001``), behind the prefix if one is set. What a subject cannot
hold is written as in a URL, ``%`` and two hexadecimal digits: spaces and control characters, ``*``, ``>``, ``%``
itself, and a dot that would leave a token empty, that is one at the key's start, at its end, or before another dot:
``quote.EURUSD.`` is ``quote.EURUSD%2E``. A dot within a key stays: ``quote.EURUSD.m`` is three tokens, so subscribe
to ``quote.>`` rather than ``quote.*``. An empty key is a single ``%``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote

EMPTY = "%"
"""Stands for a key that is empty; an escape would have two digits behind it."""
ESCAPED = re.compile(r"[\x00-\x20\x7f*>%]|^\.|\.(?=\.|$)")
REMEMBERED = 65_536
SESSION, PING = "session", "session.ping"
DURABLE_SESSION = ("session.start", "session.stop")


@lru_cache(maxsize=REMEMBERED)
def subject_of(topic: str, prefix: str = "") -> str:
    """Return the subject of a topic."""
    kind, dot, key = topic.partition(".")
    subject = _escape(kind) + dot + ((_escape(key) or EMPTY) if dot else "")
    return f"{prefix}.{subject}" if prefix else subject


def topic_of(subject: str, prefix: str = "") -> str:
    """Return the topic of a subject that `subject_of` made with the same prefix."""
    if prefix:
        subject = subject.removeprefix(f"{prefix}.")
    kind, dot, key = subject.partition(".")
    return unquote(kind) + dot + ("" if key == EMPTY else unquote(key))


def stream_subjects(kinds: Iterable[str], prefix: str = "") -> list[str]:
    """Return the subjects that a stream of these durable kinds listens to; ``session.ping`` is not stored."""
    subjects: list[str] = []
    for kind in sorted(kinds):
        subjects += DURABLE_SESSION if kind == SESSION else (f"{kind}.>",)
    return [f"{prefix}.{subject}" if prefix else subject for subject in subjects]


def _escape(text: str) -> str:
    return ESCAPED.sub(lambda found: f"%{ord(found[0]):02X}", text)
