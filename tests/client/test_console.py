"""Console events are Windows' own; what they do there is tested under Wine."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mt4pump.client import console_events

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="about the other systems")


def test_elsewhere_nothing_happens() -> None:
    asked: list[int] = []
    with console_events(lambda: asked.append(1)):
        pass
    assert asked == []


def test_elsewhere_the_bridge_is_not_even_loaded() -> None:
    program = """
import sys
from mt4pump.client import console_events
with console_events(lambda: None):
    print(sorted(name for name in sys.modules if name.startswith("mt4pump.bridge")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
