"""A Manager without a DLL: a seeded market or a tick file, traders, and faults on demand."""
