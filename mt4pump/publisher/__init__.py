"""The way out: the XPUB socket, who is connected to it and listens to what, and faults of the wire on demand."""
