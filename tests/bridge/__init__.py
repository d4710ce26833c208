"""The bridge against the fake vendor library."""
