"""``mt4pump-monitor`` and ``python -m mt4pump_consumers.monitor``."""

from __future__ import annotations

import sys

from mt4pump_consumers.starting import libraries

TEXT = (
    "Trade monitor: executions, exposure, margin calls and the feed on a screen, in a store, and as alerts. "
    "--json is short for --view json."
)


def run() -> int:
    """Run the monitor until it is asked to end; return the exit code."""
    with libraries("mt4pump-monitor"):
        from mt4pump_consumers.frame import run_consumer  # noqa: PLC0415
        from mt4pump_consumers.monitor.monitor import main  # noqa: PLC0415
        from mt4pump_consumers.monitor.settings import MonitorSettings  # noqa: PLC0415
    arguments = ["--view=json" if argument == "--json" else argument for argument in sys.argv[1:]]
    return run_consumer(MonitorSettings, main, TEXT, arguments)


if __name__ == "__main__":
    sys.exit(run())
