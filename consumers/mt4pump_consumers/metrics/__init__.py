"""The Prometheus exporter: the heartbeat's counters, and what one reader of the stream sees, as metrics.

`mirror` turns a heartbeat into metrics, `tally` counts the stream, `symbols` counts it per symbol where asked to,
`collector` puts them together at each scrape, `feed` reads, `server` serves. Metrics of the daemon are called
``mt4pump_…``, those of this reader ``mt4pump_reader_…``, those of the program itself ``mt4pump_exporter_…``.
"""
