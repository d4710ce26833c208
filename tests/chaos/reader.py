"""``python -m tests.chaos.reader JSON``: one subscriber that stores all it receives, and resumes from that.

It ends by itself, with code 0, once everything up to the goal (a file that the parent writes at the end) was received.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import zmq

from mt4pump.client import AsyncSubscriber, Event, Notice, Position, Subscriber
from mt4pump.client.subscriber import BaseSubscriber
from tests.chaos.record import Recorder

CHECK_S = 0.2
FLUSH_S = 0.05
TINY_BUFFER_BYTES = 8_192
SLOW_EVERY, SLOW_S = 200, 0.05
TINY_HWM, USUAL_HWM = 10, 100_000
QUERY_TIMEOUT_S, HEAL_TIMEOUT_S = 20.0, 600.0
"""A busy machine must not have a reader give up the query endpoint: that ends what this run checks."""
ITERATE, RECEIVE, ASYNC = "iterate", "receive", "async"


class Goal:
    """Where the run ends: ``{"log", "offset", "epoch", "seqs"}``, once the file is there."""

    def __init__(self, path: Path, topics: list[str]) -> None:
        self._path = path
        self._topics = topics
        self._goal: dict[str, Any] | None = None
        self._check_at_s = 0.0
        self.reached = False

    def check(self, position: Callable[[], Position | None], recorder: Recorder) -> bool:
        """Return whether everything up to the goal was received; it checks now and then."""
        now_s = time.monotonic()
        if now_s < self._check_at_s:
            return False
        self._check_at_s = now_s + CHECK_S
        if self._goal is None:
            if not self._path.exists():
                return False
            self._goal = json.loads(self._path.read_text())
        self.reached = self._is_reached(self._goal, position(), recorder)
        return self.reached

    def _is_reached(self, goal: dict[str, Any], position: Position | None, recorder: Recorder) -> bool:
        if position is None or position.log != goal["log"] or position.confirmed < goal["offset"]:
            return False
        for topic, seq in goal["seqs"].items():
            if topic.startswith("quote.") and any(fnmatchcase(topic, wanted) for wanted in self._topics):
                epoch, number = recorder.reached.get(topic, (0, 0))
                if epoch != goal["epoch"] or number < seq:
                    return False
        return True


class ItemRecorder:
    """Records what comes, in whichever manner it is read."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._recorder = Recorder(Path(plan["file"]))
        self._goal = Goal(Path(plan["goal"]), plan["topics"])
        self._slow = plan["slow"]
        self._count = 0
        self._flush_at_s = 0.0
        self._plan = plan

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of this subscriber."""
        plan = self._plan
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        if plan["tiny"]:
            context.setsockopt(zmq.RCVBUF, TINY_BUFFER_BYTES)  # else the system's buffers hide a tiny high-water mark
        stored = self._recorder.position
        return {
            "endpoint": plan["endpoint"],
            "query_endpoint": plan["query_endpoint"],
            "topics": [*plan["topics"], "heartbeat"],
            "resume_from": stored if stored is not None else plan["resume_from"],
            "notices": True,
            "rcvhwm": TINY_HWM if plan["tiny"] else USUAL_HWM,
            "query_timeout_s": QUERY_TIMEOUT_S,
            "heal_timeout_s": HEAL_TIMEOUT_S,
            "context": context,
        }

    def record(self, item: Event | Notice | None, sub: BaseSubscriber) -> bool:
        """Record one item, None for none; return whether the goal is reached."""
        if item is not None:
            self._recorder.add(item, sub.status.epoch)
            self._count += 1
            if self._slow and not self._count % SLOW_EVERY:
                time.sleep(SLOW_S)
        if self._recorder.is_due or time.monotonic() >= self._flush_at_s:
            self._recorder.write(sub)
            self._flush_at_s = time.monotonic() + FLUSH_S
        if self._goal.check(lambda: sub.position, self._recorder):
            self._recorder.write(sub)
            return True
        return False


def read(recorder: ItemRecorder, *, by_receive: bool) -> BaseSubscriber:
    """Read as a plain thread, by the loop or by `Subscriber.receive`."""
    with Subscriber(**recorder.arguments()) as sub:
        if by_receive:
            while not recorder.record(sub.receive(FLUSH_S), sub):
                pass
        else:
            for item in sub:
                if recorder.record(item, sub):
                    break
    return sub


async def read_async(recorder: ItemRecorder) -> BaseSubscriber:
    """Read with asyncio."""
    async with AsyncSubscriber(**recorder.arguments()) as sub:
        async for item in sub:
            if recorder.record(item, sub):
                break
    return sub


def main(text: str) -> int:
    """Read until the goal is reached."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    plan = json.loads(text)
    recorder = ItemRecorder(plan)
    mode = plan["mode"]
    sub = asyncio.run(read_async(recorder)) if mode == ASYNC else read(recorder, by_receive=mode == RECEIVE)
    sys.stdout.write(json.dumps(dict(sub.counts)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
