"""``mt4pump-gateway`` and ``python -m mt4pump_consumers.gateway``."""

from __future__ import annotations

import sys

from mt4pump_consumers.starting import libraries


def run() -> int:
    """Run the gateway until it is asked to end; return the exit code."""
    with libraries("mt4pump-gateway"):
        from mt4pump_consumers.frame import run_consumer  # noqa: PLC0415
        from mt4pump_consumers.gateway.server import main  # noqa: PLC0415
        from mt4pump_consumers.gateway.settings import GatewaySettings  # noqa: PLC0415
    return run_consumer(
        GatewaySettings, main, "WebSocket gateway: quotes and events as JSON, and a page to watch them."
    )


if __name__ == "__main__":
    sys.exit(run())
