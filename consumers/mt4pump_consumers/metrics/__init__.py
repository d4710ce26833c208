"""The Prometheus exporter: the heartbeat's counters, and what one reader of the stream sees, as metrics.

`exporter` reads the stream, and queries which kinds the journal stores; `stream` counts events, `heartbeat` makes
metrics of a heartbeat; `exporter` puts all together at each scrape, `http_server` serves. Metrics of the daemon are
called ``mt4pump_…``, those of this reader ``mt4pump_reader_…``, those of the program itself ``mt4pump_exporter_…``.
"""
