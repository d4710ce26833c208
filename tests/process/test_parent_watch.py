"""A child ends when its parent closes the pipe, with or without its cooperation."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

LIMIT_S = 30.0
ROOT = Path(__file__).parents[2]
ENDS = """
import time
try:
    print("here", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    print("asked", flush=True)
"""
IGNORES = """
import signal, time
signal.signal(signal.SIGINT, lambda *_: print("asked", flush=True))
print("here", flush=True)
while True:
    time.sleep(0.05)
"""


@contextmanager
def watched(folder: Path, program: str, grace_s: float = 8.0) -> Iterator[subprocess.Popen[str]]:
    """Run ``program`` as a module that watches its parent."""
    (folder / "led.py").write_text(program)
    begin = (
        f"import sys; from mt4pump.process import signals; signals.GRACE_S = {grace_s}; "
        "sys.argv = ['', 'led']; signals.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", begin],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.mark.parametrize(("program", "grace_s", "code"), [(ENDS, 8.0, 0), (IGNORES, 2.0, 1)], ids=["ends", "ignores"])
def test_a_program_is_asked_to_end_as_by_ctrl_c_and_ended_if_it_does_not(
    program: str, grace_s: float, code: int, tmp_path: Path
) -> None:
    with watched(tmp_path, program, grace_s) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.stdin.close()
        assert process.stdout.readline() == "asked\n"
        assert process.wait(LIMIT_S) == code


def test_a_program_that_ends_by_itself_is_not_held(tmp_path: Path) -> None:
    with watched(tmp_path, "raise SystemExit(7)") as process:
        assert process.wait(LIMIT_S) == 7
