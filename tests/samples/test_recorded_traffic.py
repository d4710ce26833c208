"""A recorded run of the simulator, every message of it checked against the schemas.

``RECORDED_MESSAGES=720000`` is an hour of the default traffic, 200 quotes a second; without it, some minutes of that.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import msgpack
import pytest

from mt4pump.protocol.documents import message_schemas
from mt4pump.recording import Recording
from mt4pump.wire import KINDS, kind_of
from tests.cli.commands import start
from tests.samples.daemons import simulated

jsonschema = pytest.importorskip("jsonschema", reason="PyPI jsonschema is not installed (extra: test)")
fastjsonschema = pytest.importorskip("fastjsonschema", reason="PyPI fastjsonschema is not installed (extra: test)")

MESSAGES = int(os.environ.get("RECORDED_MESSAGES", "30000"))
RATE = 4000
RECORD_LIMIT_S = 100 + MESSAGES // 2400
CHECK_LIMIT_S = 100 + MESSAGES // 4000
FAULTS = "drop@1+7,null@2+5:3,skip@3+5:3,burst@4+6:50"
RECONNECT = ("--reconnect-delay-s", "0.2", "--reconnect-delay-max-s", "1")
"""A session that lived as long as the longest delay resets the delay. At the default, 60 s, a server that drops each
after 7 s is soon tried once a minute: the daemon then waits most of the time, and nothing flows."""
REFEREE_OF = 500
"""A compiled validator checks every body; `jsonschema`, much slower, one in so many, and the first of each kind."""


@pytest.mark.timeout(RECORD_LIMIT_S + CHECK_LIMIT_S)
def test_a_recorded_run_fits_the_schemas(tmp_path: Path) -> None:
    file = tmp_path / "run.rec.gz"
    flags = ("--accounts", "200", "--faults", FAULTS, *RECONNECT, "--heartbeat-interval-s", "0.2")
    daemon = simulated(tmp_path, *flags, "--user-fields", "name,email", rate=str(RATE))
    with daemon as (events, _, _), recording(file, events) as recorder:
        _, notes = recorder.communicate(timeout=RECORD_LIMIT_S)
    assert recorder.returncode == 0, notes
    assert "missed 0 in 0 gaps" in notes
    checked = check(file)
    print(f"{notes.strip()}; checked {dict(checked)}")  # noqa: T201 - figures: pytest -rP
    assert {"quote", "trade", "user", "online", "session", "heartbeat", "symbol", "group"} <= checked.keys()


def recording(file: Path, events: str) -> subprocess.Popen[str]:
    """Start a recorder."""
    return start("record", str(file), "--count", str(MESSAGES), "--endpoint", events)


def check(file: Path) -> Counter[str]:
    """Validate every body of a recording; return how many of each kind there were."""
    schemas = message_schemas()
    quick = {kind: fastjsonschema.compile(schemas[f"body.{kind}"]) for kind in KINDS}
    referees: dict[str, Any] = {kind: jsonschema.Draft202012Validator(schemas[f"body.{kind}"]) for kind in KINDS}
    seen: Counter[str] = Counter()
    with Recording(file) as recording:
        for taken in recording:
            topic, packed = taken.frames
            kind, body = kind_of(topic), msgpack.unpackb(packed)
            quick[kind](body)
            if seen[kind] % REFEREE_OF == 0:
                referees[kind].validate(body)
            seen[kind] += 1
        assert recording.problem == ""
    assert seen.total() == MESSAGES
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_the_compiled_validator_refuses_what_the_slow_one_refuses(kind: str) -> None:
    schema = message_schemas()[f"body.{kind}"]
    quick, referee = fastjsonschema.compile(schema), jsonschema.Draft202012Validator(schema)
    spoiled: Any
    for spoiled in ({}, {"snapshot": True}, {"epoch": 1, "seq": "1", "ts": 1}, [], None):
        assert not referee.is_valid(spoiled)
        with pytest.raises(fastjsonschema.JsonSchemaException):
            quick(spoiled)
