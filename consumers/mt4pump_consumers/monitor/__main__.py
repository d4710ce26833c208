"""``mt4pump-monitor`` and ``python -m mt4pump_consumers.monitor``."""

from __future__ import annotations

import sys

from mt4pump.process.program import Shutdown, run_consumer
from mt4pump_consumers.monitor.settings import MonitorSettings

DESCRIPTION = (
    "Trade monitor: executions, exposure, margin calls and the feed on a screen, in a store, and as alerts.\n"
    "--json is short for --view json.\n\n"
    "  mt4pump-monitor                                          a live screen with keys\n"
    "  mt4pump-monitor --json --store trades.sqlite3 > out      JSON lines; a restart goes on where it was"
)


def run() -> int:
    """Run until asked to end; return the exit code."""
    arguments = ["--view=json" if argument == "--json" else argument for argument in sys.argv[1:]]
    return run_consumer(MonitorSettings, _main, DESCRIPTION, arguments)


def _main(settings: MonitorSettings, shutdown: Shutdown) -> int:
    from mt4pump_consumers.monitor.monitor import main  # noqa: PLC0415 - its libraries may be missing, and --help works

    return main(settings, shutdown)


if __name__ == "__main__":
    sys.exit(run())
