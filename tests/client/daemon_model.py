"""A daemon in memory: numbers, journal, last values, replies. No socket: the fakes are built on it."""

from __future__ import annotations

import time
from typing import Any

import msgpack

from mt4pump.wire import KINDS

Frames = tuple[bytes, bytes]


class DaemonModel:
    """``published`` is every event ever, in order, as (topic, body).

    ``stored`` is False while the journal fails, ``opened`` as long as this run's file could not be opened.
    """

    def __init__(self, suffix: str = "") -> None:
        self.suffix = suffix
        self.epoch = 1_000
        self.log: str | None = "log-1"
        self.journal: list[tuple[int, bytes, bytes]] = []
        self.last_offset = 0
        self.first_offset = 1
        self.unstored_after: list[int] = []
        self.stored = True
        self.opened = True
        self.seqs: dict[bytes, int] = {}
        self.values: dict[bytes, dict[str, Any]] = {}
        self.published: list[tuple[str, dict[str, Any]]] = []
        self.dropped = 0
        self.state = "pumping"
        self.page_limit = 10_000
        self.ts = time.time_ns()

    def event(self, topic: str, **fields: Any) -> Frames:
        """Number, store and pack one event."""
        kind, _, key = topic.partition(".")
        wire = f"{topic}{self.suffix}".encode()
        body = {**fields, "epoch": self.epoch, "seq": self._next(wire), "ts": self._now()}
        if kind == "quote":
            body.setdefault("symbol", key)
            self.values[wire] = body
        if KINDS[kind].durable and self.log is not None:
            if self.stored and self.opened:
                self.last_offset += 1
                body["offset"] = self.last_offset
                self.journal.append((self.last_offset, wire, msgpack.packb(body)))
            else:
                self.unstored_after.append(self.last_offset)
        self.published.append((topic, body))
        return wire, msgpack.packb(body)

    def heartbeat(self, **fields: Any) -> Frames:
        """Return a heartbeat."""
        wire = f"heartbeat{self.suffix}".encode()
        body = {
            "state": self.state,
            "interval_s": 0.1,
            "server": "fake:443",
            "version": "0",
            "log": self._log(),
            "offset": self._offset(),
            "durable": self.stored and self.opened and self.log is not None,
            "journal": {"unstored": len(self.unstored_after)},
            "slow_readers": {"messages": self.dropped, "moments": 0, "last_ts": 0},
            "last_quote_ts": self.ts,
            **fields,
            "epoch": self.epoch,
            "seq": self._next(wire),
            "ts": self._now(),
        }
        return wire, msgpack.packb(body)

    def restart(self, *, log: str | None = None, opened: bool = True) -> None:
        """Begin another run; ``log`` names a new, empty journal."""
        self.epoch += 1_000
        self.opened = opened
        self.seqs.clear()
        self.values.clear()
        if log is not None:
            self.log, self.journal, self.last_offset = log, [], 0

    def lose_end(self, offset: int) -> None:
        """Begin another run with an older copy of the journal, which ends at ``offset``."""
        self.journal = [entry for entry in self.journal if entry[0] <= offset]
        self.last_offset = offset
        self.restart()

    def delete_up_to(self, offset: int) -> None:
        """Retention."""
        self.journal = [entry for entry in self.journal if entry[0] > offset]
        self.first_offset = offset + 1

    def answer(self, request: dict[str, Any]) -> list[bytes]:
        """Return the frames of the reply."""
        op = request.get("op")
        known = {"describe": self._describe, "snapshot": self._snapshot, "replay": self.replay}
        if op not in known:
            return self._head(request, {"ok": False, "code": "unknown_op", "error": f"no op {op!r}"})
        if op == "replay" and self.log is None:
            return self._head(request, {"ok": False, "code": "no_journal", "error": "there is no journal"})
        if op == "replay" and not self.opened:
            return self._head(request, {"ok": False, "code": "journal_error", "error": "it cannot be opened"})
        head, frames = known[op](request)
        return [*self._head(request, {"ok": True, "epoch": self.epoch, "log": self._log(), **head}), *frames]

    def _log(self) -> str | None:
        return self.log if self.opened or self.log is None else ""

    def _offset(self) -> int:
        return self.last_offset if self.opened else 0

    def _head(self, request: dict[str, Any], head: dict[str, Any]) -> list[bytes]:
        return [msgpack.packb({**head, "id": request.get("id")})]

    def _describe(self, _request: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        kinds = {name: {"durable": kind.durable} for name, kind in KINDS.items()}
        return {"offset": self._offset(), "topic_suffix": self.suffix, "kinds": kinds, "protocol": 1}, []

    def _snapshot(self, request: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        prefixes = tuple(_bytes(prefix) for prefix in request.get("topics") or [b""])
        topics = sorted(topic for topic in self.seqs if topic.startswith(prefixes))
        cursor = request.get("cursor") or ""
        start = int(cursor) if cursor.isascii() and cursor.isdigit() else 0
        end = min(start + self.page_limit, len(topics))
        frames = []
        for topic in topics[start:end]:
            if topic in self.values and request.get("values", True):
                frames += [topic, msgpack.packb({**self.values[topic], "snapshot": True})]
        seqs = {topic.decode(): self.seqs[topic] for topic in topics[start:end]}
        cursor = str(end) if end < len(topics) else None
        return {"offset": self._offset(), "ts": self._now(), "seqs": seqs, "cursor": cursor}, frames

    def replay(self, request: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        prefixes = tuple(_bytes(prefix) for prefix in request.get("topics") or [b""])
        after, to = request.get("after", 0), request.get("to")
        limit = min(request.get("limit", self.page_limit), self.page_limit)
        reach = self.last_offset if to is None else min(to, self.last_offset)
        scanned = [entry for entry in self.journal if after < entry[0] <= reach][:limit]
        end = scanned[-1][0] if scanned else reach
        frames = [part for _, topic, body in scanned if topic.startswith(prefixes) for part in (topic, body)]
        head = {
            "whole": after + 1 >= self.first_offset and not any(after <= gone <= end for gone in self.unstored_after),
            "first_available": self.first_offset,
            "next": end if scanned and end < reach else None,
            "last": self.last_offset,
            "count": len(frames) // 2,
        }
        return head, frames

    def _next(self, wire: bytes) -> int:
        self.seqs[wire] = self.seqs.get(wire, 0) + 1
        return self.seqs[wire]

    def _now(self) -> int:
        self.ts = max(self.ts + 1, time.time_ns())
        return self.ts


def daemon_with(*topics: str) -> DaemonModel:
    """Return a model in whose journal these came first."""
    model = DaemonModel()
    for topic in topics:
        model.event(topic)
    return model


def _bytes(prefix: str | bytes) -> bytes:
    return prefix.encode() if isinstance(prefix, str) else prefix
