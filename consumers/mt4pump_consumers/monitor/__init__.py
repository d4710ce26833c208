"""The trade monitor: executions, exposure, margin calls and the feed on a screen; a store; alerts.

`monitor` reads events, `execution` makes rows of them, `rules` make alerts, `recorder` commits rows, alerts and
the position in the stream to the `store` in one transaction. What goes out (the CSV file, `webhook`, the log) is read
from what was committed, so that a killed monitor neither misses a trade nor sends an alert twice.

The live screen: `tables` has rows and columns, `controls` reads keys and has what they change, `screen` draws them,
`views` shows it.
"""
