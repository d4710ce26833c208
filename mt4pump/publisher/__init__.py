"""The XPUB socket: subscriptions, connections and their limits, binding, and simulated wire faults."""
