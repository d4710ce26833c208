"""The archive: every event in Parquet files, a PostgreSQL or a ClickHouse database, durable ones exactly once.

`archive` reads the stream → `writer` makes batches (`columns`, `gaps`, `journals`) → a `store` commits them:
`parquet_store` to a `folder`, whose files it joins later, `postgresql_store` to `postgresql_tables`, or
`clickhouse_store` to `clickhouse_tables` over `clickhouse_http` (`database` has what both do). `commands` has the flags
of the commands: `reading` those that query files, `importing` the one that reads tick files. What is committed has its
position, so the archive may be killed at any moment.
"""
