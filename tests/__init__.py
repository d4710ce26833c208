"""Tests of mt4pump; folders and names mirror the package."""
