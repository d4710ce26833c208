"""The archive: every event in Parquet files, durable ones exactly once.

`archive` reads the stream → `writer` makes batches (`columns`, `gaps`) → `folder` commits them → `compaction` joins
files and deletes old days. `reading` has the commands that query, `importing` reads tick files. Position and data are
one commit, so the archive may be killed at any moment.
"""
