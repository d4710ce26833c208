"""Topic prefixes as a condition that SQLite checks itself, without a call back into Python; pure."""

from __future__ import annotations

from collections.abc import Iterable


def successor(prefix: bytes) -> bytes | None:
    """Return the smallest bytes behind all that begin with ``prefix``; None when there are none (only 0xff)."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


def minimal(prefixes: Iterable[bytes]) -> list[bytes]:
    """Return the prefixes without those that a shorter one covers; [] when all topics are meant."""
    kept: list[bytes] = []
    for prefix in sorted(set(prefixes)):
        if not prefix:
            return []
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return kept


def condition(prefixes: list[bytes]) -> tuple[str, list[bytes]]:
    """Return an SQL condition on ``topic`` (empty when all are meant) and its values, for `minimal` prefixes."""
    terms: list[str] = []
    values: list[bytes] = []
    for prefix in prefixes:
        end = successor(prefix)
        terms.append("topic >= ?" if end is None else "(topic >= ? AND topic < ?)")
        values += [prefix] if end is None else [prefix, end]
    return " OR ".join(terms), values
