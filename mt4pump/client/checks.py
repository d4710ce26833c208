"""Checks what a daemon sends: types and ranges of every field that the client uses; pure.

A daemon may be broken, of another make, or hostile. What does not fit raises FrameError here, so that the code behind
never meets a wrong type, an unbounded number or an unbounded text. Whole numbers fit into signed 64 bits, seconds into
centuries; sizes are those of PROTOCOL 12. Fields that the client does not use are not checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from mt4pump.errors import FrameError
from mt4pump.wire import KINDS, MAIL, NEWS, NUMBER_BITS, NUMBER_MAX, OFFSET, PLUGIN, Body, kind_of, unpack

SECONDS_MAX = 1e10
TEXT_MAX_CHARS = 4_096
"""Longest name, state or reason."""
TOPIC_MAX_BYTES = 1_024
NAMED_BYTES = 64
"""How much of a topic an error names."""
BODY_MAX_BYTES = 4 * 65_536
"""Four times what the daemon promises: a size alone is no reason to lose an event."""
LARGE_BODY_MAX_BYTES = 16 * 2**20
"""Body of a news, a mail or a plugin, and of kinds that this version does not know; also the longest frame."""
SMALL_KINDS = frozenset(KINDS) - {NEWS.name, MAIL.name, PLUGIN.name}

Check = Callable[[object], bool]


def is_count(value: object) -> bool:
    """Return whether ``value`` is a whole number from 0."""
    return value.__class__ is int and 0 <= value <= NUMBER_MAX


def _is_seconds(value: object) -> bool:
    return value.__class__ in {int, float} and math.isfinite(value) and 0 <= value <= SECONDS_MAX


def _is_interval(value: object) -> bool:
    return value.__class__ in {int, float} and math.isfinite(value) and value >= 0


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= TEXT_MAX_CHARS


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_map(value: object) -> bool:
    return isinstance(value, dict)


def _is_seqs(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(topic, str) and len(topic) <= TOPIC_MAX_BYTES and is_count(seq) for topic, seq in value.items()
    )


HEARTBEAT_CHECKS: Mapping[str, Check] = {
    "state": _is_text,
    "reason": _is_text,
    "server": _is_text,
    "version": _is_text,
    "log": _is_text,
    "offset": is_count,
    "durable": _is_flag,
    "uptime_s": _is_seconds,
    "interval_s": _is_interval,
    "last_quote_ts": is_count,
    "journal": _is_map,
    "slow_readers": _is_map,
}
"""Each may be absent or nil: daemons of another version lack some."""
HEAD_CHECKS: Mapping[str, Mapping[str, Check]] = {
    "describe": {"kinds": _is_map, "offset": is_count},
    "snapshot": {"epoch": is_count, "offset": is_count, "ts": is_count, "seqs": _is_seqs},
    "replay": {"whole": _is_flag, "first_available": is_count, "last": is_count},
}
"""What the head of each operation always has."""
OPTIONAL_HEAD_CHECKS: Mapping[str, Mapping[str, Check]] = {
    "describe": {"log": _is_text, "topic_suffix": _is_text},
    "snapshot": {"log": _is_text, "cursor": _is_text},
    "replay": {"epoch": is_count, "log": _is_text, "next": is_count},
}
"""What it has, too, where it may be nil."""


def event_body(topic: bytes, packed: bytes) -> Body:
    """Return the body of an event, live, stored or of a snapshot; raises FrameError for what is none."""
    if len(topic) > TOPIC_MAX_BYTES:
        raise FrameError(f"a topic of {len(topic)} bytes: at most {TOPIC_MAX_BYTES} are accepted")
    if len(packed) > BODY_MAX_BYTES and not _may_be_large(topic, len(packed)):
        raise FrameError(f"the body of {topic[:NAMED_BYTES]!r} has {len(packed)} bytes: too many for its kind")
    try:
        body: Body = unpack(packed)
        epoch, seq, ts, offset = body["epoch"], body["seq"], body["ts"], body.get(OFFSET, 0)
    except FrameError as error:
        raise FrameError(f"the body of {topic[:NAMED_BYTES]!r}: {error}") from error
    except (TypeError, LookupError, AttributeError) as error:
        raise FrameError(f"the body of {topic[:NAMED_BYTES]!r} is not a map with epoch, seq and ts") from error
    # One shift for all four: it leaves something of a negative number, and of one beyond `NUMBER_MAX`.
    if not (epoch.__class__ is seq.__class__ is ts.__class__ is offset.__class__ is int) or (
        (epoch | seq | ts | offset) >> NUMBER_BITS
    ):
        raise FrameError(f"the body of {topic[:NAMED_BYTES]!r} has an impossible epoch, seq, ts or offset")
    return body


def stored_body(topic: bytes, packed: bytes) -> Body:
    """Return the body of an event out of the journal, which has an offset; raises FrameError."""
    body = event_body(topic, packed)
    if not body.get(OFFSET):
        raise FrameError(f"a stored event of {topic[:NAMED_BYTES]!r} has no offset")
    return body


def _may_be_large(topic: bytes, size: int) -> bool:
    return size <= LARGE_BODY_MAX_BYTES and kind_of(topic) not in SMALL_KINDS


def check_heartbeat(body: Body) -> None:
    """Raise FrameError for a heartbeat with an impossible field: it proves nothing."""
    _check(body, HEARTBEAT_CHECKS, "a heartbeat", may_lack=True)
    journal, slow = body.get("journal") or {}, body.get("slow_readers") or {}
    if not (is_count(journal.get("unstored", 0)) and is_count(slow.get("messages", 0))):
        raise FrameError("a heartbeat has counters that are no numbers")


def journal_count(body: Body, name: str) -> int | None:
    """Return a counter of the journal in a checked heartbeat; None where it has none."""
    count = (body.get("journal") or {}).get(name)
    return count if is_count(count) else None


def check_head(operation: str, head: Body) -> None:
    """Raise FrameError for the head of a reply to ``operation`` that lacks a field or has an impossible one."""
    name = f"the head of a reply to {operation}"
    _check(head, HEAD_CHECKS.get(operation, {}), name, may_lack=False)
    for field in OPTIONAL_HEAD_CHECKS.get(operation, {}).keys() - head.keys() - {"topic_suffix", "log", "epoch"}:
        raise FrameError(f"{name} has no {field}")
    _check(head, OPTIONAL_HEAD_CHECKS.get(operation, {}), name, may_lack=True)


def _check(fields: Body, checks: Mapping[str, Check], name: str, *, may_lack: bool) -> None:
    for field, is_right in checks.items():
        value: Any = fields.get(field)
        if not (is_right(value) or (may_lack and value is None)):
            raise FrameError(f"{name} has an impossible {field}")
