"""``mt4pump demo``: a simulated market with all that belongs to it, each part a child process on a leash.

`parts` says what is started and where it is found, `leash` runs in each child and ends it when the demo is gone,
`child` starts, watches and ends one, `stage` all of them.
"""
