"""``python -m tests.consumers.archive.shifted_clock FILE FLAGS...``: the archive with a clock that FILE sets."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path


def main() -> int:
    """Run the archive; FILE has the seconds by which its clock is ahead, and is read each time."""
    file = Path(sys.argv.pop(1))
    real_ns = time.time_ns

    def shifted_ns() -> int:
        with suppress(OSError, ValueError):
            return real_ns() + int(float(file.read_text()) * 1e9)
        return real_ns()

    time.__dict__.update(time_ns=shifted_ns, time=lambda: shifted_ns() / 1e9)
    from mt4pump_consumers.archive.__main__ import run  # noqa: PLC0415 - it sees the other clock from its import on

    return run()


if __name__ == "__main__":
    sys.exit(main())
