"""Tests of keys, clients, permissions, and the authenticator."""
