"""Events at a rate, by absolute deadlines: a late one is followed at once by the next, so the mean rate holds."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator


def paced(count: int, rate: float) -> Iterator[int]:
    """Yield 0 … count-1 at ``rate`` per second (inf: without waiting). Sleeps; never spins on the interpreter."""
    if math.isinf(rate):
        yield from range(count)
        return
    began_s = time.perf_counter()
    for number in range(count):
        wait_s = began_s + number / rate - time.perf_counter()
        if wait_s > 0:
            time.sleep(wait_s)
        yield number
