"""Tests of mt4pump/contract."""
