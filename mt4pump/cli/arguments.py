"""Flags that commands share, the values that they take, and the addresses and topics that they name.

ZeroMQ subscribes by prefix, so that ``trade.100`` also brings ``trade.1001``: received topics are compared as a whole.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import zmq

from mt4pump.cli import report
from mt4pump.client import ClientError, ClientKeys, Query
from mt4pump.client.connection_fault import TRIAL_S, query_address, with_reason
from mt4pump.client.topic_state import SubscriptionSet, unmatched
from mt4pump.errors import PumpError, SettingsError
from mt4pump.process.endpoints import PORT_MAX, endpoint_host
from mt4pump.process.values import none_or_text
from mt4pump.settings import setting_as_written
from mt4pump.settings.validators import ANY_PORT, SUFFIXES
from mt4pump.settings.validators import endpoint as checked_endpoint
from mt4pump.wire import HEARTBEAT, KINDS

OFFSET_MAX = 10**18 - 1
TIMEOUT_S = 5.0

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
AGE_PART = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([smhdw])\s*"
DAY_AND_CLOCK = re.compile(r"(today|yesterday)?\s*(?:([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?)?")
TIME_EXAMPLE = (
    "write 10m, 2h or 1d12h for so long ago, or a time as 2026-11-23T11:00 (local), …T11:00Z (UTC), 11:00 (today) "
    "or yesterday"
)


def speed(text: str) -> float:
    """Return a flag's speed; ``max`` is infinite."""
    return math.inf if text.strip().lower() == "max" else _positive(text, "a number above 0; write a number, or max")


def _positive(text: str, wanted: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return found


seconds = partial(_positive, wanted="a number of seconds above 0")


def _whole(text: str, low: int, high: int, wanted: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return int(text)


count = partial(_whole, low=1, high=OFFSET_MAX, wanted="a whole number of at least 1")
offset = partial(_whole, low=0, high=OFFSET_MAX, wanted="a whole number of at least 0")
port = partial(_whole, low=1, high=PORT_MAX, wanted=f"a port from 1 to {PORT_MAX}")


def time_ns(text: str, now: datetime | None = None) -> int:
    """Return a flag's time as ns since 1970. ``now`` is aware and gives the local zone; if None, the machine does."""
    try:
        found = _moment(text.strip(), now or datetime.now(UTC).astimezone())
    except (ValueError, OSError):  # OSError: Windows, for a local time that its library cannot place
        raise argparse.ArgumentTypeError(f"{text!r} is no time; {TIME_EXAMPLE}") from None
    except OverflowError:
        found = EPOCH - timedelta(days=1)
    # In whole microseconds: a float of seconds cannot hold them.
    since = (found - EPOCH) // timedelta(microseconds=1)
    if since < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is before 1970; {TIME_EXAMPLE}")
    return since * 1000


def _moment(written: str, now: datetime) -> datetime:
    if re.fullmatch(f"(?:{AGE_PART})+", written):
        return now - timedelta(seconds=sum(float(n) * UNITS_S[unit] for n, unit in re.findall(AGE_PART, written)))
    if written and (found := DAY_AND_CLOCK.fullmatch(written)):
        hour, minute, second = (int(found[part] or 0) for part in (2, 3, 4))
        day = now - timedelta(days=found[1] == "yesterday")
        # astimezone: by the rules of that day, in summer those of summer
        return day.replace(hour=hour, minute=minute, second=second, microsecond=0, tzinfo=None).astimezone()
    moment = datetime.fromisoformat(written)
    return moment if moment.tzinfo else moment.astimezone()


def add_keys_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--keys``."""
    text = "keys of a client, where the daemon requires them (mt4pump keygen)"
    parser.add_argument("--keys", type=Path, metavar="FILE", help=text)


def add_stream_flags(parser: argparse.ArgumentParser, counted: str) -> None:
    """Add what tail and record share: address, keys, and when to end; ``counted`` is what ``--count`` counts."""
    where = "address that the daemon publishes on [its pub_endpoint, as MT4PUMP_PUB_ENDPOINT has it]"
    parser.add_argument("--endpoint", metavar="ADDRESS", help=where)
    text = f"end after N {counted}; code 1 if --for comes first"
    parser.add_argument("--count", type=count, default=math.inf, metavar="N", help=text)
    text = "end after so many seconds"
    parser.add_argument("--for", type=seconds, default=math.inf, metavar="SECONDS", dest="for_s", help=text)
    add_keys_flag(parser)


def add_query_flags(parser: argparse.ArgumentParser) -> None:
    """Add the query endpoint, the keys and the timeout."""
    where = "address that the daemon publishes on; it answers queries on the next port [its query_endpoint]"
    parser.add_argument("--endpoint", metavar="ADDRESS", help=where)
    where = "address that answers queries, where it is another [as MT4PUMP_QUERY_ENDPOINT has it]"
    parser.add_argument("--query-endpoint", metavar="ADDRESS", help=where)
    add_keys_flag(parser)
    text = f"longest wait for one answer (default {TIMEOUT_S:g})"
    parser.add_argument("--timeout", type=seconds, default=TIMEOUT_S, metavar="SECONDS", dest="timeout_s", help=text)


@contextmanager
def open_query(args: argparse.Namespace) -> Iterator[Query]:
    """Yield a query connection to the daemon that the flags name; raises ClientError that says who refused."""
    flag = "--query-endpoint" if args.query_endpoint else "--endpoint"
    endpoint = endpoint_of(args.query_endpoint or args.endpoint, "query_endpoint", flag)
    keys, limit_s = keys_in(args.keys), min(TRIAL_S, args.timeout_s)
    may_publish = bool(args.endpoint and not args.query_endpoint)
    endpoint, fault, text = query_address(endpoint, keys, limit_s, or_next_port=may_publish)
    with with_reason(fault, text), Query(endpoint, keys, args.timeout_s, warn=False) as query:  # the command warns
        yield query


def keys_in(path: Path | None) -> ClientKeys | None:
    """Return the keys of the file; raises SettingsError when it cannot be used."""
    if path is None:
        return None
    try:
        return ClientKeys.load(path.expanduser())
    except (PumpError, OSError, ValueError, RuntimeError) as error:
        raise wrong_setting("--keys", str(error)) from error


def endpoint_of(given: str | None, setting: str = "pub_endpoint", flag: str = "--endpoint") -> str:
    """Return the address to connect to: the flag's, else the daemon's by the settings of this machine.

    Raises SettingsError when it is none, or has no fixed port.
    """
    written = none_or_text(given or setting_as_written(setting))
    name = flag if given else setting
    if written is None:
        raise wrong_setting(name, "is none: this daemon answers no queries; set it, or --endpoint to another daemon's")
    endpoint = connectable(valid_endpoint(str(written), name))
    if endpoint_host(endpoint) is not None and endpoint.rpartition(":")[2] in ANY_PORT:
        at_start = "set --endpoint to the address that the daemon logged at its start"
        raise wrong_setting(name, f"{written!r} has no fixed port; {at_start}")
    return endpoint


def valid_endpoint(text: str, name: str) -> str:
    """Return an address in ZeroMQ's form; raises SettingsError that says which flag or setting has a wrong one."""
    try:
        return checked_endpoint(text)
    except ValueError as error:
        raise wrong_setting(name, str(error)) from error


def connectable(endpoint: str) -> str:
    """Return the address at which this machine reaches a socket bound to ``endpoint``."""
    return re.sub(r"^tcp://(\*|0\.0\.0\.0):", "tcp://127.0.0.1:", endpoint).replace("tcp://[::]:", "tcp://[::1]:", 1)


def bind_error(endpoint: str, *, ipv6: bool = False) -> zmq.ZMQError | None:
    """Bind ``endpoint`` for a moment; return the error, None when it is free."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as probe:
        probe.setsockopt(zmq.LINGER, 0)
        probe.setsockopt(zmq.IPV6, int(ipv6))
        try:
            probe.bind(endpoint)
        except zmq.ZMQError as error:
            return error
    return None


def wrong_setting(name: str, problem: str) -> SettingsError:
    """Return the error of one setting or flag."""
    return SettingsError(f"settings are wrong:\n  {name}: {problem}")


HEARTBEAT_TOPIC = HEARTBEAT.name
EVERYTHING = "*"


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
        report(command, text)
    return topics


def _client_name(word: str) -> str:
    """Return a word as the client takes it, which knows whole topics and patterns only."""
    if word in KINDS and KINDS[word].key:
        return f"{word}.{EVERYTHING}"
    return word + EVERYTHING if word.endswith(".") or not word else word


def is_heartbeat(topic: str) -> bool:
    """Return whether ``topic`` is the heartbeat's, with or without the character that may end all topics."""
    return topic == HEARTBEAT_TOPIC or (topic[:-1] == HEARTBEAT_TOPIC and topic[-1] in SUFFIXES)
