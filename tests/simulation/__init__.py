"""A seeded simulation of daemon core, wire and client core: one thread, virtual time, the promises of PROTOCOL as checks.

`broker` is the MT4 server, `daemon` the daemon's core on an in-memory `journal`, `wire` what loses, repeats and delays,
`reader` the client's core, `checks` the promises, `world` the steps that a seed draws.
"""
