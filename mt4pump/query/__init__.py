"""The query endpoint: answers describe, snapshot and replay requests beside the stream.

::

    server       the thread and its ROUTER socket
    connections  who is connected, their queued requests and unread replies, whose request is next
    requests     frames → envelope and payload → typed request, or the error to reply
    handlers     request → reply, also to describe; snapshots: snapshots kept for paging
    limits       options, and long work in short slices
"""

from mt4pump.query.handlers import QuerySources
from mt4pump.query.limits import QueryOptions, YieldToPump
from mt4pump.query.server import QueryServer

__all__ = ["QueryOptions", "QueryServer", "QuerySources", "YieldToPump"]
