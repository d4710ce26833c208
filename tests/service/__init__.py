"""Tests of mt4pump.service."""
