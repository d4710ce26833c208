"""WebSocket gateway: the stream as JSON for browsers and programs that do not speak ZeroMQ.

Events pass `broadcaster` (the thread with the subscriber, the bridge to the event loop, conflation), which keeps
`last_values`; `subscriber_groups` (clients that want the same bytes); `client_writer` (one client). Requests pass
`connection` (with `http`, `tokens`, `limits`), `session`, `requests`, `replay`. `protocol` and `topics` are pure.
"""
