"""The samples in other languages, and the machine-readable contract, each by tools that are not ours."""
