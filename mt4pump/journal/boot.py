"""Which start of the machine this is: only a restart of the machine can take back what a commit has written."""

from __future__ import annotations

from pathlib import Path

import psutil

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
TOLERATED_S = 10.0
"""Where only the time of the start is known it moves a little when the clock is set."""


def boot_identity(boot_id: Path = BOOT_ID) -> str:
    """Return a text that changes when the machine restarts."""
    try:
        return f"id:{boot_id.read_text().strip()}"
    except OSError:
        return f"at:{psutil.boot_time():.0f}"


def same_boot(one: str, other: str) -> bool:
    """Whether both texts name the same start of the machine; in doubt they do not."""
    if one == other:
        return bool(one)
    try:
        times = [float(text.removeprefix("at:")) for text in (one, other) if text.startswith("at:")]
    except ValueError:
        return False
    return len(times) == 2 and abs(times[0] - times[1]) <= TOLERATED_S
