"""Tests of the query endpoint."""
