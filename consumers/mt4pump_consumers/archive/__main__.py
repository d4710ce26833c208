"""``mt4pump-archive`` and ``python -m mt4pump_consumers.archive``."""

from __future__ import annotations

import sys

from mt4pump.process.program import Shutdown, run_consumer
from mt4pump_consumers.archive.settings import ArchiveSettings

DESCRIPTION = "Archive: every event in Parquet files, durable ones exactly once."


def run() -> int:
    """Run until asked to end; return the exit code."""
    return run_consumer(ArchiveSettings, _main, DESCRIPTION)


def _main(settings: ArchiveSettings, shutdown: Shutdown) -> int:
    from mt4pump_consumers.archive.archive import main  # noqa: PLC0415 - its libraries may be missing, and --help works

    return main(settings, shutdown)


if __name__ == "__main__":
    sys.exit(run())
