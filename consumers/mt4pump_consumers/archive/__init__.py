"""The archive: every event in Parquet files or a PostgreSQL database, durable ones exactly once.

`archive` reads the stream → `writer` makes batches (`columns`, `gaps`) → a `store` commits them: `parquet_store` to a
`folder`, whose files `compaction` joins, or `postgresql_store` to `postgresql_tables`. `reading` has the commands that
query files, `importing` reads tick files. Position and data are one commit, so the archive may be killed at any moment.
"""
