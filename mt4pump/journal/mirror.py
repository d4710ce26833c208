"""The mirror of open orders: what a daemon that starts anew compares the server's table with."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from mt4pump.journal.schema import write_meta
from mt4pump.journal.statements import DROP_ORDERS, PUT_ORDERS


class Mirror:
    """Open orders of one ``identity``; ``present`` tells whether they were ever stored.

    All happens in the caller's transaction. The orders of another identity stay in the file until ours are stored.
    """

    def __init__(self, connection: sqlite3.Connection, identity: str, stored_identity: str, *, stored: bool) -> None:
        self.present = stored and stored_identity == identity
        self._connection = connection
        self._identity = identity

    def rows(self) -> dict[int, bytes]:
        """Return ticket → row of all open orders; none when they are another identity's."""
        return dict(self._connection.execute('SELECT ticket, "row" FROM orders')) if self.present else {}

    def change(self, orders: Mapping[int, bytes | None]) -> None:
        """Store changed rows, drop ended orders (None); the first change of a new identity begins from nothing."""
        if not self.present:
            self._connection.execute("DELETE FROM orders")
            write_meta(self._connection, {"identity": self._identity, "mirror": 1})
        execute = self._connection.execute
        # By ticket: neighbours share a page, and every page touched is written whole.
        kept = [part for ticket, row in sorted(orders.items()) if row is not None for part in (ticket, row)]
        for sql, values in PUT_ORDERS.over(kept):
            execute(sql, values)
        if 2 * len(orders) != len(kept):
            for sql, values in DROP_ORDERS.over([ticket for ticket, row in orders.items() if row is None]):
                execute(sql, values)

    def replace(self, orders: Mapping[int, bytes]) -> None:
        """Store all orders anew."""
        self.present = False
        self.change(orders)
