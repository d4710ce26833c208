"""``mt4pump-gateway`` and ``python -m mt4pump_consumers.gateway``."""

from __future__ import annotations

import sys

from mt4pump.process.program import Shutdown, run_consumer
from mt4pump_consumers.gateway.settings import GatewaySettings

DESCRIPTION = (
    "WebSocket gateway: quotes and events as JSON, and a page to watch them.\n\n"
    "  mt4pump-gateway --anonymous               quotes for this machine: open http://127.0.0.1:8765/\n"
    "  mt4pump-gateway --tokens tokens.toml      what each token allows"
)


def run() -> int:
    """Run until asked to end; return the exit code."""
    return run_consumer(GatewaySettings, _main, DESCRIPTION)


def _main(settings: GatewaySettings, shutdown: Shutdown) -> int:
    from mt4pump_consumers.gateway.server import main  # noqa: PLC0415 - its libraries may be missing, and --help works

    return main(settings, shutdown)


if __name__ == "__main__":
    sys.exit(run())
