"""As many connections as the system has file descriptors for, and what is done while none is left.

While none is left libzmq tries to accept a waiting connection again and again, at the cost of a processor, and nothing
of ours can open a file. So connections are limited below the system's limit, and should none be left all the same,
those that sent nothing yet are closed.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from mt4pump.log import FaultCounters
from mt4pump.publisher.connections import Connections

if sys.platform != "win32":
    import resource

WANTED = 8_192
"""Descriptors that the process asks the system for; it gets at most its hard limit."""
RESERVE = 16
"""Descriptors kept for the journal, logs and whatever else opens a file meanwhile."""
CHECK_INTERVAL_S = 0.1
LEAST_CONNECTIONS = 2

log = logging.getLogger(__name__)


def raise_limit() -> int | None:
    """Raise the process's limit of descriptors as far as is useful and allowed; return it, None where there is none."""
    if sys.platform == "win32":
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if wanted > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:  # macOS has another limit beside this one
            log.debug("the limit of file descriptors stays at %d: %s", soft, error)
        else:
            soft = wanted
    return soft


def limit_connections(both: Sequence[Connections], limit: int | None) -> None:
    """Make ``both`` accept no more connections than a process that is set up can have with ``limit`` descriptors."""
    if limit is None:
        return
    try:
        lowest_free = _open_probe()
    except OSError:
        lowest_free = sys.maxsize
    wanted = sum(each.limits.total for each in both)
    found = max(LEAST_CONNECTIONS, min(wanted, limit - lowest_free - RESERVE))
    if found >= wanted:
        return
    for each in both:
        total = max(1, found * each.limits.total // wanted)
        each.limits = replace(each.limits, total=total, per_client=min(each.limits.per_client, total))
    log.warning(
        "at most %d connections: the system gives this process %d file descriptors; raise LimitNOFILE or ulimit -n",
        *(found, limit),
    )


class DescriptorGuard:
    """Closes connections that sent nothing yet while no descriptor is left; checked often, by one thread."""

    def __init__(self, both: Sequence[Connections], fault_counters: FaultCounters) -> None:
        self._both = both
        self._fault_counters = fault_counters
        self._check_at_s = 0.0

    def check(self) -> None:
        """Check whether a descriptor is left, a few times a second."""
        now_s = time.monotonic()
        if now_s < self._check_at_s:
            return
        self._check_at_s = now_s + CHECK_INTERVAL_S
        try:
            _open_probe()
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE}:
                return
            text = "no file descriptor is left: new connections are closed; raise LimitNOFILE or ulimit -n"
            self._fault_counters.record("accept_failed", text)
            for each in self._both:
                each.close_unclaimed()


def _open_probe() -> int:
    """Return the lowest descriptor that is free: all below it are in use; raises OSError when there is none."""
    probe = os.open(os.devnull, os.O_RDONLY)
    os.close(probe)
    return probe
