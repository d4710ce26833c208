"""What every consumer has around it: settings, log, stop.

A consumer is a class of settings and a function ``main(settings, ending) -> exit code``::

    class GatewaySettings(ConsumerSettings):
        model_config = settings_config("gateway")
        port: int = Field(default=8765, ge=1, le=65535, description="port to serve on")


    def main(settings: GatewaySettings, ending: Ending) -> int: ...


    if __name__ == "__main__":
        sys.exit(run_consumer(GatewaySettings, main, "WebSocket gateway: ..."))

Settings come from flags, ``MT4PUMP_GATEWAY_*`` in the environment, and ``mt4pump-gateway.toml`` in the working folder
(or ``--config FILE``), in this order. A name that is not known stops the program. Exit codes: 0 clean stop, 2 settings
wrong, 3 cannot start, 1 anything else.
"""

from mt4pump_consumers.frame.running import CannotStart, run_consumer
from mt4pump_consumers.frame.settings import ConsumerSettings, settings_config
from mt4pump_consumers.frame.shutdown import Shutdown

__all__ = ["CannotStart", "ConsumerSettings", "Shutdown", "run_consumer", "settings_config"]
