"""How the query endpoint behaves: its sizes and times."""

from __future__ import annotations

from dataclasses import dataclass, field

from mt4pump.publishing.binding import SocketOptions


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """Bounds of the query endpoint.

    Pages: ``page_rows`` is the page of a request without ``limit``, ``limit_rows`` the greatest ``limit``. A page ends
    when it has its rows, when it is over ``page_bytes``, or after ``page_s`` of work; the journal is read
    ``slice_rows`` at a time. ``work_s`` and ``rest_s`` are how long the query thread works before it leaves the
    interpreter to others, and for how long; under a flood it rests ``flood_rests`` times as long as it worked.

    Snapshots: ``cut_wait_s`` is how long the pump may take to cut its state. At most ``cuts_held`` cuts are held, and
    fewer of one client or connection: for ``cut_idle_s`` after they were last read. Where there is no room for
    another one they are held ``cut_evictable_s`` after they were last read, and no longer than ``cut_old_s``.

    Waiting requests: ``waiting_limit`` of one connection, and bytes of one and of all; none waits longer than
    ``waiting_s``. Replies that are not read: of a connection one page or ``unread_bytes_short`` of others, and bounds
    per client and in all; a connection that reads nothing of them for ``unread_s`` is closed.

    Connections: those idle for longest are closed above ``connections_limit`` and ``connections_per_client``, any that
    asks nothing for ``silent_s``, and any that sends more than ``incomplete_bytes`` without the end of a message.

    ``transport`` gives heartbeat, keep-alive, IPv6 and linger; its ``sndhwm`` is the publisher's and not used here.
    """

    sndhwm: int = 16
    rcvhwm: int = 8
    max_request_bytes: int = 65_536
    max_prefixes: int = 256
    page_rows: int = 1_000
    limit_rows: int = 10_000
    page_bytes: int = 2**20
    page_s: float = 0.05
    slice_rows: int = 500
    work_s: float = 0.0002
    rest_s: float = 0.005
    flood_rests: float = 0.5
    cut_wait_s: float = 2.0
    cuts_held: int = 8
    cuts_per_client: int = 4
    cuts_per_connection: int = 2
    cut_idle_s: float = 30.0
    cut_evictable_s: float = 2.0
    cut_old_s: float = 15.0
    waiting_limit: int = 128
    waiting_bytes: int = 2**18
    waiting_bytes_total: int = 2**23
    waiting_s: float = 5.0
    unread_bytes_short: int = 2**18
    unread_bytes_per_client: int = 2**24
    unread_bytes: int = 2**26
    unread_s: float = 30.0
    connections_limit: int = 512
    connections_per_client: int = 256
    silent_s: float = 10.0
    incomplete_bytes: int = 2**22
    transport: SocketOptions = field(default_factory=SocketOptions)
