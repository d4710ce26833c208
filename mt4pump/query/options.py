"""How the query endpoint behaves: its sizes and times."""

from __future__ import annotations

from dataclasses import dataclass, field

from mt4pump.publishing.binding import SocketOptions


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """Bounds of the query endpoint. A peer that never reads holds at most ``sndhwm`` replies of ``page_bytes``.

    ``page_rows`` is the page of a request without ``limit``, ``limit_rows`` the greatest ``limit``. A page ends when
    it has its rows, when it is over ``page_bytes``, or after ``page_s`` of work; the journal is read ``slice_rows`` at
    a time. ``work_s`` and ``rest_s`` are how long the query thread works before it leaves the interpreter to others,
    and for how long. ``cut_wait_s`` is how long the pump may take to cut its state. At most ``cuts_held`` cuts are
    held: for ``cut_idle_s`` after they were last read, or ``cut_evictable_s`` when there is no room for another one.
    ``transport`` gives heartbeat, keep-alive, IPv6 and linger; its ``sndhwm`` is the publisher's and not used here.
    """

    sndhwm: int = 16
    rcvhwm: int = 16
    max_request_bytes: int = 65_536
    max_prefixes: int = 256
    page_rows: int = 1_000
    limit_rows: int = 10_000
    page_bytes: int = 2**20
    page_s: float = 0.05
    slice_rows: int = 500
    work_s: float = 0.0002
    rest_s: float = 0.005
    cut_wait_s: float = 2.0
    cuts_held: int = 8
    cut_idle_s: float = 30.0
    cut_evictable_s: float = 5.0
    transport: SocketOptions = field(default_factory=SocketOptions)
