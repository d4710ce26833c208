"""A recorded run of the simulator, every message of it checked against the schemas.

``RECORDED_MESSAGES=720000`` records what an hour at the default rate brings; without it, a few minutes of that.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import msgpack
import pytest

from mt4pump.contract.json_schema import body_schema
from mt4pump.recording import Recording
from mt4pump.wire import KINDS, kind_of
from tests.cli.commands import start
from tests.samples.daemons import simulated

jsonschema = pytest.importorskip("jsonschema", reason="PyPI jsonschema is not installed (extra: test)")

MESSAGES = int(os.environ.get("RECORDED_MESSAGES", "30000"))
EVERY_QUOTE_OF = 10
"""Quotes are all alike, and checking one takes longer than publishing a hundred: one in so many is checked."""
FAULTS = "drop@1+7,null@2+5:3,skip@3+5:3,burst@4+6:50"


@pytest.mark.timeout(120 + MESSAGES // 500)
def test_a_recorded_run_fits_the_schemas(tmp_path: Path) -> None:
    file = tmp_path / "run.rec.gz"
    flags = ("--accounts", "200", "--faults", FAULTS, "--reconnect-delay-s", "0.2", "--heartbeat-interval-s", "0.2")
    daemon = simulated(tmp_path, *flags, "--user-fields", "name,email", rate="4000")
    with daemon as (events, _, _), recording(file, events) as recorder:
        _, notes = recorder.communicate(timeout=100 + MESSAGES // 500)
    assert recorder.returncode == 0, notes
    assert "missed 0 in 0 gaps" in notes
    checked = check(file)
    assert {"quote", "trade", "user", "online", "session", "heartbeat", "symbol", "group"} <= checked.keys()


def recording(file: Path, events: str) -> subprocess.Popen[str]:
    """Start a recorder."""
    return start("record", str(file), "--count", str(MESSAGES), "--endpoint", events)


def check(file: Path) -> Counter[str]:
    """Validate the bodies of a recording; return how many of each kind."""
    validators: dict[str, Any] = {kind: jsonschema.Draft202012Validator(body_schema(kind)) for kind in KINDS}
    seen: Counter[str] = Counter()
    with Recording(file) as recording:
        for taken in recording:
            topic, body = taken.frames
            kind = kind_of(topic)
            seen[kind] += 1
            if kind != "quote" or not seen[kind] % EVERY_QUOTE_OF:
                validators[kind].validate(msgpack.unpackb(body))
        assert recording.problem == ""
    assert seen.total() == MESSAGES
    return seen
