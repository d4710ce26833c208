"""Tests of mt4pump/protocol; `python -m tests.protocol` writes the tables of PROTOCOL.md."""
