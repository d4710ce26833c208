"""Which topics a reader asked for; pure.

ZeroMQ subscribes by prefix, so that ``trade.100`` also brings ``trade.1001``: what arrives is compared as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate

from mt4pump.errors import SettingsError
from mt4pump.settings.validators import CONTROLS, VISIBLE
from mt4pump.wire import HEARTBEAT, KINDS

WILDCARD = re.compile(r"[*?\[]")
HEARTBEAT_TOPIC = HEARTBEAT.name
EVERYTHING = "*"
SUFFIXES = CONTROLS | frozenset(VISIBLE)
"""What the daemon's ``topic_suffix`` may be; never empty, as the end of an empty topic is."""


class TopicFilter:
    """Takes words of a command line; raises SettingsError for one that is no text.

    ``quote.EURUSD`` is that topic alone; ``quote.`` and ``quote`` (a kind, which is never a whole topic) are all that
    begin so; ``trade.*``, ``quote.EUR*``, ``quote.??????`` are patterns in the shell's way. No word at all: everything.

    ``subscriptions`` are the prefixes to subscribe to, ``names`` the same as names and patterns for `mt4pump.client`.
    """

    def __init__(self, words: Iterable[str] = ()) -> None:
        self._exact: set[str] = set()
        self._prefixes: tuple[str, ...] = ()
        self._patterns: list[re.Pattern[str]] = []
        words = tuple(map(_text, words))
        subscriptions = {self._subscription(word) for word in words}
        if not subscriptions:
            self._prefixes = ("",)
            subscriptions = {""}
        self.subscriptions = tuple(sorted(each.encode() for each in subscriptions))
        self.names = tuple(self._name(word) for word in words) or (EVERYTHING,)

    def _subscription(self, word: str) -> str:
        """Take one word and return the prefix to subscribe for it."""
        if wildcard := WILDCARD.search(word):
            self._patterns.append(re.compile(translate(word)))
            return word[: wildcard.start()]
        if word in KINDS and KINDS[word].key:
            word += "."
        if word.endswith(".") or not word:
            self._prefixes += (word,)
        else:
            self._exact.add(word)
        return word

    @staticmethod
    def _name(word: str) -> str:
        """Return one word as the client takes it, which knows whole topics and patterns only."""
        if word in KINDS and KINDS[word].key:
            return f"{word}.{EVERYTHING}"
        return word + EVERYTHING if word.endswith(".") or not word else word

    def wants(self, topic: str) -> bool:
        """Return whether ``topic`` was asked for, with or without the character that may end all topics."""
        return self._matches(topic) or (topic[-1:] in SUFFIXES and self._matches(topic[:-1]))

    def _matches(self, topic: str) -> bool:
        return (
            topic in self._exact
            or topic.startswith(self._prefixes)
            or any(pattern.match(topic) for pattern in self._patterns)
        )


def _text(word: str) -> str:
    """Return ``word``; raises SettingsError when its bytes are not UTF-8, as all topics are."""
    try:
        word.encode()
    except UnicodeEncodeError as error:
        raise SettingsError(f"settings are wrong:\n  topic: {word!r} is not UTF-8 text") from error
    return word


def is_heartbeat(topic: str) -> bool:
    """Return whether ``topic`` is the heartbeat's, with or without the character that may end all topics."""
    return topic == HEARTBEAT_TOPIC or (topic[:-1] == HEARTBEAT_TOPIC and topic[-1] in SUFFIXES)


def connectable(endpoint: str) -> str:
    """Return where a subscriber on this machine connects to reach what is bound at ``endpoint``."""
    for wildcard, loopback in (("tcp://*:", "tcp://127.0.0.1:"), ("tcp://0.0.0.0:", "tcp://127.0.0.1:")):
        if endpoint.startswith(wildcard):
            return endpoint.replace(wildcard, loopback, 1)
    return endpoint.replace("tcp://[::]:", "tcp://[::1]:", 1)
