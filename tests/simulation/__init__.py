"""A seeded simulation of daemon core, wire and client core, in virtual time; its checks are the promises of PROTOCOL.

`broker` is the MT4 server, `daemon` the daemon's core on an in-memory `journal`, `wire` what drops, repeats and delays,
`reader` the client's core, `checks` the promises, `backend` and `simulation` the steps that a seed draws.
"""
