"""``mt4pump-nats`` and ``python -m mt4pump_consumers.nats_bridge``."""

from __future__ import annotations

import sys

from mt4pump_consumers.starting import libraries


def run() -> int:
    """Run the bridge until it is asked to end; return the exit code."""
    with libraries("mt4pump-nats"):
        from mt4pump_consumers.frame import run_consumer  # noqa: PLC0415
        from mt4pump_consumers.nats_bridge.bridge import main  # noqa: PLC0415
        from mt4pump_consumers.nats_bridge.settings import NatsSettings  # noqa: PLC0415
    return run_consumer(
        NatsSettings, main, "NATS bridge: the stream on NATS subjects, what is durable in a JetStream stream."
    )


if __name__ == "__main__":
    sys.exit(run())
