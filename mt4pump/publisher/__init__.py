"""The XPUB socket, in the order of the files that a subscriber's message passes.

::

    binding        options of a socket, binding it      capacity       file descriptors of the process
    descriptors    one connection and its descriptor    connections    all of them: counted, limited, closed
    received       what connections sent                subscriptions  who subscribed to what, quotas
    slow_readers   what waits for whom                  publisher      sends, reads subscriptions
    faults         a socket with simulated faults of the wire
"""
