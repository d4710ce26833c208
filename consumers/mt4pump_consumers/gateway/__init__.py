"""WebSocket gateway: the stream as JSON for browsers and programs that do not speak ZeroMQ.

One way through: `feed` (a thread with the subscriber) → `door` → `hub` (conflation, last values) → `cohorts` (who want
the same bytes) → `session` (one client). `requests` is the other direction. `protocol`, `topics`, `conflation` and
`payload` are pure.
"""
