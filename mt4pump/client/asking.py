"""Requests to the query endpoint and its replies, as values; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgpack

from mt4pump.errors import ClientError, FrameError
from mt4pump.unpacking import unpack_map
from mt4pump.wire import Body

FRAMES_MAX = 200_001
"""Frames of one reply: a page has at most 10,000 rows, or all rows of one topic."""
REPLY_MAX_BYTES = 64 * 2**20
"""Bytes of one reply: a page ends once it has more than 1 MiB, but a body may have 15 MiB."""
ERROR_MAX_CHARS = 1_000
FOR_GOOD = frozenset({"no_journal", "forbidden", "bad_request", "unknown_op", "too_large"})
"""Refusals that the same request will meet again."""


class Ask(NamedTuple):
    """One request: the ``op`` and its fields."""

    op: str
    fields: Body

    def packed(self, number: int) -> bytes:
        """Return the payload; ``number`` comes back in the reply's head. Raises ClientError (``arguments``)."""
        try:
            payload: bytes = msgpack.packb({"op": self.op, "id": number, **self.fields})
        except (OverflowError, ValueError, TypeError) as error:
            raise ClientError("arguments", f"`{self.op}` cannot be asked with these values: {error}") from error
        return payload


class Reply(NamedTuple):
    """One answer that is ``ok``. ``frames`` are topic, body, and so on."""

    head: Body
    frames: Sequence[bytes]

    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield topic and body."""
        return zip(self.frames[::2], self.frames[1::2], strict=True)


class QueryError(ClientError):
    """The query endpoint refused, or did not answer; ``number`` is the request's, None where not known."""

    def __init__(self, code: str, text: str, number: Any = None) -> None:
        super().__init__(code, text)
        self.number = number


def unpacked(frames: Sequence[bytes]) -> Reply:
    """Return the reply in ``frames``; raises QueryError for a refusal and FrameError for what is no reply."""
    if not frames or len(frames) % 2 == 0:
        raise FrameError(f"a reply has an odd number of frames, this one has {len(frames)}")
    try:
        head = unpack_map(frames[0])
    except FrameError as error:
        raise FrameError(f"the head of a reply: {error}") from error
    if not isinstance(head.get("ok"), bool):
        raise FrameError("the head of a reply is not a map with `ok`")
    if not head["ok"]:
        code, text = str(head.get("code", "unknown")), str(head.get("error", "no reason given"))
        raise QueryError(code[:ERROR_MAX_CHARS], text[:ERROR_MAX_CHARS], head.get("id"))
    return Reply(head, frames[1:])
