"""The trade monitor: executions, exposure, margin calls and the feed on a screen; a store; alerts.

The stream goes one way: `monitor` reads events, `execution` makes rows of them, `judge` (rules in, alerts out) decides,
and `store` commits rows, alerts and the position in the stream in one transaction. What goes out (`csv_file`,
`webhook`, the log) is taken from what was committed, so that a killed monitor neither misses a trade nor tells an alert
twice.
"""
