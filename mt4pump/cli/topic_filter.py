"""Which topics the words of a command line name.

ZeroMQ subscribes by prefix, so that ``trade.100`` also brings ``trade.1001``: received topics are compared as a whole.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from mt4pump.client import ClientError
from mt4pump.client.topic_state import SubscriptionSet, unmatched
from mt4pump.errors import SettingsError
from mt4pump.log import one_line
from mt4pump.settings.validators import CONTROLS, VISIBLE
from mt4pump.wire import HEARTBEAT, KINDS

HEARTBEAT_TOPIC = HEARTBEAT.name
EVERYTHING = "*"
SUFFIXES = CONTROLS | frozenset(VISIBLE)
"""What the daemon's ``topic_suffix`` may be."""


class TopicFilter:
    """Takes words of a command line; raises SettingsError for one that is no text.

    ``quote.EURUSD`` is that topic alone; ``quote.`` and ``quote`` (a kind, which is never a whole topic) are all that
    begin so; ``trade.*``, ``quote.EUR*``, ``quote.??????`` are shell patterns. No word: everything.

    ``names`` are the same as names and patterns of `mt4pump.client`, ``subscriptions`` the prefixes to subscribe to.
    """

    def __init__(self, words: Iterable[str] = ()) -> None:
        self.names = tuple(map(_client_name, words)) or (EVERYTHING,)
        try:
            self._topics = SubscriptionSet(self.names)
        except ClientError as error:
            raise SettingsError(f"settings are wrong:\n  {error}") from error
        self.subscriptions = tuple(sorted(self._topics.subscriptions()))

    def wants(self, topic: str) -> bool:
        """Return whether ``topic`` was requested, with or without the character that may end all topics."""
        return self._topics.is_wanted(topic) or (topic[-1:] in SUFFIXES and self._topics.is_wanted(topic[:-1]))


def requested_topics(command: str, words: Iterable[str]) -> TopicFilter:
    """Return the filter of a command's words; warn on standard error about those that can match nothing."""
    topics = TopicFilter(words)
    for text in unmatched(topics.names):
        print(f"mt4pump {command}: {one_line(text)}", file=sys.stderr)
    return topics


def _client_name(word: str) -> str:
    """Return a word as the client takes it, which knows whole topics and patterns only."""
    if word in KINDS and KINDS[word].key:
        return f"{word}.{EVERYTHING}"
    return word + EVERYTHING if word.endswith(".") or not word else word


def is_heartbeat(topic: str) -> bool:
    """Return whether ``topic`` is the heartbeat's, with or without the character that may end all topics."""
    return topic == HEARTBEAT_TOPIC or (topic[:-1] == HEARTBEAT_TOPIC and topic[-1] in SUFFIXES)
