"""The gateway's fan-out beside two peers that do the same: ``python -m tests.bench.gateway``.

All three get the same quotes at the same pace and serve the same clients in the same run: the gateway, the loop that
one writes first (``gather(client.send(...))`` with the websockets library), and a Node server with ``ws``. What counts
is CPU time of the server process per message that arrived at a client.
"""
