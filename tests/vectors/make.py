"""``python -m tests.vectors.make``: write the vectors anew, one file per kind, beside this one.

A file holds ``protocol``, ``about``, ``epoch`` and ``cases``. A case has ``name``, ``settings`` of the daemon,
``setup`` and ``steps`` (see `tests.vectors.case`), and ``messages``: what the steps publish, each as ``topic`` and
``body`` in hexadecimal, and as ``text`` and ``json``. ``fields`` of a record are what it was packed from, text in the
case's ``encoding``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgpack

from mt4pump.wire import PROTOCOL
from tests.pump.harness import EPOCH
from tests.vectors.case import Case
from tests.vectors.cases import CASES
from tests.vectors.plain import plain
from tests.vectors.rig import Frames, run

FOLDER = Path(__file__).parent


def document(kind: str, cases: list[Case]) -> dict[str, Any]:
    """Return the content of one file."""
    return {"protocol": PROTOCOL, "about": kind, "epoch": EPOCH, "cases": [written(each) for each in cases]}


def written(one: Case) -> dict[str, Any]:
    """Return a case with what it publishes."""
    result = {"name": one.name, "settings": one.settings, "setup": one.setup, "steps": one.steps}
    return {**result, "messages": [message(frames) for frames in run(one)]}


def message(frames: Frames) -> dict[str, Any]:
    """Return a message's bytes, and what they mean."""
    topic, body = frames
    return {"topic": topic.hex(), "body": body.hex(), "text": topic.decode(), "json": plain(msgpack.unpackb(body))}


def text_of(content: dict[str, Any]) -> str:
    """Return a file's text: one line per case, so that a change shows as the cases that it touches."""
    head = {name: value for name, value in content.items() if name != "cases"}
    lines = [json.dumps(each, ensure_ascii=True, allow_nan=False) for each in content["cases"]]
    return json.dumps(head)[:-1] + ', "cases": [\n' + ",\n".join(lines) + "\n]}\n"


def main() -> int:
    """Write every file; return the exit code."""
    total = 0
    for kind, cases in CASES.items():
        (FOLDER / f"{kind}.json").write_text(text_of(document(kind, cases)), encoding="utf-8", newline="\n")
        total += len(cases)
    sys.stdout.write(f"{total} cases in {len(CASES)} files in {FOLDER}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
