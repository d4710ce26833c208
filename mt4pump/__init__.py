"""mt4pump: MetaTrader 4 Manager API pump to ZeroMQ."""

__version__ = "0.1.0"
