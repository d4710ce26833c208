"""Numbers and records of the Manager API."""
