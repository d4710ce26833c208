"""Says what to install when a consumer is started without its libraries; imports none of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

CANNOT_START = 3
OURS = ("mt4pump", "mt4pump_consumers")


@contextmanager
def libraries(program: str) -> Iterator[None]:
    """Import what ``program`` needs within this; a missing library ends it with exit code 3 and what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in OURS:
            raise  # a mistake of our own, which no installation mends
        print(  # noqa: T201 - no log yet
            f"{program}: the library {missing} is not installed; the consumers' libraries come with: "
            "pip install 'mt4pump[consumers]'",
            file=sys.stderr,
        )
        raise SystemExit(CANNOT_START) from None
