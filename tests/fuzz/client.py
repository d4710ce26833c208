"""Malformed messages, replies and position files against the client: ``python -m tests.fuzz client [BODIES] [SEED]``.

Everything that a daemon says is made wrong in one place or more: fields of a wrong type, absurd, missing, bytes turned
over. The client may answer with ClientError and with notices, with nothing else, and its memory must be flat after the
first third: else the exit code is 1.

Private access: the connection of a query, because answers of the mutator must come without a socket.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack

from mt4pump.cli.arguments import TopicFilter
from mt4pump.cli.format import human_event, json_event
from mt4pump.cli.queries import daemon_table, kind_table, kinds_table
from mt4pump.cli.stream import AlertTracker, StreamStats
from mt4pump.cli.tail import screen
from mt4pump.client import ClientError, Event, Notice, Position, Query
from mt4pump.client.position import PositionFile
from mt4pump.client.query import Ask, QueryError, Reply, unpacked
from mt4pump.errors import FrameError
from tests.client.daemon_model import DaemonModel, Frames
from tests.client.harness import Harness
from tests.fuzz import TENTHS, MemoryByTenth, report_line

NAN, INF = float("nan"), float("inf")
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1.5, -0.0, NAN, INF, -INF, 1e300, -1e300, 5e-324),
    *(2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), "", "x", "9", "\x1b[2J\n", "\u202e", "x" * 5_000),
    *(b"", b"\xff\xfe", b"x" * 70_000, [], [1], [[[]]], [None] * 1_000, {}, {"a": 1}, {"messages": "x"}),
    *({"unstored": -1}, {"messages": [1]}, {"durable": NAN}, {b"\xff": 1}, msgpack.Timestamp(1, 2)),
    msgpack.ExtType(5, b"x"),
)
"""Values that a field should not have; some are right in some fields."""
TOPICS = ("trade.1", "trade.2", "quote.EURUSD", "user.1", "session.start", "news.5", "margin.1", "group.a", "unknown.7")
ROUND = 200
"""Bodies that one client is fed before the next one begins."""


class Mutator:
    """Makes messages wrong; repeatable by its seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - to be repeated

    def map(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return ``body`` with a few fields wrong, missing or new."""
        made, dice = dict(body), self.random
        for _ in range(dice.choice((1, 1, 1, 2, 5))):
            name = dice.choice([*made, "offset", "surplus"])
            match dice.randrange(6):
                case 0:
                    made.pop(name, None)
                case 1 if isinstance(made.get(name), int):
                    made[name] = min(made[name] + dice.choice((-1, 1, -1_000, 1_000, 2**32)), 2**64 - 1)
                case _:
                    made[name] = dice.choice(ODD)
        return made

    def packed(self, body: dict[str, Any]) -> bytes:
        """Return ``body`` packed, made wrong as a map or as bytes."""
        dice = self.random
        try:
            packed: bytes = msgpack.packb(self.map(body) if dice.random() < 0.8 else body)
        except (OverflowError, ValueError):
            packed = msgpack.packb(body)
        if dice.random() < 0.25:
            return self.raw(packed)
        return packed

    def raw(self, packed: bytes) -> bytes:
        """Return ``packed`` with bytes turned over, cut off, repeated, or other bytes."""
        dice, made = self.random, bytearray(packed)
        for _ in range(dice.choice((1, 2, 8))):
            if made:
                made[dice.randrange(len(made))] = dice.randrange(256)
        match dice.randrange(6):
            case 0:
                return bytes(made[: dice.randrange(len(made) + 1)])
            case 1:
                return bytes(made) * 2
            case 2:
                return dice.choice(
                    (b"", b"\xc1", b"\x91" * 3_000, b"\xdd\x00\x00\xea\x60" * 1_000, b"\xdf\xff\xff\xff\xff")
                )
            case _:
                return bytes(made)

    def message(self, frames: Frames) -> Frames:
        """Return an event or a heartbeat made wrong."""
        topic = frames[0] if self.random.random() < 0.9 else self.topic()
        return topic, self.packed(msgpack.unpackb(frames[1]))

    def topic(self) -> bytes:
        """Return an odd topic."""
        return self.random.choice(
            (b"", b"heartbeat", b"heartbeat\x1f", b"heartbeat..", b"\xff\xfe", b"trade.\xff", b"x" * 5_000)
        )

    def reply(self, frames: list[bytes]) -> list[bytes]:
        """Return a reply made wrong: its head, its rows, or their number. Most keep the id, else they are ignored."""
        dice = self.random
        head = msgpack.unpackb(frames[0])
        number, made = head.get("id"), list(frames)
        if dice.random() < 0.7:
            changed = self.map(head)
            if dice.random() < 0.9:
                changed["id"] = number
            if "seqs" in changed and isinstance(changed["seqs"], dict) and changed["seqs"] and dice.random() < 0.3:
                changed["seqs"] = {**changed["seqs"], dice.choice([*changed["seqs"]]): dice.choice(ODD)}
            with suppress(OverflowError, ValueError):  # a number that msgpack has no form for
                made[0] = msgpack.packb(changed)
        elif dice.random() < 0.3:
            made[0] = self.raw(made[0])
        for place in range(2, len(made), 2):
            if dice.random() < 0.1:
                made[place] = self.packed(msgpack.unpackb(frames[place]))
        if dice.random() < 0.1:
            made = made[: dice.randrange(len(made))] if dice.random() < 0.5 else made + made[1:]
        return made


class Run:
    """Feeds one client after the other. ``seen`` counts what came of it."""

    def __init__(self, seed: int) -> None:
        self.mutator = Mutator(seed)
        self.seen: Counter[str] = Counter()
        self.bodies = 0

    def stream(self) -> None:
        """Feed a subscriber's core for a round."""
        dice = self.mutator.random
        handler = Harness(
            "*", resume=dice.choice((None, None, Position(None, 3), Position("log-1", 2, {"trade.1": 3})))
        )
        for number in range(ROUND):
            handler.receive(*self._messages(handler.model, number))
            handler.wait(dice.choice((0.0, 0.1, 0.6, 40.0)))
            for _ in range(3):
                if handler.ask() is not None:
                    self._answer(handler)
            self._look_at(handler)

    def _messages(self, model: DaemonModel, number: int) -> Iterator[Frames]:
        dice = self.mutator.random
        for _ in range(3):
            made = model.event(dice.choice(TOPICS), bid=1.1, ask=1.2, change="opened", order=number, action="add")
            if dice.random() < 0.5:
                self.bodies += 1
                made = self.mutator.message(made)
            if dice.random() < 0.95:
                yield made
        self.bodies += 1
        yield self.mutator.message(model.heartbeat(uptime_s=number / 10)) if dice.random() < 0.5 else model.heartbeat()
        if dice.random() < 0.02:
            model.restart(log=dice.choice((None, "another")))

    def _answer(self, handler: Harness) -> None:
        dice, stream = self.mutator.random, handler.stream
        if dice.random() < 0.05:
            handler.refuse(dice.choice(("timeout", "forbidden", "busy", "bad_request")))
            return
        frames = handler.make_reply()
        self.bodies += 1
        try:
            handler.deliver_reply(self.mutator.reply(frames) if dice.random() < 0.7 else frames)
        except FrameError as error:  # what `QueryConnection.receive` makes of it
            stream.recovery.handle_failure(stream.recovery.number, "bad_reply", str(error), handler.now_s)

    def _look_at(self, handler: Harness) -> None:
        """Do with every item what a program may do."""
        handler.collect()
        for item in handler.items:
            if isinstance(item, Event):
                self.seen["events"] += 1
                assert all(type(number) is int for number in (item.epoch, item.seq, item.ts, item.offset or 0))
                assert repr(item)
            elif isinstance(item, Notice):
                self.seen[item.kind] += 1
                assert len(item.text) < 10_000
        handler.items.clear()
        status = handler.stream.monitor.status(handler.now_s)
        assert type(status.alive) is bool
        if handler.tracker.is_known:
            position = handler.tracker.position(with_current=True)
            assert Position.of(json.loads(json.dumps(position.as_dict()))) == position

    def query(self) -> None:
        """Ask through a connection that answers wrongly."""
        model = DaemonModel()
        for number in range(40):
            model.event(TOPICS[number % len(TOPICS)], order=number)
        model.page_limit = self.mutator.random.choice((1, 3, 1_000))
        with Query("inproc://nobody") as query:
            query.close()
            query._connection = Answers(model, self)  # type: ignore[assignment]  # noqa: SLF001
            for ask in (query.describe, query.snapshot, lambda: list(query.replay(after=0)), query.describe):
                try:
                    made = ask()
                except ClientError as error:
                    self.seen[f"refused: {error.code}"] += 1
                else:
                    self.seen["answers"] += 1
                    self._show(made)

    def _show(self, made: Any) -> None:
        if isinstance(made, dict):
            kinds = made["kinds"]
            assert daemon_table(made)
            assert kinds_table(kinds)
            assert all(kind_table(str(name), about) for name, about in kinds.items() if isinstance(about, dict))

    def received(self) -> None:
        """Feed what ``mt4pump tail`` shows."""
        received, model = StreamStats("tcp://x", TopicFilter(()), 0.0), DaemonModel()
        watch = AlertTracker(received)
        for number in range(ROUND // 4):
            for message in self._messages(model, number):
                event = received.handle(message, number / 10)
                if event is not None:
                    assert "\n" not in human_event(*event)
                    assert json.loads(json_event(*event))
            received.measure(number / 10)
            assert watch.check(number / 10) is not None
            assert received.totals(number / 10)
            assert screen(received, number / 10, 40)
            assert received.without_heartbeat_s(number / 10) <= number / 10

    def positions(self, folder: Path) -> None:
        """Load position files that hold anything."""
        dice, file = self.mutator.random, PositionFile(folder / "a.position")
        right = {"log": "log-1", "confirmed": 5, "ahead": {"trade.1": 7}}
        for _ in range(20):
            text = json.dumps(self.mutator.map(right), default=repr, skipkeys=True)
            content = dice.choice(
                (text.encode("utf-8", "replace"), self.mutator.raw(text.encode()), b"[" * 200_000, b"9" * 9_000)
            )
            file.path.write_bytes(content)
            self.bodies += 1
            try:
                file.load()
            except ClientError as error:
                self.seen[f"refused: {error.code}"] += 1


class Answers:
    """Stands for the connection to the query endpoint."""

    def __init__(self, model: DaemonModel, run: Run) -> None:
        self._ledger = model
        self._run = run
        self._frames: list[bytes] = []

    def send(self, number: int, ask: Ask, _now_s: float) -> None:
        self._frames = self._ledger.answer(msgpack.unpackb(ask.packed(number)))

    def receive(self) -> Reply:
        self._run.bodies += 1
        mutator = self._run.mutator
        try:
            return unpacked(mutator.reply(self._frames) if mutator.random.random() < 0.7 else self._frames)
        except FrameError as error:
            raise QueryError("bad_reply", str(error)) from error

    def reconnect(self) -> None:
        pass

    def close(self) -> None:
        pass


def fuzz(bodies: int, seed: int, folder: Path) -> Run:
    """Feed at least ``bodies`` malformed bodies; raises what the client should not have raised."""
    run = Run(seed)
    while run.bodies < bodies:
        run.stream()
        for _ in range(5):
            run.query()
        run.received()
        run.positions(folder)
    return run


def main(options: list[str]) -> int:
    """Run as long as wanted and print the memory by tenths; return 1 when it grew."""
    bodies = int(options[0]) if options else 100_000
    seed = int(options[1]) if len(options) > 1 else 1
    began_s, memory = time.monotonic(), MemoryByTenth(os.getpid(), TENTHS)
    total, seen = 0, Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for part in range(TENTHS):
            run = fuzz(bodies // TENTHS, seed + part, Path(folder))
            total += run.bodies
            seen += run.seen
            memory.note(part + 1)
    report_line(f"{total} bodies in {time.monotonic() - began_s:.0f} s: {dict(sorted(seen.items()))}")
    report_line(f"nothing but ClientError and notices; {memory.report()}")
    return memory.exit_code()
