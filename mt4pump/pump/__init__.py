"""From the Manager's callbacks to numbered events on the bus. The files in the order in which the data passes them.

1. `inbox`: the bounded queue between the DLL's thread, which puts records, and the pump thread, which gets them
2. `loop`: the pump thread; gets records and commands, runs the periodic work
3. `session`: the Manager session that handlers read from, and the commands of other threads
4. `quotes`, the hot path: reads, numbers, packs and sends quotes
5. `dispatch`: hands every other record to the handler of its pump code; publishes the session's own events
6. the handlers: `trades`, `tables`, `news_mail`; and what they use: `lifecycle` (record and last record of an order →
   opened, closed, …; the open orders), `table_diff` (a whole table → the rows that changed), `sliced_work` (long
   comparisons in slices)
7. `event_writer`: numbers events, commits durable ones to the journal, publishes
8. `heartbeat` and `snapshot`: the daemon's state, published every second, and handed to the query thread
"""
