"""The mirror of open orders: what a daemon that starts anew compares the server's table with.

Its rows are the bodies of events, which are in the file anyway. So a commit does not touch the mirror, which would cost
it more than the events: changes wait in ``behind``, and those that a crash leaves there are read from the events.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from mt4pump.journal.schema import DROP_ORDERS, PUT_ORDERS, write_meta


class OpenOrders:
    """Open orders of one ``identity``; ``present`` tells whether they were ever stored.

    ``behind`` are the orders that events changed (None: ended) since the mirror was last written. All writing happens
    in the caller's transaction. The orders of another identity stay in the file until ours are stored.
    """

    def __init__(self, connection: sqlite3.Connection, identity: str, marks: Mapping[str, Any]) -> None:
        self.present = bool(marks["mirror"]) and str(marks["identity"]) == identity
        self._connection = connection
        self._identity = identity
        self._at = int(marks["mirror_at"])
        self.behind: dict[int, bytes | None] = self._missed() if self.present else {}

    @property
    def needs_from(self) -> int:
        """Return the first offset whose event the mirror still needs."""
        return self._at + 1 if self.present and self.behind else 2**63 - 1

    def rows(self) -> dict[int, bytes]:
        """Return ticket → row of all open orders; none when they are another identity's."""
        if not self.present:
            return {}
        rows: dict[int, bytes | None] = dict(self._connection.execute('SELECT ticket, "row" FROM orders'))
        return {ticket: row for ticket, row in (rows | self.behind).items() if row is not None}

    def change(self, orders: Mapping[int, bytes | None], last: int) -> None:
        """Store changed rows, drop ended orders (None); the first change of a new identity begins from nothing.

        ``last`` is the offset of the last event that they know of.
        """
        if not self.present:
            self._connection.execute("DELETE FROM orders")
            self.behind.clear()
            write_meta(self._connection, {"identity": self._identity, "mirror": 1})
        self.behind.update(orders)
        self.catch_up(last)

    def catch_up(self, last: int) -> None:
        """Write what waits in ``behind``."""
        orders, execute = self.behind, self._connection.execute
        # By ticket: neighbours share a page, and every page touched is written whole.
        kept = [part for ticket, row in sorted(orders.items()) if row is not None for part in (ticket, row)]
        for sql, values in PUT_ORDERS.over(kept):
            execute(sql, values)
        if 2 * len(orders) != len(kept):
            for sql, values in DROP_ORDERS.over([ticket for ticket, row in orders.items() if row is None]):
                execute(sql, values)
        write_meta(self._connection, {"mirror_at": last})
        self._at = last
        self.behind.clear()

    def replace(self, orders: Mapping[int, bytes], last: int) -> None:
        """Store all orders anew."""
        self.present = False
        self.change(orders, last)

    def _missed(self) -> dict[int, bytes | None]:
        """Return what events changed that the mirror had not caught up with when the last life of the file ended."""
        rows = self._connection.execute(
            'SELECT ticket, body FROM events WHERE "offset" > ? AND ticket != 0 ORDER BY "offset"', (self._at,)
        )
        return {abs(ticket): body if ticket > 0 else None for ticket, body in rows}
