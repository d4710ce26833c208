"""``mt4pump-nats`` and ``python -m mt4pump_consumers.nats_bridge``."""

from __future__ import annotations

import sys

from mt4pump.process.program import Shutdown, run_consumer
from mt4pump_consumers.nats_bridge.settings import NatsSettings

DESCRIPTION = (
    "NATS bridge: the stream on NATS subjects, what is durable in a JetStream stream.\n\n"
    "  mt4pump-nats --servers nats://127.0.0.1:4222"
)


def run() -> int:
    """Run until asked to end; return the exit code."""
    return run_consumer(NatsSettings, _main, DESCRIPTION)


def _main(settings: NatsSettings, shutdown: Shutdown) -> int:
    from mt4pump_consumers.nats_bridge.bridge import main  # noqa: PLC0415 - its libraries may be missing, and --help works

    return main(settings, shutdown)


if __name__ == "__main__":
    sys.exit(run())
