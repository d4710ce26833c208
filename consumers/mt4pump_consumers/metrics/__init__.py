"""The Prometheus exporter: the heartbeat's counters, and what one reader of the stream sees, as metrics.

`heartbeat` turns a heartbeat into metrics, `stream` counts events, `durable_kinds` asks which kinds the journal stores,
`exporter` reads the stream and puts all together at each scrape, `http_server` serves. Metrics of the daemon are called
``mt4pump_…``, those of this reader ``mt4pump_reader_…``, those of the program itself ``mt4pump_exporter_…``.
"""
