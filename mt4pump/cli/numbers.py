"""Numbers that commands take as flags; pure. Raises what argparse turns into a message and code 2."""

from __future__ import annotations

import argparse

PORT_MAX = 65_535


def seconds(text: str) -> float:
    """Return a flag's seconds."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return found


def count(text: str) -> int:
    """Return a flag's count."""
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def port(text: str) -> int:
    """Return a flag's port."""
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= PORT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to {PORT_MAX}")
    return int(text)
