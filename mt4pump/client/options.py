"""How a stream behaves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """The arguments of `Subscriber` that its core needs. ``query``: there is an endpoint to ask."""

    query: bool = True
    snapshot: bool = True
    heal: bool = True
    heal_timeout_s: float = 30.0
    hold_limit: int = 100_000
