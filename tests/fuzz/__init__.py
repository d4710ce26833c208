"""Long fuzz runs: one file per target, each with ``main(arguments)``; see `__main__`. The suite holds bounded forms."""
