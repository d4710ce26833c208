"""The open orders: what a daemon compares with the server's table at its start.

Their rows are the bodies of events, which are in the file anyway. So a commit does not write them, which would cost
more than the events: changes are ``pending``, and those that a crash leaves pending are read from the events.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from itertools import islice
from typing import Any

from mt4pump.journal.schema import DROP_ORDERS, PUT_ORDERS, write_meta

NEVER = 2**63 - 1


class OpenOrders:
    """Open orders of one ``identity``; ``present``: whether they are stored, maybe none; ``is_complete``: whether all.

    ``pending`` are the orders that changed (None: ended) since the table was last complete; a table of very many is
    written in parts, in several transactions of the caller. Those of another identity stay until ours are stored.
    """

    def __init__(self, connection: sqlite3.Connection, identity: str, meta: Mapping[str, Any]) -> None:
        self.present = self.is_complete = bool(meta["mirror"]) and str(meta["identity"]) == identity
        self._connection = connection
        self._identity = identity
        self._complete_at = int(meta["mirror_at"])
        self.pending: dict[int, bytes | None] = self._read_pending() if self.present else {}

    @property
    def needs_from(self) -> int:
        """Return the first offset whose event is still needed to complete the table."""
        return self._complete_at + 1 if self.present and self.pending else NEVER

    def rows(self) -> dict[int, bytes]:
        """Return ticket → row of all open orders; none when they are another identity's."""
        if not self.present:
            return {}
        rows: dict[int, bytes | None] = dict(self._connection.execute('SELECT ticket, "row" FROM orders'))
        return {ticket: row for ticket, row in (rows | self.pending).items() if row is not None}

    def change(self, orders: Mapping[int, bytes | None]) -> None:
        """Note changed rows and ended orders (None); the first change of a new identity starts from none."""
        if not self.present:
            self._connection.execute("DELETE FROM orders")
            write_meta(self._connection, {"identity": self._identity, "mirror": 0})  # until the table is complete
            self.pending.clear()
            self.present, self.is_complete = True, False
        self.pending.update(orders)

    def replace(self, orders: Mapping[int, bytes]) -> None:
        """Note all orders anew. Until they are written the old ones stay: a crash meanwhile loses no order."""
        if self.present:
            known = (ticket for (ticket,) in self._connection.execute("SELECT ticket FROM orders"))
            self.pending = {ticket: None for ticket in known if ticket not in orders}
        self.change(orders)

    def write(self, last: int, limit: int | None) -> int:
        """Write up to ``limit`` pending orders and return how many; ``last`` is the last event that they include."""
        part = dict(islice(self.pending.items(), limit))
        # By ticket: neighbours share a page, and every page touched is written whole.
        kept = [value for ticket, row in sorted(part.items()) if row is not None for value in (ticket, row)]
        for sql, values in PUT_ORDERS.over(kept):
            self._connection.execute(sql, values)
        for sql, values in DROP_ORDERS.over([ticket for ticket, row in part.items() if row is None]):
            self._connection.execute(sql, values)
        for ticket in part:
            del self.pending[ticket]
        if not self.pending:
            write_meta(self._connection, {"mirror_at": last} | ({"mirror": 1} if self.present else {}))
            self._complete_at, self.is_complete = last, self.present
        return len(part)

    def _read_pending(self) -> dict[int, bytes | None]:
        """Return what events changed after the table was last complete."""
        rows = self._connection.execute(
            'SELECT ticket, body FROM events WHERE "offset" > ? AND ticket != 0 ORDER BY "offset"', (self._complete_at,)
        )
        return {abs(ticket): body if ticket > 0 else None for ticket, body in rows}
