"""The query endpoint: what a reader asks for, and gets, beside the stream (describe, snapshot, replay).

::

    server    the thread and its ROUTER socket: frames in, frames out
    envelope  frames → who asks, payload          requests   payload → typed request, or why not
    peers     connections, and which are closed   turns      requests that wait, and which is next
    answers   request → reply                     replies    heads, and bodies of snapshots
    snapshots cuts held for paging, their pages   replays    pages of stored events
    pace      work in short stretches             options    sizes and times
"""

from mt4pump.query.limits import QueryOptions, YieldToPump
from mt4pump.query.server import QueryServer

__all__ = ["QueryOptions", "QueryServer", "YieldToPump"]
