"""``mt4pump-metrics`` and ``python -m mt4pump_consumers.metrics``."""

from __future__ import annotations

import sys

from mt4pump_consumers.starting import libraries


def run() -> int:
    """Run the exporter until it is asked to end; return the exit code."""
    with libraries("mt4pump-metrics"):
        from mt4pump_consumers.frame import run_consumer  # noqa: PLC0415
        from mt4pump_consumers.metrics.exporter import main  # noqa: PLC0415
        from mt4pump_consumers.metrics.settings import MetricsSettings  # noqa: PLC0415
    return run_consumer(
        MetricsSettings, main, "Prometheus exporter: the daemon's state, its counters, and how its stream arrives here."
    )


if __name__ == "__main__":
    sys.exit(run())
