"""What can go wrong with a service."""

from __future__ import annotations

from mt4pump.errors import PumpError


class ServiceError(PumpError):
    """A service cannot be installed, started, stopped or removed; the text says what NSSM said and what to do."""


class NssmMissingError(ServiceError):
    """NSSM is not there."""
