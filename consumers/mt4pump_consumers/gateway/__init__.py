"""WebSocket gateway: the stream as JSON for browsers and programs that do not speak ZeroMQ.

Events pass `feed` (a thread with the subscriber, and the bridge to the event loop), `broadcaster` (conflation,
`last_values`), `subscriber_groups` (clients that want the same bytes), `client_writer` (one client). Requests pass
`connection` (with `http`, `tokens`, `limits`), `session`, `requests`, `replay`. `protocol` and `topics` are pure.
"""
