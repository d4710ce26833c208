"""Benchmarks with callbacks from native threads; run by hand: ``python -m tests.bench``."""
