"""``mt4pump-metrics`` and ``python -m mt4pump_consumers.metrics``."""

from __future__ import annotations

import sys

from mt4pump.process.program import Shutdown, run_consumer
from mt4pump_consumers.metrics.settings import MetricsSettings

DESCRIPTION = (
    "Prometheus exporter: the daemon's state, its counters, and how its stream arrives here.\n\n"
    "  mt4pump-metrics                              http://127.0.0.1:9564/metrics\n"
    "  mt4pump-metrics --symbols 'EURUSD,GBP*'      series of these symbols as well"
)


def run() -> int:
    """Run until asked to end; return the exit code."""
    return run_consumer(MetricsSettings, _main, DESCRIPTION)


def _main(settings: MetricsSettings, shutdown: Shutdown) -> int:
    from mt4pump_consumers.metrics.exporter import main  # noqa: PLC0415 - its libraries may be missing, and --help works

    return main(settings, shutdown)


if __name__ == "__main__":
    sys.exit(run())
